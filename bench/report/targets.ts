// What the udp backend is held to on one machine that carries both hosts, as ratios of medians of one run.

import type { Results } from './results.js';
import { findRow, medianOf } from './results.js';

export interface Target {
  readonly what: string;
  readonly limit: number;
  readonly better: 'more' | 'less';
  readonly unit: string;
  /** NaN when a peer was missing. */
  readonly value: (results: Results) => number;
}

type Side = readonly [suite: string, peer: string, metric: string];

/** Median of one side over the median of the other. */
function ratio(above: Side, below: Side): (results: Results) => number {
  return (results) => medianOf(findRow(results, ...above)) / medianOf(findRow(results, ...below));
}

const VXLAN = 'kernel vxlan';
const FLANNELD = 'flanneld udp';

function against(other: string, metric: string, suite = 'peers'): (results: Results) => number {
  return ratio([suite, 'twill', metric], [suite, other, metric]);
}

export const TARGETS: readonly Target[] = [
  {
    what: 'TCP 1 stream, of kernel vxlan',
    limit: 1,
    better: 'more',
    unit: '×',
    value: against(VXLAN, 'TCP 1 stream'),
  },
  {
    what: 'TCP 1 stream, of flanneld udp',
    limit: 30,
    better: 'more',
    unit: '×',
    value: against(FLANNELD, 'TCP 1 stream'),
  },
  {
    what: 'TCP 4 streams, of kernel vxlan',
    limit: 0.7,
    better: 'more',
    unit: '×',
    value: against(VXLAN, 'TCP 4 streams'),
  },
  {
    what: 'TCP 1 stream, veth offloads off, of kernel vxlan',
    limit: 1,
    better: 'more',
    unit: '×',
    value: against(VXLAN, 'TCP 1 stream', 'segmented'),
  },
  {
    what: 'TCP 4 streams, veth offloads off, of kernel vxlan',
    limit: 1,
    better: 'more',
    unit: '×',
    value: against(VXLAN, 'TCP 4 streams', 'segmented'),
  },
  {
    what: 'UDP 64 B, many flows, of flanneld udp',
    limit: 5,
    better: 'more',
    unit: '×',
    value: against(FLANNELD, 'UDP 64 B, many flows'),
  },
  {
    what: 'UDP 64 B, many flows, of kernel vxlan',
    limit: 0.7,
    better: 'more',
    unit: '×',
    value: against(VXLAN, 'UDP 64 B, many flows'),
  },
  {
    what: 'idle round trip p50, of flanneld udp',
    limit: 0.5,
    better: 'less',
    unit: '×',
    value: against(FLANNELD, 'round trip idle p50'),
  },
  {
    what: 'p99 round trip beside a bulk stream, of kernel vxlan',
    limit: 2,
    better: 'less',
    unit: '×',
    value: against(VXLAN, 'round trip loaded p99'),
  },
  {
    what: 'TCP 1 stream with 65,536 leases, of the same with 2',
    limit: 0.97,
    better: 'more',
    unit: '×',
    value: ratio(['leases', '65536 leases', 'TCP 1 stream'], ['leases', '2 leases', 'TCP 1 stream']),
  },
  {
    what: 'TCP 1 stream beside 1,000 lease events/s, of the same without',
    limit: 0.95,
    better: 'more',
    unit: '×',
    value: ratio(
      ['churn', '1000 lease events/s', 'TCP 1 stream'],
      ['churn', 'events elsewhere', 'TCP 1 stream'],
    ),
  },
  {
    what: "TypeScript's share of the data path's CPU time",
    limit: 3,
    better: 'less',
    unit: '%',
    value: ({ steady }) => (steady?.typescriptShare ?? NaN) * 100,
  },
  {
    what: 'resident memory, 1 queue',
    limit: 120,
    better: 'less',
    unit: 'MB',
    value: ({ steady }) => steady?.residentMb ?? NaN,
  },
  {
    what: 'garbage collections of the workers in 60 s',
    limit: 0,
    better: 'less',
    unit: '',
    value: ({ steady }) => steady?.workerCollections ?? NaN,
  },
];

/** Whether a value meets its target; undefined when it was not measured. */
export function isMet(target: Target, value: number): boolean | undefined {
  if (Number.isNaN(value)) return undefined;
  return target.better === 'more' ? value >= target.limit : value <= target.limit;
}
