// What twill is held to on one machine that carries both hosts, as ratios of medians of one run. They are shown, met or
// not; no test fails by them.

import { findRow, medianOf, type Results } from './results.js';

export interface Target {
  readonly what: string;
  readonly limit: number;
  readonly better: 'more' | 'less';
  readonly unit: string;
  /** NaN when a peer was missing. */
  readonly value: (results: Results) => number;
  /** The same figure of the engine alone, where twill's has the lane in it. */
  readonly engine?: (results: Results) => number;
}

export const ENGINE = 'twill --lane=off';
const VXLAN = 'kernel vxlan';
const FLANNELD = 'flanneld udp';
const LOOP = 'plain packet loop';

type Side = readonly [suite: string, peer: string, metric: string];

/** Median of one side over the median of the other. */
function ratio(above: Side, below: Side): (results: Results) => number {
  return (results) => medianOf(findRow(results, ...above)) / medianOf(findRow(results, ...below));
}

interface Bound {
  readonly limit: number;
  readonly better: Target['better'];
}

const atLeast = (limit: number): Bound => ({ limit, better: 'more' });
const atMost = (limit: number): Bound => ({ limit, better: 'less' });

/** twill's figure of the other's, and beside it the engine's. */
function against(other: string, metric: string, bound: Bound, suite = 'peers', what = metric): Target {
  const of = (ours: string): ((results: Results) => number) =>
    ratio([suite, ours, metric], [suite, other, metric]);
  return { what: `${what}, of ${other}`, ...bound, unit: '×', value: of('twill'), engine: of(ENGINE) };
}

/** The engine's figure of the other's: what kernels without the lane get. */
function engineAgainst(other: string, metric: string, bound: Bound): Target {
  const value = ratio(['peers', ENGINE, metric], ['peers', other, metric]);
  return { what: `engine alone: ${metric}, of ${other}`, ...bound, unit: '×', value };
}

/** One stream of a suite's peer of that of another, and of the two with the lane off. */
function withAndWithout(suite: string, ours: string, other: string): Pick<Target, 'value' | 'engine'> {
  const of = (more: string): ((results: Results) => number) =>
    ratio([suite, `${ours}${more}`, 'TCP 1 stream, BBR'], [suite, `${other}${more}`, 'TCP 1 stream, BBR']);
  return { value: of(''), engine: of(', lane off') };
}

const BULK = ['BBR', 'Cubic'].flatMap((control) => [`TCP 1 stream, ${control}`, `TCP 4 streams, ${control}`]);
const SMALL_PACKETS = 'UDP 64 B, many flows';

export const TARGETS: readonly Target[] = [
  ...BULK.map((metric) => against(VXLAN, metric, atLeast(1))),
  ...BULK.map((metric) =>
    against(VXLAN, metric, atLeast(1.1), 'uplink', `${metric}, uplink without tunnel offload`),
  ),
  against(VXLAN, 'round trip idle p50', atMost(1)),
  against(VXLAN, 'round trip idle p99', atMost(1)),
  against(VXLAN, 'round trip beside bulk p99, BBR', atMost(2)),
  against(VXLAN, 'round trip beside bulk p99, Cubic', atMost(2)),
  against(VXLAN, 'connections', atLeast(1)),
  against(VXLAN, SMALL_PACKETS, atLeast(2.5)),
  engineAgainst(VXLAN, SMALL_PACKETS, atLeast(2.5)),
  against(FLANNELD, 'TCP 1 stream, Cubic', atLeast(25)),
  against(FLANNELD, SMALL_PACKETS, atLeast(3)),
  engineAgainst(LOOP, 'connections', atLeast(1)),
  engineAgainst(LOOP, 'round trip idle p50', atMost(1)),
  ...['TCP 1 stream, BBR', 'TCP 4 streams, BBR', SMALL_PACKETS].map((metric) => ({
    what: `IPv6 over IPv6: ${metric}, of IPv4, lane off`,
    ...atLeast(0.95),
    unit: '×',
    value: ratio(['families', `${ENGINE}, IPv6`, metric], ['families', ENGINE, metric]),
  })),
  {
    what: 'TCP 1 stream with 65,536 leases, of the same with 2',
    ...atLeast(0.97),
    unit: '×',
    ...withAndWithout('leases', '65536 leases', '2 leases'),
  },
  {
    what: 'TCP 1 stream beside 1,000 lease events/s, of the same without',
    ...atLeast(0.95),
    unit: '×',
    ...withAndWithout('churn', '1000 lease events/s', 'events elsewhere'),
  },
  {
    what: "TypeScript's share of the process's CPU time, lane off",
    ...atMost(2),
    unit: '%',
    value: ({ steady }) => (steady?.typescriptShare ?? NaN) * 100,
  },
  {
    what: 'resident memory, 1 queue',
    ...atMost(90),
    unit: 'MB',
    value: ({ steady }) => steady?.residentMb ?? NaN,
  },
  {
    what: 'garbage collections of the workers in 60 s',
    ...atMost(0),
    unit: '',
    value: ({ steady }) => steady?.workerCollections ?? NaN,
  },
];

/** Whether a value meets its target; undefined when it was not measured. */
export function isMet(target: Target, value: number): boolean | undefined {
  if (Number.isNaN(value)) return undefined;
  return target.better === 'more' ? value >= target.limit : value <= target.limit;
}
