import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { darkChartPath, writeChart } from './chart.js';
import { findRow, medianOf, readNewestResults } from './results.js';

t.test('writeChart() tells one message, with a value at each mark, for light and dark pages', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'twill-chart-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const { results } = readNewestResults()!;
  const path = join(folder, 'chart.svg');
  await writeChart(results, path);
  const [light, dark] = [path, darkChartPath(path)].map((file) => readFileSync(file, 'utf8'));
  const ours = medianOf(findRow(results, 'peers', 'twill', 'TCP 1 stream'));
  for (const svg of [light, dark]) {
    t.match(svg, /One TCP stream through userspace UDP: \d+ × /);
    t.ok(svg.includes(`>${ours.toFixed(ours >= 10 ? 1 : 2)}<`), 'the value is written');
    t.notMatch(svg, /\de\+\d/, 'no exponents at the axes');
  }
  t.not(light, dark);
});
