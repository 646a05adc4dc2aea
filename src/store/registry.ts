// The stores by kind.

import type { Flags } from '../config/flags.js';
import { OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import { EtcdStore } from './etcd/etcd-store.js';
import { StaticStore } from './static/static-store.js';
import type { LeaseStore } from './store.js';

/** What the stores are told. */
export type StoreFlags = Pick<Flags, 'store' | 'etcd' | 'files'>;

/** Opens the store that --store names. Contacts nothing. */
export function openStore({ store, etcd, files }: StoreFlags, log: Logger): LeaseStore {
  if (store.kind === 'static') {
    if (store.staticFile === '') throw new OverlayError('E_USAGE', '--store=static needs --static-file');
    return new StaticStore(store.staticFile, log);
  }
  return new EtcdStore({
    endpoints: etcd.endpoints,
    prefix: etcd.prefix,
    tls: { keyFile: etcd.keyFile, certFile: etcd.certFile, caFile: etcd.caFile },
    username: etcd.username,
    password: etcd.password,
    proxy: etcd.proxy,
    renewMarginMinutes: etcd.renewMarginMinutes,
    tablePath: `${files.subnetFile}.leases`,
    log,
  });
}
