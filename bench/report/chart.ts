// The charts of a run as SVG, by Vega-Lite: what a user without kernel modules gains, told once in bold. Userspace
// peers are bars with their values; what the kernel reaches by itself is a row of grey marks, for scale. Each panel has
// the same size and the same rows; one file for light pages, one for dark ones.

import { writeFileSync } from 'node:fs';
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import { type Results, findRow, medianOf } from './results.js';

const PANELS = [
  { suite: 'peers', metric: 'TCP 1 stream', title: 'TCP, one stream', unit: 'Gbit/s' },
  { suite: 'peers', metric: 'TCP 4 streams', title: 'TCP, four streams', unit: 'Gbit/s' },
  { suite: 'segmented', metric: 'TCP 1 stream', title: 'TCP, veth offloads off', unit: 'Gbit/s' },
  { suite: 'peers', metric: 'UDP 64 B, many flows', title: 'UDP 64 B, loss ≤ 0.5 %', unit: 'kpps' },
  { suite: 'peers', metric: 'UDP 1400 B, many flows', title: 'UDP 1400 B, loss ≤ 0.5 %', unit: 'kpps' },
  { suite: 'peers', metric: 'round trip idle p50', title: 'round trip, idle (less is better)', unit: 'µs' },
] as const;

/** Peers whose packets a process carries, ours first; all others are the kernel's. */
const USERSPACE = [
  'twill',
  'flanneld',
  'plain packet loop',
  'fastd, method null',
  'wireguard-go',
  'twill --offload=off',
];

/** How each theme is drawn; no background, so that the page shows through. */
const THEMES = {
  light: {
    text: '#1f2328',
    muted: '#6e7781',
    grid: '#d0d7de',
    ours: '#d9480f',
    loop: '#57606a',
    other: '#afb8c1',
  },
  dark: {
    text: '#e6edf3',
    muted: '#8d96a0',
    grid: '#30363d',
    ours: '#ff8a4c',
    loop: '#9198a1',
    other: '#484f58',
  },
} as const;
type Theme = keyof typeof THEMES;

/** `path` of the chart for dark pages. */
export function darkChartPath(path: string): string {
  return path.replace(/\.svg$/, '-dark.svg');
}

/** The message: how many times the next best way without the kernel. The real flanneld where it was measured. */
function headline(results: Results): string {
  const value = (peer: string): number => medianOf(findRow(results, 'peers', peer, 'TCP 1 stream'));
  const flanneld = value('flanneld');
  const [name, theirs] = Number.isNaN(flanneld)
    ? ['a plain packet loop', value('plain packet loop')]
    : ['flanneld', flanneld];
  return `One TCP stream through userspace UDP: ${(value('twill') / theirs).toFixed(0)} × ${name}`;
}

const shown = (value: number): string => value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);

function panel(
  results: Results,
  { suite, metric, title, unit }: (typeof PANELS)[number],
  theme: Theme,
): object {
  const colours = THEMES[theme];
  const measured = [
    ...new Set(results.suites.find((one) => one.suite === 'peers')?.rows.map((row) => row.peer)),
  ];
  const bars = USERSPACE.filter((peer) => measured.includes(peer));
  const order = [...bars, ...measured.filter((peer) => !bars.includes(peer))];
  const values = order.flatMap((peer) => {
    const row = findRow(results, suite, peer, metric);
    if (row === undefined) return [];
    const value = medianOf(row);
    const kind = !bars.includes(peer)
      ? 'kernel'
      : peer === 'twill'
        ? 'ours'
        : peer === bars[1]
          ? 'loop'
          : 'other';
    return [{ peer, value, label: shown(value), kind }];
  });
  const y = {
    field: 'peer',
    type: 'nominal',
    sort: order,
    scale: { domain: order },
    title: null,
    axis: { labelLimit: 220 },
  };
  const top = 1.25 * Math.max(...values.map(({ value }) => value)); // room for the value beside the longest bar
  const x = {
    field: 'value',
    type: 'quantitative',
    title: null,
    scale: { domain: [0, top], nice: false },
    axis: { tickCount: 4, grid: true, format: '~r' },
  };
  const domain = ['ours', 'loop', 'other', 'kernel'];
  const range = [colours.ours, colours.loop, colours.other, colours.muted];
  const color = { field: 'kind', type: 'nominal', legend: null, scale: { domain, range } };
  const label = (filter: string, weight: string, tone: string): object => ({
    transform: [{ filter }],
    mark: { type: 'text', align: 'left', dx: 7, fontWeight: weight, fontSize: 11, color: tone },
    encoding: { x, y, text: { field: 'label', type: 'nominal' } },
  });
  return {
    title: {
      text: `${title}, ${unit}`,
      anchor: 'start',
      fontSize: 12,
      fontWeight: 'normal',
      color: colours.text,
    },
    width: 210,
    height: { step: 19 },
    data: { values },
    layer: [
      {
        transform: [{ filter: 'datum.kind !== "kernel"' }],
        mark: { type: 'bar', height: 13 },
        encoding: { x, y, color },
      },
      {
        transform: [{ filter: 'datum.kind === "kernel"' }],
        mark: { type: 'tick', thickness: 3, height: 11 },
        encoding: { x, y, color },
      },
      label('datum.kind === "ours"', 'bold', colours.ours),
      label('datum.kind !== "ours" && datum.kind !== "kernel"', 'normal', colours.text),
      label('datum.kind === "kernel"', 'normal', colours.muted),
    ],
  };
}

async function drawChart(results: Results, theme: Theme): Promise<string> {
  const colours = THEMES[theme];
  const spec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: {
      text: headline(results),
      subtitle: 'bars: carried by a process, medians; grey marks: the kernel’s own ways, for scale',
      anchor: 'start',
      fontSize: 18,
      fontWeight: 'bold',
      color: colours.text,
      subtitleColor: colours.muted,
      offset: 14,
    },
    concat: PANELS.map((one) => panel(results, one, theme)),
    columns: 3,
    align: 'all',
    spacing: 24,
    resolve: { scale: { x: 'independent' } },
    config: {
      background: null,
      font: 'sans-serif',
      view: { stroke: null },
      axis: {
        labelColor: colours.text,
        gridColor: colours.grid,
        domainColor: colours.grid,
        tickColor: colours.grid,
      },
      axisX: { labelColor: colours.muted },
    },
  } as unknown as TopLevelSpec;
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}

/** Writes the chart to `path`, and the one for dark pages beside it. */
export async function writeChart(results: Results, path: string): Promise<void> {
  writeFileSync(path, `${await drawChart(results, 'light')}\n`);
  writeFileSync(darkChartPath(path), `${await drawChart(results, 'dark')}\n`);
}
