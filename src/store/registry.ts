// The stores by kind.

import type { StoreKind } from '../config/options.js';
import { OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import { openEtcdStore } from './etcd/etcd-store.js';
import { openKubeStore } from './kube/kube-store.js';
import { openStaticStore } from './static/static-store.js';
import type { LeaseStore, StoreFlags } from './store.js';

const OPENERS: Readonly<
  Record<StoreKind, (flags: StoreFlags, log: Logger) => LeaseStore | Promise<LeaseStore>>
> = {
  etcd: openEtcdStore,
  kube: openKubeStore,
  static: openStaticStore,
};

/** The store that the flags name. Throws OverlayError E_USAGE when they name two. */
export function storeKind({ kind, isKube }: StoreFlags['store']): StoreKind {
  if (isKube && kind === 'static')
    throw new OverlayError('E_USAGE', 'Cannot use both --kube-subnet-mgr and --store=static');
  return isKube ? 'kube' : kind;
}

/** Opens the store that --store names. Contacts nothing; throws OverlayError for flags that can never work. */
export async function openStore(flags: StoreFlags, log: Logger): Promise<LeaseStore> {
  return await OPENERS[storeKind(flags.store)](flags, log);
}
