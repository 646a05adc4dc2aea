// The stores by kind.

import type { STORES } from '../config/options.js';
import type { Logger } from '../core/log.js';
import { openEtcdStore } from './etcd/etcd-store.js';
import { openStaticStore } from './static/static-store.js';
import type { LeaseStore, StoreFlags } from './store.js';

const OPENERS: Readonly<Record<(typeof STORES)[number], (flags: StoreFlags, log: Logger) => LeaseStore>> = {
  etcd: openEtcdStore,
  static: openStaticStore,
};

/** Opens the store that --store names. Contacts nothing; throws OverlayError for flags that can never work. */
export function openStore(flags: StoreFlags, log: Logger): LeaseStore {
  return OPENERS[flags.store.kind](flags, log);
}
