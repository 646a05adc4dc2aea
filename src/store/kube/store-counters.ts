// The Kubernetes store's counters in the form that ops/metrics.ts publishes.

import type { MetricFamily } from '../../core/metric.js';
import { type MirrorCounters, newMirrorCounters } from './nodes/mirror-counters.js';
import type { NodeTable } from './node-table.js';
import type { OwnNodeCounters } from './own-node.js';

const MIRROR_HELP: Readonly<
  Record<Exclude<keyof MirrorCounters, 'relists'>, readonly [name: string, help: string]>
> = {
  lists: ['kube_lists_total', 'Full lists of the nodes at start and after gaps'],
  watches: ['kube_watches_started_total', 'Watches of the nodes that the API server accepted'],
  events: ['kube_events_applied_total', 'Changes of nodes that were applied'],
  unchanged: ['kube_events_unchanged_total', 'Changes of nodes in which nothing of interest differed'],
  replays: ['kube_events_replayed_total', 'Watch events dropped because what they tell was known'],
  malformed: ['kube_malformed_nodes_total', 'Nodes without a usable name or version'],
  refused: ['kube_nodes_refused_total', 'Nodes left out because too many are held'],
  checks: ['kube_checks_total', 'Comparisons of what is known with a list'],
  repairs: ['kube_check_repairs_total', 'Nodes that a comparison had to put right'],
};

const OWN_HELP: Readonly<Record<keyof OwnNodeCounters, readonly [name: string, help: string]>> = {
  writes: ['kube_node_writes_total', 'Patches of the own node that the API server took'],
  writeFailures: ['kube_node_write_failures_total', 'Patches of the own node that failed'],
  overwritten: [
    'kube_node_overwritten_total',
    'Times somebody else was seen to have changed our annotations',
  ],
};

/** Everything the parts have counted so far; parts that do not exist yet count nothing. */
export function kubeCounters(parts: {
  readonly mirror?: MirrorCounters | undefined;
  readonly own?: OwnNodeCounters | undefined;
  readonly table?: NodeTable | undefined;
}): readonly MetricFamily[] {
  const { mirror, own, table } = parts;
  const { relists } = mirror ?? newMirrorCounters();
  const families: MetricFamily[] = [];
  const add = (name: string, help: string, value: number): void => {
    const type = name.endsWith('_total') ? 'counter' : 'gauge';
    families.push({ name, help, type, values: [{ labels: {}, value }] });
  };
  for (const [field, [name, help]] of Object.entries(MIRROR_HELP))
    add(name, help, mirror?.[field as keyof typeof MIRROR_HELP] ?? 0);
  families.push({
    name: 'kube_relists_total',
    help: 'Full lists of the nodes after a gap, by reason',
    type: 'counter',
    values: Object.entries(relists).map(([reason, value]) => ({ labels: { reason }, value })),
  });
  for (const [field, [name, help]] of Object.entries(OWN_HELP))
    add(name, help, own?.[field as keyof OwnNodeCounters] ?? 0);
  add('kube_bad_nodes_total', 'Nodes whose annotations could not be understood', table?.badNodes.total ?? 0);
  add(
    'kube_bad_nodes',
    'Nodes whose annotations cannot be understood at present',
    table?.badNodes.current ?? 0,
  );
  add('kube_leases', 'Leases held, the own one included', table?.size ?? 0);
  add('kube_leases_vanished', 'Leases kept although their nodes vanished', table?.vanished ?? 0);
  return families;
}
