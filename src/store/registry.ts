// The stores by kind.

import type { Flags } from '../config/flags.js';
import { OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import { EtcdStore } from './etcd/etcd-store.js';
import { StaticStore } from './static/static-store.js';
import type { LeaseStore } from './store.js';

/** Opens the store that --store names. Contacts nothing. */
export function openStore(flags: Flags, log: Logger): LeaseStore {
  if (flags.store === 'static') {
    if (flags.staticFile === '') throw new OverlayError('E_USAGE', '--store=static needs --static-file');
    return new StaticStore(flags.staticFile, log);
  }
  return new EtcdStore({
    endpoints: flags.etcdEndpoints,
    prefix: flags.etcdPrefix,
    tls: { keyFile: flags.etcdKeyfile, certFile: flags.etcdCertfile, caFile: flags.etcdCafile },
    username: flags.etcdUsername,
    password: flags.etcdPassword,
    proxy: flags.etcdProxy,
    renewMarginMinutes: flags.subnetLeaseRenewMargin,
    tablePath: `${flags.subnetFile}.leases`,
    log,
  });
}
