// The tables that README.md and docs/performance.md show, between <!-- bench:NAME --> and <!-- /bench:NAME -->.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../test/support/lab.js';
import { median } from '../../test/support/measure.js';
import type { Row, SuiteResult } from '../suite.js';
import { darkChartPath } from './chart.js';
import { type Results, findRow, medianOf } from './results.js';
import { isMet, TARGETS } from './targets.js';

function number(value: number): string {
  if (Number.isNaN(value)) return '–';
  if (value >= 100) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
}

function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(heading), line(heading.map((_, i) => (i === 0 ? '---' : '--:'))), ...rows.map(line)].join(
    '\n',
  );
}

const range = (values: readonly number[]): string =>
  `${number(median(values))} (${number(Math.min(...values))}–${number(Math.max(...values))})`;

function cell(row: Row | undefined): string {
  return row === undefined ? '–' : range(row.samples);
}

function cost(row: Row | undefined): string {
  if (row === undefined || row.cores.length === 0) return '–';
  return `${median(row.cores).toFixed(2)} / ${number(median(row.nsPerPacket))}`;
}

const unique = (values: readonly string[]): string[] => [...new Set(values)];

/** All metrics of a suite, a peer in each row; several tables when there are many metrics. */
function suiteTables(suite: SuiteResult): string {
  const metrics = unique(suite.rows.map((row) => row.metric));
  const peers = unique(suite.rows.map((row) => row.peer));
  const find = (peer: string, metric: string): Row | undefined =>
    suite.rows.find((row) => row.peer === peer && row.metric === metric);
  const parts: string[] = [];
  for (let i = 0; i < metrics.length; i += 5) {
    const shown = metrics.slice(i, i + 5);
    const heading = shown.map(
      (metric) => `${metric}, ${suite.rows.find((row) => row.metric === metric)!.unit}`,
    );
    const hasCost = i === 0 && suite.rows.some((row) => row.cores.length > 0);
    const rows = peers.map((peer) => [
      peer,
      ...shown.map((metric) => cell(find(peer, metric))),
      ...(hasCost ? [cost(find(peer, shown[0]))] : []),
    ]);
    parts.push(table(['peer', ...heading, ...(hasCost ? ['cores / ns a packet'] : [])], rows));
  }
  const missing = suite.missing.map(({ name, why }) => `${name} is missing: ${why}.`);
  return [...parts, ...missing].join('\n\n');
}

function machineLine({ machine, date, rounds, seconds }: Results): string {
  const programs = Object.entries(machine.programs).map(([name, version]) => `${name} ${version}`);
  return (
    `${date.slice(0, 10)}, ${machine.cores} × ${machine.cpu}, Linux ${machine.kernel}, ${machine.system}, ` +
    `Node ${machine.node}, twill ${machine.twill} at ${machine.commit}; ${programs.join(', ')}; ` +
    `TCP ${machine.congestionControl}. Both hosts on the same cores; ${rounds} interleaved rounds, ` +
    `TCP runs of ${seconds} s; medians (lowest–highest).`
  );
}

function targetTable(results: Results): string {
  const rows = TARGETS.map((target) => {
    const value = target.value(results);
    const met = isMet(target, value);
    const bound = `${target.better === 'more' ? '≥' : '≤'} ${target.limit} ${target.unit}`.trim();
    return [
      target.what,
      bound,
      Number.isNaN(value) ? 'not measured' : `${number(value)} ${target.unit}`.trim(),
      met === undefined ? '–' : met ? 'yes' : 'no',
    ];
  });
  return table(['what', 'target', 'measured', 'met'], rows);
}

/** The chart, in the colours of the reader's page. */
function picture(chart: string): string {
  return [
    '<picture>',
    `  <source media="(prefers-color-scheme: dark)" srcset="${darkChartPath(chart)}">`,
    `  <img alt="Throughput by peer" src="${chart}">`,
    '</picture>',
  ].join('\n');
}

/** docs/performance.md: everything. */
export function fullReport(results: Results, chart: string): string {
  const parts = [machineLine(results), picture(chart), '### Targets', targetTable(results)];
  for (const suite of results.suites)
    parts.push(`### ${suite.title[0].toUpperCase()}${suite.title.slice(1)}`, suiteTables(suite));
  if (results.steady !== undefined) parts.push('### A minute of steady traffic', steadyText(results));
  return parts.join('\n\n');
}

function steadyText({ steady }: Results): string {
  const { seconds, residentMb, workerCollections, samples } = steady!;
  const shares = Object.entries(samples ?? {})
    .filter(([, share]) => share >= 0.001)
    .sort((a, b) => b[1] - a[1])
    .map(([name, share]) => `${name} ${(share * 100).toFixed(1)} %`);
  const where = shares.length === 0 ? 'perf is not installed' : shares.join(', ');
  return (
    `After ${seconds} s: ${number(residentMb)} MB resident, ${workerCollections} garbage collections in the workers. ` +
    `CPU samples of the process: ${where}.`
  );
}

const README_METRICS = [
  'TCP 1 stream',
  'TCP 4 streams',
  'UDP 64 B, many flows',
  'round trip idle p50',
] as const;

/** README.md: the table that says it all. */
export function shortReport(results: Results, chart: string): string {
  const suite = results.suites.find((one) => one.suite === 'peers');
  const peers = unique(suite?.rows.map((row) => row.peer) ?? []);
  const off = (peer: string): string => number(medianOf(findRow(results, 'segmented', peer, 'TCP 1 stream')));
  const rows = peers.map((peer) => [
    peer,
    ...README_METRICS.map((metric) => number(medianOf(findRow(results, 'peers', peer, metric)))),
    off(peer),
  ]);
  const heading = [
    'peer',
    'TCP, Gbit/s',
    '4 streams',
    'UDP 64 B, kpps',
    'round trip, µs',
    'TCP, veth offloads off',
  ];
  return [picture(chart), table(heading, rows), machineLine(results)].join('\n\n');
}

/** Puts a report between its two marks. */
export function replaceBetweenMarks(file: string, name: string, text: string): void {
  const path = join(PROJECT_ROOT, file);
  const before = readFileSync(path, 'utf8');
  const marks = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
  const [start, end] = marks.map((mark) => before.indexOf(mark));
  if (start < 0 || end < start) throw new Error(`${file}: expected the marks ${marks.join(' and ')}`);
  const after = `${before.slice(0, start + marks[0].length)}\n\n${text}\n\n${before.slice(end)}`;
  if (after !== before) writeFileSync(path, after);
}
