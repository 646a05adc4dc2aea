// Question: what do containers get through twill, next to the other ways on this machine?
//
// `npm run bench` runs every suite of suites.ts and a minute of steady traffic, keeps the results as
// bench/results/<date>-<cpu>.json, and writes the chart and the tables of README.md and docs/performance.md from them.
// `--rounds=N` (default 5), `--seconds=N` of a TCP run (default 3), `--only=peers,churn` for some suites: then, and
// with `--dry-run`, the figures are only shown. `npm run bench -- report` writes chart and tables from what is kept.
// Nothing else may run on the machine meanwhile.

import { relative } from 'node:path';
import { Churn } from './churn.js';
import { LAB_PROGRAMS, PROJECT_ROOT } from '../test/support/lab.js';
import { formatTable, median } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { numberOption, textOption } from './options.js';
import { writeChart } from './report/chart.js';
import { fullReport, replaceBetweenMarks, shortReport } from './report/markdown.js';
import { describeMachine, readNewestResults, type Results, writeResults } from './report/results.js';
import { isMet, TARGETS } from './report/targets.js';
import { measureSteady } from './steady.js';
import { runSuite, type SuiteResult } from './suite.js';
import { makeSuites } from './suites.js';

const STEADY_SECONDS = 60;

function show({ title, rows }: SuiteResult): void {
  const cells = rows.map((row) => [
    row.metric,
    row.peer,
    median(row.samples).toFixed(2),
    `${Math.min(...row.samples).toFixed(2)}–${Math.max(...row.samples).toFixed(2)}`,
    row.unit,
    row.cores.length === 0 ? '' : median(row.cores).toFixed(2),
    row.nsPerPacket.length === 0 ? '' : median(row.nsPerPacket).toFixed(0),
  ]);
  console.log(`\n# ${title}`);
  console.log(formatTable([['metric', 'peer', 'median', 'range', 'unit', 'cores', 'ns/packet'], ...cells]));
}

/** Chart and tables from results. */
async function publish(path: string, results: Results): Promise<void> {
  const chart = path.replace(/\.json$/, '.svg');
  await writeChart(results, chart);
  const from = relative(PROJECT_ROOT, chart);
  replaceBetweenMarks('README.md', 'peers', shortReport(results, from));
  replaceBetweenMarks('docs/performance.md', 'all', fullReport(results, `../${from}`));
}

/** Writes chart and tables from the newest results that are kept. */
export async function report(): Promise<void> {
  const newest = readNewestResults();
  if (newest === undefined) throw new Error('bench/results holds no results: run `npm run bench` first');
  await publish(newest.path, newest.results);
}

export async function compare(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  ensurePackages([...LAB_PROGRAMS, ...Churn.programs, 'ethtool', 'fastd', 'wireguard-go', 'wg']);
  const rounds = numberOption('rounds', 5);
  const seconds = numberOption('seconds', 3);
  const wanted = textOption('only')?.split(',');
  const known = [...makeSuites().map(({ name }) => name), 'steady'];
  const strange = wanted?.find((name) => !known.includes(name));
  if (strange !== undefined)
    throw new Error(`--only names "${strange}": expected some of ${known.join(', ')}`);

  const isWanted = (name: string): boolean => wanted?.includes(name) ?? true;
  const say = (text: string): void => console.error(text);
  // What is measured is what was there at the start.
  const machine = describeMachine();
  const date = new Date().toISOString();
  const suites: SuiteResult[] = [];
  for (const suite of makeSuites().filter(({ name }) => isWanted(name))) {
    suites.push(await runSuite(suite, { rounds, seconds, say }));
    show(suites.at(-1)!);
  }
  const steady = isWanted('steady') ? await measureSteady(STEADY_SECONDS) : undefined;
  if (steady !== undefined) console.log(steady);
  const results: Results = {
    date,
    machine,
    rounds,
    seconds,
    suites,
    ...(steady === undefined ? {} : { steady }),
  };
  console.log('');
  for (const target of TARGETS) {
    const value = target.value(results);
    const met = isMet(target, value);
    if (met === undefined) continue;
    console.log(
      `${met ? 'met    ' : 'NOT MET'}  ${target.what}: ${value.toFixed(2)} ${target.unit} (${target.limit})`,
    );
  }
  if (wanted !== undefined || process.argv.includes('--dry-run')) return;
  const path = writeResults(results);
  await publish(path, results);
  console.log(`\nwritten: ${relative(PROJECT_ROOT, path)}, its chart, README.md and docs/performance.md`);
}
