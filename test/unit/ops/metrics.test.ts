import { spawnSync } from 'node:child_process';
import t from 'tap';
import { Metrics } from '../../../src/ops/metrics.js';
import type { MetricFamily } from '../../../src/core/metric.js';

const counter = (name: string, kind: string, value: number): MetricFamily => ({
  name,
  help: `About ${name}.`,
  type: 'counter',
  values: [{ labels: { kind }, value }],
});

void t.test('Metrics.render() joins families of one name and prefixes all', async (t) => {
  let packets = 5;
  const metrics = new Metrics({
    families: () => [
      counter('drops_total', 'a', 1),
      counter('packets_total', 'out', packets),
      counter('drops_total', 'b', 2),
      { name: 'ready', help: 'Ready.', type: 'gauge', values: [{ labels: {}, value: 1 }] },
      { name: 'silent', help: 'Nothing to say.', type: 'gauge', values: [] },
    ],
    version: '1.2.3',
  });
  const { contentType, body } = await metrics.render();
  t.match(contentType, /^text\/plain; version=0\.0\.4/);
  const lines = body.split('\n');
  t.equal(lines.filter((line) => line === '# TYPE twill_drops_total counter').length, 1);
  for (const line of [
    '# HELP twill_drops_total About drops_total.',
    'twill_drops_total{kind="a"} 1',
    'twill_drops_total{kind="b"} 2',
    'twill_packets_total{kind="out"} 5',
    '# TYPE twill_ready gauge',
    'twill_ready 1',
    'twill_build_info{version="1.2.3"} 1',
  ])
    t.ok(lines.includes(line), line);
  t.notMatch(body, /twill_silent/);
  t.match(body, /^process_cpu_seconds_total /m);
  packets = 6;
  t.match((await metrics.render()).body, /^twill_packets_total\{kind="out"\} 6$/m, 'read at each scrape');
  for (const line of body.split('\n')) t.match(line, /^(#.*|[a-z_][a-z0-9_]*(\{.*\})? \S+)?$/, 'text format');
});

const promtool = spawnSync('promtool', ['--version'], { stdio: 'ignore' });

void t.test(
  'promtool finds nothing to say about the metrics of the process',
  { skip: promtool.error === undefined ? false : 'needs promtool' },
  async (t) => {
    const metrics = new Metrics({
      families: () => [counter('drops_total', 'a', 1)],
      version: '1.2.3',
    });
    const { body } = await metrics.render();
    const found = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' });
    t.equal(found.stdout + found.stderr, '');
    t.equal(found.status, 0);
  },
);
