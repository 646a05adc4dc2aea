// The counters of the udp mode over all of its data paths, and as metrics. A counter never falls: what a closed data
// path had is kept and added to what the next one counts.

import type { MetricFamily } from '../../core/metric.js';
import type { CounterSnapshot, DirectionCounters } from '../../dataplane/dataplane.js';
import type { LaneTotals } from '../../dataplane/lane.js';
import { LANE_DROP, LANE_TOTALS, QUEUE_DROP } from '../../native/counters.js';

export function addSnapshots(a: CounterSnapshot, b: CounterSnapshot): CounterSnapshot {
  return {
    outbound: addDirections(a.outbound, b.outbound),
    inbound: addDirections(a.inbound, b.inbound),
    socketDrops: a.socketDrops + b.socketDrops,
    ...addLanes(a.lane, b.lane),
  };
}

function addLanes(a: LaneTotals | undefined, b: LaneTotals | undefined): { lane?: LaneTotals } {
  const lane = a ?? b;
  if (lane === undefined) return {};
  if (a === undefined || b === undefined) return { lane };
  return { lane: Object.fromEntries(LANE_TOTALS.map((name) => [name, a[name] + b[name]])) as LaneTotals };
}

/**
 * With what a pinned lane carried between two daemons: all that it had done in the end, less what the daemon before
 * this one has counted of it.
 */
export function withFormerLane(
  { formerLane, ...snapshot }: CounterSnapshot,
  counted: LaneTotals | undefined,
): CounterSnapshot {
  if (formerLane === undefined || counted === undefined) return snapshot;
  const more = Object.fromEntries(
    LANE_TOTALS.map((name) => [name, Math.max(0, formerLane[name] - counted[name])]),
  ) as LaneTotals;
  return { ...snapshot, ...addLanes(snapshot.lane, more) };
}

/** What the workers counted, with what the device dropped and with what the lane carried or dropped. */
export function allCounters(counted: CounterSnapshot, queueDrops: number): CounterSnapshot {
  return withLane(withQueueDrops(counted, queueDrops));
}

/** What the device dropped was on its way in too: so packets_in still equals packets_out plus all drops. */
function withQueueDrops({ outbound, ...others }: CounterSnapshot, packets: number): CounterSnapshot {
  const values = { ...outbound.values, [QUEUE_DROP]: packets };
  values.packets_in += packets;
  return { ...others, outbound: { ...outbound, values } };
}

/**
 * What the lane carried came in and went out as well, and what it dropped came in: the workers saw none of it. Both
 * directions have its drops, so that whoever reads them finds them without a lane too.
 */
function withLane({ outbound, inbound, ...others }: CounterSnapshot): CounterSnapshot {
  const { lane } = others;
  const out = [lane?.out_packets ?? 0, lane?.out_bytes ?? 0, lane?.out_failed ?? 0] as const;
  const into = [lane?.in_packets ?? 0, lane?.in_bytes ?? 0, lane?.in_failed ?? 0] as const;
  return { ...others, outbound: withCarried(outbound, ...out), inbound: withCarried(inbound, ...into) };
}

/** The counters of a direction of which `packets` were carried elsewhere and `dropped` were dropped there. */
function withCarried<Name extends string>(
  { values, ...others }: DirectionCounters<Name | Carried>,
  packets: number,
  bytes: number,
  dropped: number,
): DirectionCounters<Name | Carried> {
  const carried = {
    packets_in: values.packets_in + packets + dropped,
    packets_out: values.packets_out + packets,
    bytes_in: values.bytes_in + bytes,
    bytes_out: values.bytes_out + bytes,
    [LANE_DROP]: dropped,
  };
  return { ...others, values: { ...values, ...carried } };
}

type Carried = 'packets_in' | 'packets_out' | 'bytes_in' | 'bytes_out';

/** The families of both directions. */
export function counterFamilies({ outbound, inbound }: CounterSnapshot): readonly MetricFamily[] {
  return [...countersOf('outbound', outbound), ...countersOf('inbound', inbound)];
}

function addDirections<Name extends string>(
  a: DirectionCounters<Name>,
  b: DirectionCounters<Name>,
): DirectionCounters<Name> {
  const values: Record<Name, number> = { ...a.values };
  for (const name of Object.keys(values) as Name[]) values[name] += b.values[name];
  return { values, offenders: new Map([...a.offenders, ...b.offenders]) };
}

/** packets_in → dataplane_packets_in_total{direction}; drop_x → dropped_packets_total{direction, reason="x"}. */
function countersOf(direction: string, counters: DirectionCounters<string>): MetricFamily[] {
  const families: MetricFamily[] = [];
  const drops: { labels: Record<string, string>; value: number }[] = [];
  for (const [name, value] of Object.entries(counters.values)) {
    if (name.startsWith('drop_'))
      drops.push({ labels: { direction, reason: name.slice('drop_'.length) }, value });
    else {
      families.push({
        name: `dataplane_${name}_total`,
        help: `Data path: ${name.replaceAll('_', ' ')}, by direction.`,
        type: 'counter',
        values: [{ labels: { direction }, value }],
      });
    }
  }
  families.push({
    name: 'dropped_packets_total',
    help: 'Inner packets dropped, by direction and reason.',
    type: 'counter',
    values: drops,
  });
  return families;
}
