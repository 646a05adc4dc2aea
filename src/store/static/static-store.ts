// The static store: config and leases from one JSON file (static-file.ts), for clusters without a server.
//
// The own lease is the one with our public IP. The file is watched; a version that cannot be read or is wrong changes
// nothing: the last good table stays in force, and the store is degraded until the file is right again. At start there
// is no last good table, so the same faults are errors.

import { resolve } from 'node:path';
import type { Condition } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import { isOneHost } from '../../lease/lease.js';
import { formatAddresses } from '../../net/prefix.js';
import type { StaticStatus } from '../../ops/status.js';
import type { LeaseStore, Membership, Publication, StoredNetwork, StoreFlags } from '../store.js';
import { readTable, type StaticTable } from './static-file.js';
import { StaticMembership } from './static-membership.js';

/** The store that the flags tell of. Throws OverlayError E_USAGE without --static-file. */
export function openStaticStore({ store }: StoreFlags, log: Logger): StaticStore {
  if (store.staticFile === '') throw new OverlayError('E_USAGE', '--store=static needs --static-file');
  return new StaticStore(store.staticFile, log);
}

/** See the head of this file. */
export class StaticStore implements LeaseStore {
  readonly kind = 'static';
  readonly #path: string;
  readonly #log: Logger;
  #leases = 0;

  constructor(path: string, log: Logger) {
    this.#path = resolve(path);
    this.#log = log;
  }

  async readConfig(): Promise<StoredNetwork> {
    const table = await readTable(this.#path);
    this.#leases = table.leases.length;
    return {
      config: table.config,
      join: (publication) => new Promise((joined) => joined(this.#join(table, publication))),
    };
  }

  conditions(): readonly Condition[] {
    return []; // what is wrong with the file ends the start
  }

  metrics(): readonly MetricFamily[] {
    return [];
  }

  status(): StaticStatus {
    return { kind: this.kind, file: this.#path, leases: this.#leases };
  }

  close(): void {
    // Nothing is open.
  }

  #join(table: StaticTable, { host }: Publication): Membership {
    const { publicIp } = host;
    const lease = table.leases.find((one) => isOneHost(one.host.publicIp, publicIp));
    if (lease !== undefined) {
      return new StaticMembership({
        path: this.#path,
        log: this.#log,
        table,
        own: lease.subnets,
        publicIp,
      });
    }
    const problem = `no lease has our public IP ${formatAddresses(publicIp)}`;
    throw new OverlayError('E_LEASE', `${this.#path}: ${problem}`);
  }
}
