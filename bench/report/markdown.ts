// The tables that README.md and docs/performance.md show, between <!-- bench:NAME --> and <!-- /bench:NAME -->.

import { median } from '../../test/support/measure.js';
import type { Row, SuiteResult } from '../suite.js';
import { describeChart } from './chart.js';
import { findRow, medianOf, type Results } from './results.js';
import { ENGINE, isMet, TARGETS } from './targets.js';
import { markdownTable, shownNumber } from './words.js';

const range = (values: readonly number[]): string =>
  `${shownNumber(median(values))} (${shownNumber(Math.min(...values))}–${shownNumber(Math.max(...values))})`;

function cell(row: Row | undefined): string {
  return row === undefined ? '–' : range(row.samples);
}

function cost(row: Row | undefined): string {
  if (row === undefined || row.cores.length === 0) return '–';
  return `${median(row.cores).toFixed(2)} / ${shownNumber(median(row.nsPerPacket))}`;
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
    const rows = peers
      .filter((peer) => shown.some((metric) => find(peer, metric) !== undefined))
      .map((peer) => [
        peer,
        ...shown.map((metric) => cell(find(peer, metric))),
        ...(hasCost ? [cost(find(peer, shown[0]))] : []),
      ]);
    parts.push(markdownTable(['peer', ...heading, ...(hasCost ? ['cores / ns a packet'] : [])], rows));
  }
  const missing = suite.missing.map(({ name, why }) => `${name} is missing: ${why}.`);
  const lane = suite.lanes['twill'];
  const chosen = lane === undefined ? [] : [`The lane of \`twill\`, as it chose: \`${lane}\`.`];
  return [...parts, ...chosen, ...shareTable(suite), ...missing].join('\n\n');
}

/** What the lane carried, of each workload whose peers have one. */
function shareTable({ rows, lanes }: SuiteResult): string[] {
  const withLane = Object.keys(lanes).filter((peer) => lanes[peer] !== 'off');
  const shares = rows.filter((row) => withLane.includes(row.peer) && row.laneShare.length > 0);
  if (shares.length === 0) return [];
  const percent = (row: Row | undefined): string =>
    row === undefined ? '–' : (median(row.laneShare) * 100).toFixed(1);
  const cells = unique(shares.map(({ metric }) => metric)).map((metric) => [
    metric,
    ...withLane.map((peer) => percent(shares.find((row) => row.peer === peer && row.metric === metric))),
  ]);
  return [markdownTable(['packets that the lane carried, %', ...withLane], cells)];
}

/** How a suite was run. */
function paceLine({ rounds, pace, idleCores }: SuiteResult): string {
  const { tcpSeconds, tcpSkipSeconds } = pace;
  const skip = tcpSkipSeconds === 0 ? '' : ` after ${tcpSkipSeconds} s that do not count`;
  const idle = `All peers up and idle took ${idleCores.toFixed(2)} cores.`;
  return `${rounds} interleaved rounds, TCP runs of ${tcpSeconds} s${skip}; medians (lowest–highest). ${idle}`;
}

/** The notes, those of the load at the start of each piece of a run in one. */
function withOneLoad(notes: readonly string[]): string[] {
  const loads = notes.flatMap((note) => /^load average ([\d.]+) at the start$/.exec(note)?.[1] ?? []);
  const others = notes.filter((note) => !note.startsWith('load average '));
  if (loads.length < 2) return [...notes];
  const sorted = loads.map(Number).sort((a, b) => a - b);
  return [...others, `load average ${sorted[0]} to ${sorted[sorted.length - 1]} at the start of each piece`];
}

function machineLine({ machine, date, notes }: Results): string {
  const programs = Object.entries(machine.programs).map(([name, version]) => `${name} ${version}`);
  return [
    `${date.slice(0, 10)}, ${machine.cores} × ${machine.cpu}, Linux ${machine.kernel}, ${machine.system}, ` +
      `Node ${machine.node}, twill ${machine.twill} at ${machine.commit}; ${programs.join(', ')}. ` +
      'Both hosts on the same cores.',
    ...withOneLoad(notes).map((note) => `${note[0].toUpperCase()}${note.slice(1).replace(/\.$/, '')}.`),
  ].join(' ');
}

