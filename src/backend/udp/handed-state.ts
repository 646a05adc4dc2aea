// What the udp mode tells the daemon after this one: counters, so that none falls, and narrow paths.
//
// The other daemon may be of another release: what it does not know is left out, what it does not tell is 0.

import type { CounterSnapshot, DirectionCounters } from '../../dataplane/dataplane.js';
import type { LaneTotals } from '../../dataplane/lane.js';
import {
  INBOUND_COUNTERS,
  type InboundCounter,
  LANE_TOTALS,
  OUTBOUND_COUNTERS,
  type OutboundCounter,
} from '../../native/counters.js';
import type { QueueReading } from '../../kernel/queue-drops.js';
import type { FamilyName } from '../../net/dual.js';
import type { Traffic } from './traffic.js';

/** Traffic of one lease, by its id and the public IP that it goes to. */
export type PeerState = readonly [family: FamilyName, id: string, publicIp: string, traffic: Traffic];
/** A path and the largest inner packet that it takes, in bytes. */
export type PathState = readonly [peer: string, mtuBytes: number];

export interface HandedState {
  readonly counters: CounterSnapshot;
  /** Of the lane that goes on for now, what is in the counters. */
  readonly lastLane: LaneTotals | undefined;
  /** What queues of the device have dropped. */
  readonly queueDrops: number;
  /** The kernel's own counts that this goes by: of the device, and of the sockets. */
  readonly queueSeen: QueueReading | undefined;
  readonly socketDropsSeen: number;
  readonly peers: readonly PeerState[];
  readonly paths: readonly PathState[];
}

/** As JSON. */
export function handedState({ counters, ...rest }: HandedState): object {
  const { outbound, inbound, socketDrops, lane } = counters;
  return { outbound: outbound.values, inbound: inbound.values, socketDrops, lane, ...rest };
}

/** What handedState() gave, whoever has sent it; undefined for what is no such thing. */
export function readHandedState(told: unknown): HandedState | undefined {
  if (!isRecord(told)) return undefined;
  const { outbound, inbound, lane, lastLane, peers, paths } = told;
  return {
    counters: {
      outbound: directionOf<OutboundCounter>(OUTBOUND_COUNTERS, outbound),
      inbound: directionOf<InboundCounter>(INBOUND_COUNTERS, inbound),
      socketDrops: countOf(told['socketDrops']),
      ...(isRecord(lane) && { lane: countsOf(LANE_TOTALS, lane) }),
    },
    lastLane: isRecord(lastLane) ? countsOf(LANE_TOTALS, lastLane) : undefined,
    queueDrops: countOf(told['queueDrops']),
    queueSeen: readingOf(told['queueSeen']),
    socketDropsSeen: countOf(told['socketDropsSeen']),
    peers: listOf(peers).flatMap(peerOf),
    paths: listOf(paths).flatMap(pathOf),
  };
}

function readingOf(told: unknown): QueueReading | undefined {
  if (!isRecord(told)) return undefined;
  const [index, dropped] = [countOf(told['index']), countOf(told['dropped'])];
  return index > 0 ? { index, dropped } : undefined;
}

function directionOf<Name extends OutboundCounter | InboundCounter>(
  names: readonly Name[],
  told: unknown,
): DirectionCounters<Name> {
  const values: Record<string, number> = countsOf(names, isRecord(told) ? told : {});
  // Saved while packets were in hand: of one that was killed, they went no further.
  const drops = names.filter((name) => name.startsWith('drop_')).reduce((sum, name) => sum + values[name], 0);
  const inHand = values['packets_in'] - values['packets_out'] - drops;
  if (inHand > 0) values['drop_stopped'] += inHand;
  else values['packets_in'] -= inHand;
  return { values: values as Record<Name, number>, offenders: new Map() };
}

function countsOf<Name extends string>(
  names: readonly Name[],
  told: Readonly<Record<string, unknown>>,
): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, countOf(told[name])])) as Record<Name, number>;
}

function peerOf(told: unknown): PeerState[] {
  const [family, id, publicIp, traffic] = listOf(told);
  if ((family !== 'v4' && family !== 'v6') || typeof id !== 'string' || typeof publicIp !== 'string')
    return [];
  const [packetsOut, bytesOut, packetsIn, bytesIn] = listOf(traffic).map(countOf);
  return [[family, id, publicIp, [packetsOut ?? 0, bytesOut ?? 0, packetsIn ?? 0, bytesIn ?? 0]]];
}

function pathOf(told: unknown): PathState[] {
  const [peer, mtuBytes] = listOf(told);
  return typeof peer === 'string' && countOf(mtuBytes) > 0 ? [[peer, countOf(mtuBytes)]] : [];
}

function countOf(told: unknown): number {
  return typeof told === 'number' && Number.isSafeInteger(told) && told >= 0 ? told : 0;
}

function listOf(told: unknown): readonly unknown[] {
  return Array.isArray(told) ? told : [];
}

function isRecord(told: unknown): told is Readonly<Record<string, unknown>> {
  return typeof told === 'object' && told !== null && !Array.isArray(told);
}
