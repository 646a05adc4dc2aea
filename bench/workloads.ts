// What is done to a path, and the figures that come of it. Each workload takes a peer and returns one value per metric;
// suites.ts says which peers get which, suite.ts repeats them.

import type { Lab } from '../test/support/lab.js';
import { measureTcp, startIperfServer, withBusyCores } from '../test/support/measure.js';
import type { Peer } from './peers.js';
import { highestRate, type Traffic } from '../test/support/traffic.js';

/** Payload that stands for one packet where cost is given per packet. */
const PACKET_BYTES = 1400;

export interface Value {
  readonly metric: string;
  readonly unit: string;
  readonly value: number;
  /** Busy cores of the whole machine meanwhile. */
  readonly cores?: number;
  /** CPU time of the whole machine for one packet (TCP: for 1400 bytes of payload), in nanoseconds. */
  readonly nsPerPacket?: number;
}

export interface Context {
  readonly lab: Lab;
  readonly traffic: Traffic;
  /** Length of one bulk run. */
  readonly seconds: number;
}

export type Workload = (context: Context, peer: Peer) => Promise<Value[]>;

/** Servers that all workloads need; they end with the lab. */
export async function startServers({ lab, traffic }: Context, peer: Peer): Promise<void> {
  for (const { ns } of peer.ends) await startIperfServer(lab, ns);
  await traffic.startEcho(peer.ends[1].ns);
}

function tcpValue(metric: string, gigabitsPerSecond: number, cores: number): Value {
  const packetsPerSecond = (gigabitsPerSecond * 1e9) / 8 / PACKET_BYTES;
  return {
    metric,
    unit: 'Gbit/s',
    value: gigabitsPerSecond,
    cores,
    nsPerPacket: (cores * 1e9) / packetsPerSecond,
  };
}

/** Bulk TCP; iperf3 sends, or receives when `isReverse`. */
export function tcp(metric: string, streams: number, isReverse = false): Workload {
  return async ({ lab, seconds }, { ends }) => {
    const { result, cores } = await withBusyCores(seconds + 1, () =>
      measureTcp(lab, ends[0].ns, ends[1].ip, seconds, streams, isReverse),
    );
    return [tcpValue(metric, result.gigabitsPerSecond, cores)];
  };
}

/** One stream each way at the same time; the value is their sum. */
export const tcpBothWays: Workload = async ({ lab, seconds }, { ends }) => {
  const { result, cores } = await withBusyCores(seconds + 1, () =>
    Promise.all([
      measureTcp(lab, ends[0].ns, ends[1].ip, seconds),
      measureTcp(lab, ends[1].ns, ends[0].ip, seconds),
    ]),
  );
  return [
    tcpValue('TCP both ways at once', result[0].gigabitsPerSecond + result[1].gigabitsPerSecond, cores),
  ];
};

/** TCP request and response, 64 bytes, on the idle path. */
export const roundTripIdle: Workload = async ({ traffic }, { ends }) => {
  const times = await traffic.roundTrips(ends[0].ns, ends[1].ip, 64, 1);
  return [
    { metric: 'round trip idle p50', unit: 'µs', value: times.p50Us },
    { metric: 'round trip idle p99', unit: 'µs', value: times.p99Us },
    { metric: 'round trip idle p99.9', unit: 'µs', value: times.p999Us },
  ];
};

/** The same beside a bulk stream from the same container. */
export const roundTripLoaded: Workload = async ({ lab, traffic }, { ends }) => {
  const bulk = measureTcp(lab, ends[0].ns, ends[1].ip, 4);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const times = await traffic.roundTrips(ends[0].ns, ends[1].ip, 64, 2);
  await bulk;
  return [
    { metric: 'round trip loaded p50', unit: 'µs', value: times.p50Us },
    { metric: 'round trip loaded p99', unit: 'µs', value: times.p99Us },
    { metric: 'round trip loaded p99.9', unit: 'µs', value: times.p999Us },
  ];
};

export const connections: Workload = async ({ traffic }, { ends }) => [
  { metric: 'connections', unit: '1/s', value: await traffic.connections(ends[0].ns, ends[1].ip, 1) },
];

const UDP_STEP_MS = 100;
const UDP_LOW = 20_000;
const UDP_HIGH = 1_500_000;

/** Datagrams at a rising rate: the highest step of which at most 0.5 % was lost. */
export function udp(bytes: number, flows: number): Workload {
  return async ({ traffic }, { ends }) => {
    const options = { bytes, flows, stepMs: UDP_STEP_MS, low: UDP_LOW, high: UDP_HIGH };
    const steps = await traffic.ramp(ends[0].ns, ends[1], options);
    const metric = `UDP ${bytes} B, ${flows === 1 ? 'one flow' : 'many flows'}`;
    return [{ metric, unit: 'kpps', value: highestRate(steps) / 1000 }];
  };
}

export const MANY_FLOWS = 64;