function targetTable(results: Results): string {
  const rows = TARGETS.map((target) => {
    const value = target.value(results);
    const met = isMet(target, value);
    const shown = (measured: number): string =>
      Number.isNaN(measured) ? '–' : `${shownNumber(measured)} ${target.unit}`.trim();
    return [
      target.what,
      `${target.better === 'more' ? '≥' : '≤'} ${target.limit} ${target.unit}`.trim(),
      shown(value),
      met === undefined ? 'not measured' : met ? 'yes' : 'no',
      shown(target.engine?.(results) ?? NaN),
    ];
  });
  return markdownTable(['what', 'target', 'measured', 'met', `with \`--lane=off\``], rows);
}

/** The chart, in the colours of the reader's page. */
function picture(results: Results, chart: ChartPaths): string {
  return [
    '<picture>',
    `  <source media="(prefers-color-scheme: dark)" srcset="${chart.dark}">`,
    `  <img alt="${describeChart(results)}" src="${chart.light}">`,
    '</picture>',
  ].join('\n');
}

/** Where the pictures lie, as seen from the page. */
export interface ChartPaths {
  readonly light: string;
  readonly dark: string;
}

/** docs/performance.md: everything. */
export function fullReport(results: Results, chart: ChartPaths): string {
  const parts = [machineLine(results), picture(results, chart), '### Targets', targetTable(results)];
  for (const suite of results.suites) {
    parts.push(`### ${suite.title[0].toUpperCase()}${suite.title.slice(1)}`);
    parts.push(paceLine(suite), suiteTables(suite));
  }
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
    `After ${seconds} s: ${shownNumber(residentMb)} MB resident, ${workerCollections} garbage collections in the ` +
    `workers. CPU samples of the process: ${where}.`
  );
}

const README_PEERS = [
  { peer: 'twill', name: '**twill**' },
  { peer: ENGINE, name: 'twill, kernels before 6.6' },
  { peer: 'kernel vxlan', name: 'kernel vxlan' },
  { peer: 'flanneld udp', name: 'flanneld udp' },
  { peer: 'plain packet loop', name: 'plain packet loop' },
] as const;

interface Column {
  readonly heading: string;
  /** Medians side by side in a cell. */
  readonly sides: readonly (readonly [suite: string, metric: string])[];
}

const README_COLUMNS: readonly Column[] = [
  {
    heading: 'TCP, 1 / 4 streams, Gbit/s',
    sides: [
      ['peers', 'TCP 1 stream, Cubic'],
      ['peers', 'TCP 4 streams, Cubic'],
    ],
  },
  {
    heading: 'the same, uplink without tunnel offload',
    sides: [
      ['uplink', 'TCP 1 stream, Cubic'],
      ['uplink', 'TCP 4 streams, Cubic'],
    ],
  },
  {
    heading: 'round trip, p50 / p99, µs',
    sides: [
      ['peers', 'round trip idle p50'],
      ['peers', 'round trip idle p99'],
    ],
  },
  {
    heading: 'beside a stream',
    sides: [
      ['peers', 'round trip beside bulk p50, Cubic'],
      ['peers', 'round trip beside bulk p99, Cubic'],
    ],
  },
  { heading: 'connections/s', sides: [['peers', 'connections']] },
  { heading: 'UDP 64 B, kpps', sides: [['peers', 'UDP 64 B, many flows']] },
];

/** README.md: the picture and the table that say it all. */
export function shortReport(results: Results, chart: ChartPaths): string {
  const rows = README_PEERS.map(({ peer, name }) => [
    name,
    ...README_COLUMNS.map(({ sides }) => {
      const values = sides.map(([suite, metric]) => medianOf(findRow(results, suite, peer, metric)));
      return values.every(Number.isNaN) ? '–' : values.map(shownNumber).join(' / ');
    }),
  ]).filter((cells) => cells.slice(1).some((one) => one !== '–'));
  const table = markdownTable(['', ...README_COLUMNS.map(({ heading }) => heading)], rows);
  return [picture(results, chart), table, machineLine(results)].join('\n\n');
}

/** `page` with a report between its two marks; `file` names it in the error when they are missing. */
export function replaceBetweenMarks(file: string, page: string, name: string, text: string): string {
  const marks = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
  const [start, end] = marks.map((mark) => page.indexOf(mark));
  if (start < 0 || end < start) throw new Error(`${file}: expected the marks ${marks.join(' and ')}`);
  return `${page.slice(0, start + marks[0].length)}\n\n${text}\n\n${page.slice(end)}`;
}
