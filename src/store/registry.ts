// The stores by kind. Each is loaded when it is the one: etcd's and Kubernetes' take some 20 ms of a start of 200.

import type { StoreKind } from '../config/options.js';
import { OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import type { LeaseStore, StoreFlags } from './store.js';

type Opener = (flags: StoreFlags, log: Logger) => LeaseStore | Promise<LeaseStore>;

const OPENERS: Readonly<Record<StoreKind, () => Promise<Opener>>> = {
  etcd: async () => (await import('./etcd/etcd-store.js')).openEtcdStore,
  kube: async () => (await import('./kube/kube-store.js')).openKubeStore,
  static: async () => (await import('./static/static-store.js')).openStaticStore,
};

/** The store that the flags name. Throws OverlayError E_USAGE when they name two. */
export function storeKind({ kind, isKube }: StoreFlags['store']): StoreKind {
  if (isKube && kind === 'static')
    throw new OverlayError('E_USAGE', 'Cannot use both --kube-subnet-mgr and --store=static');
  return isKube ? 'kube' : kind;
}

/** Opens the store that --store names. Contacts nothing; throws OverlayError for flags that can never work. */
export async function openStore(flags: StoreFlags, log: Logger): Promise<LeaseStore> {
  const open = await OPENERS[storeKind(flags.store)]();
  return await open(flags, log);
}

/** Loads the code of that store, so that opening it does not. Throws as openStore() does. */
export async function loadStore(flags: StoreFlags): Promise<void> {
  await OPENERS[storeKind(flags.store)]();
}
