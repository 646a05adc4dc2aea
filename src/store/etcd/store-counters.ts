// The etcd store's counters in the form that ops/metrics.ts publishes.

import type { LeaseTable } from './lease-table.js';
import type { OwnLeaseCounters } from './own-lease.js';
import type { MirrorCounters } from './range-mirror.js';
import type { MetricFamily } from '../../core/metric.js';

const MIRROR_HELP: Readonly<Record<keyof MirrorCounters, readonly [name: string, help: string]>> = {
  eventsApplied: ['etcd_events_applied_total', 'Watch events applied to the lease table'],
  eventsReplayed: ['etcd_events_replayed_total', 'Watch events dropped because they had been applied before'],
  lists: ['etcd_lists_total', 'Full lists of the leases at start and after gaps'],
  compactions: ['etcd_watch_compacted_total', 'Watches that ended because their revision was compacted away'],
  historyRewritten: ['etcd_history_rewritten_total', 'Times the store was found wiped or restored'],
  resyncRepairs: ['etcd_resync_repairs_total', 'Differences repaired by the periodic comparison with a list'],
  watchesStarted: ['etcd_watches_started_total', 'Watches of the leases started'],
};

const OWN_HELP: Readonly<Record<keyof OwnLeaseCounters, readonly [name: string, help: string]>> = {
  renewals: ['lease_renewals_total', 'Renewals of the own lease'],
  renewalFailures: ['lease_renewal_failures_total', 'Failed attempts to renew or restore the own lease'],
  recreated: ['lease_recreated_total', 'Times the own lease was found gone and acquired again'],
  overwritten: ['lease_overwritten_total', 'Times another host was seen in the own lease'],
  twins: ['lease_duplicate_public_ip_total', 'Times another daemon was seen to publish the own public IP'],
};

/** Everything the parts have counted so far; parts that do not exist yet count nothing. */
export function storeCounters(parts: {
  readonly mirror?: MirrorCounters | undefined;
  readonly own?: OwnLeaseCounters | undefined;
  readonly table?: LeaseTable | undefined;
}): readonly MetricFamily[] {
  const counters: MetricFamily[] = [];
  const add = (name: string, help: string, value: number): void => {
    const type = name.endsWith('_total') ? 'counter' : 'gauge';
    counters.push({ name, help, type, values: [{ labels: {}, value }] });
  };
  for (const [field, [name, help]] of Object.entries(MIRROR_HELP)) {
    add(name, help, parts.mirror?.[field as keyof MirrorCounters] ?? 0);
  }
  for (const [field, [name, help]] of Object.entries(OWN_HELP)) {
    add(name, help, parts.own?.[field as keyof OwnLeaseCounters] ?? 0);
  }
  add(
    'etcd_bad_keys_total',
    'Keys or values in the lease range that were skipped',
    parts.table?.badKeys.total ?? 0,
  );
  add(
    'etcd_bad_keys',
    'Keys in the lease range that are skipped at present',
    parts.table?.badKeys.current ?? 0,
  );
  add('etcd_leases', 'Leases held, the own one included', parts.table?.size ?? 0);
  add(
    'etcd_leases_vanished',
    'Leases kept although they vanished from the store',
    parts.table?.vanished ?? 0,
  );
  return counters;
}
