// What is done to a path, and the figures that come of it. Each workload takes a peer and returns one value per metric;
// suites.ts says which peers get which, suite.ts repeats them.

import type { Lab } from '../test/support/lab.js';
import { type BulkOptions, measureTcp, startIperfServer, withBusyCores } from '../test/support/measure.js';
import { highestRate, type Traffic } from '../test/support/traffic.js';
import type { Control } from './congestion.js';
import type { Pace } from './pace.js';
import type { Peer } from './peers/peer.js';

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
  readonly pace: Pace;
  /** Of bulk TCP. @default the machine's */
  readonly control?: Control;
}

export type Workload = (context: Context, peer: Peer) => Promise<Value[]>;

/** Servers that all workloads need; they end with the lab. */
export async function startServers({ lab, traffic }: Context, peer: Peer): Promise<void> {
  for (const { ns } of peer.ends) await startIperfServer(lab, ns);
  await traffic.startEcho(peer.ends[1]);
}

/** The workload with its bulk under a congestion control; each metric names it. */
export function under(control: Control, workload: Workload): Workload {
  return async (context, peer) => {
    const values = await workload({ ...context, control }, peer);
    return values.map((value) => ({ ...value, metric: `${value.metric}, ${control.title}` }));
  };
}

/** What bulk is started with. */
const bulkOptions = ({ control }: Context, skipSeconds: number): BulkOptions =>
  control === undefined ? { skipSeconds } : { skipSeconds, control: control.name };

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
  return async (context, { ends }) => {
    const { lab, pace } = context;
    const { tcpSeconds, tcpSkipSeconds } = pace;
    const options = bulkOptions(context, tcpSkipSeconds);
    const { result, cores } = await withBusyCores(tcpSeconds + tcpSkipSeconds, () =>
      measureTcp(lab, ends[0].ns, ends[1].ip, tcpSeconds, streams, isReverse, options),
    );
    return [tcpValue(metric, result.gigabitsPerSecond, cores)];
  };
}

/** One stream each way at the same time; the value is their sum. */
export const tcpBothWays: Workload = async (context, { ends }) => {
  const { lab, pace } = context;
  const { tcpSeconds, tcpSkipSeconds } = pace;
  const options = bulkOptions(context, tcpSkipSeconds);
  const { result, cores } = await withBusyCores(tcpSeconds + tcpSkipSeconds, () =>
    Promise.all(
      [ends, [ends[1], ends[0]]].map(([from, to]) =>
        measureTcp(lab, from.ns, to.ip, tcpSeconds, 1, false, options),
      ),
    ),
  );
  const sum = result.reduce((total, { gigabitsPerSecond }) => total + gigabitsPerSecond, 0);
  return [tcpValue('TCP both ways at once', sum, cores)];
};

/** TCP request and response, 64 bytes, on the idle path. */
export const roundTripIdle: Workload = async ({ traffic, pace }, { ends }) => {
  const times = await traffic.roundTrips(ends[0].ns, ends[1].ip, 64, pace.roundTripMs);
  return [
    { metric: 'round trip idle p50', unit: 'µs', value: times.p50Us },
    { metric: 'round trip idle p99', unit: 'µs', value: times.p99Us },
  ];
};

/** The same beside a bulk stream from the same container. */
export const roundTripLoaded: Workload = async (context, { ends }) => {
  const { lab, traffic, pace } = context;
  const { loadedAfterMs, loadedMs } = pace;
  const bulkSeconds = Math.ceil((loadedAfterMs + loadedMs + 200) / 1000);
  const bulk = measureTcp(lab, ends[0].ns, ends[1].ip, bulkSeconds, 1, false, bulkOptions(context, 0));
  await new Promise((resolve) => setTimeout(resolve, loadedAfterMs));
  const times = await traffic.roundTrips(ends[0].ns, ends[1].ip, 64, loadedMs);
  const { gigabitsPerSecond } = await bulk;
  return [
    { metric: 'round trip beside bulk p50', unit: 'µs', value: times.p50Us },
    { metric: 'round trip beside bulk p99', unit: 'µs', value: times.p99Us },
    // Next to little bulk a short wait says little.
    { metric: 'bulk beside round trips', unit: 'Gbit/s', value: gigabitsPerSecond },
  ];
};

/** Connections one after the other, each with a byte there and back. */
export const connections: Workload = async ({ traffic, pace }, { ends }) => [
  {
    metric: 'connections',
    unit: '1/s',
    value: await traffic.connections(ends[0].ns, ends[1].ip, pace.connectMs),
  },
];

const UDP_LOW = 20_000;

/** Datagrams at a rising rate: the highest step of which at most 0.5 % was lost. */
export function udp(bytes: number, flows: number): Workload {
  return async ({ traffic, pace }, { ends }) => {
    const options = { bytes, flows, stepMs: pace.udpStepMs, low: UDP_LOW, high: pace.udpHigh };
    const steps = await traffic.ramp(ends[0].ns, ends[1], options);
    const metric = `UDP ${bytes} B, ${flows === 1 ? 'one flow' : 'many flows'}`;
    return [{ metric, unit: 'kpps', value: highestRate(steps) / 1000 }];
  };
}

export const MANY_FLOWS = 64;
