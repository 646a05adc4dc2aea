// The chart of a run as SVG, by Vega-Lite: a bar for each peer, a panel for each workload.

import { writeFileSync } from 'node:fs';
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import { type Results, findRow, medianOf } from './results.js';

const PANELS = [
  { suite: 'peers', metric: 'TCP 1 stream', title: 'TCP 1 stream, Gbit/s' },
  { suite: 'peers', metric: 'TCP 4 streams', title: 'TCP 4 streams, Gbit/s' },
  { suite: 'segmented', metric: 'TCP 1 stream', title: 'TCP 1 stream, veth offloads off, Gbit/s' },
  { suite: 'peers', metric: 'UDP 64 B, many flows', title: 'UDP 64 B at ≤ 0.5 % loss, kpps' },
  { suite: 'peers', metric: 'UDP 1400 B, many flows', title: 'UDP 1400 B at ≤ 0.5 % loss, kpps' },
  { suite: 'peers', metric: 'round trip idle p50', title: 'round trip, idle, p50, µs' },
] as const;

/** Writes the chart to `path`. */
export async function writeChart(results: Results, path: string): Promise<void> {
  const order = [
    ...new Set(results.suites.find(({ suite }) => suite === 'peers')?.rows.map((row) => row.peer)),
  ];
  const values = PANELS.flatMap(({ suite, metric, title }) =>
    order.flatMap((peer) => {
      const row = findRow(results, suite, peer, metric);
      if (row === undefined) return [];
      const [low, high] = [Math.min(...row.samples), Math.max(...row.samples)];
      return [{ title, peer, value: medianOf(row), low, high, isOurs: peer.startsWith('twill') }];
    }),
  );
  const spec: TopLevelSpec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    data: { values },
    facet: { field: 'title', type: 'nominal', title: null, sort: PANELS.map(({ title }) => title) },
    columns: 3,
    resolve: { scale: { x: 'independent' } },
    spec: {
      width: 220,
      height: { step: 18 },
      encoding: { y: { field: 'peer', type: 'nominal', sort: order, title: null } },
      layer: [
        {
          mark: { type: 'bar', tooltip: null },
          encoding: {
            x: { field: 'value', type: 'quantitative', title: null },
            color: {
              field: 'isOurs',
              type: 'nominal',
              legend: null,
              scale: { domain: [true, false], range: ['#d9480f', '#8a94a0'] },
            },
          },
        },
        {
          mark: { type: 'rule', color: '#222' },
          encoding: { x: { field: 'low', type: 'quantitative' }, x2: { field: 'high' } },
        },
      ],
    },
    config: { background: 'white', font: 'sans-serif', view: { stroke: null } },
  };
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
  writeFileSync(path, `${await view.toSVG()}\n`);
  view.finalize();
}
