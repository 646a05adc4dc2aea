// The counters of the udp mode over all of its data paths, and as metrics. A counter never falls: what a closed data
// path had is kept and added to what the next one counts.

import type { MetricFamily } from '../../core/metric.js';
import type { CounterSnapshot, DirectionCounters } from '../../dataplane/dataplane.js';
import { QUEUE_DROP } from '../../native/counters.js';

export function addSnapshots(a: CounterSnapshot, b: CounterSnapshot): CounterSnapshot {
  return {
    outbound: addDirections(a.outbound, b.outbound),
    inbound: addDirections(a.inbound, b.inbound),
    socketDrops: a.socketDrops + b.socketDrops,
  };
}

/** What the device dropped was on its way in too: so packets_in still equals packets_out plus all drops. */
export function withQueueDrops({ outbound, ...others }: CounterSnapshot, packets: number): CounterSnapshot {
  const values = { ...outbound.values, [QUEUE_DROP]: packets };
  values.packets_in += packets;
  return { ...others, outbound: { ...outbound, values } };
}

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
