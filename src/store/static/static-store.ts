// The static store: config and leases from one JSON file (static-file.ts), for clusters without a server.
//
// The own lease is the one with our public IP, and has a subnet of each family of the network. The file is watched; a
// version that cannot be read or is wrong changes nothing: the last good table stays in force, and the store is
// degraded until the file is right again. At start there is no last good table, so the same faults are errors.

import { resolve } from 'node:path';
import type { Condition } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import { isOneHost } from '../../lease/lease.js';
import { familiesOf } from '../../net/dual.js';
import { formatAddresses, formatPrefixes } from '../../net/prefix.js';
import type { StaticStatus } from '../../ops/status.js';
import type { LeaseStore, Membership, Publication, StoredNetwork, StoreFlags } from '../store.js';
import { lackingFields, namesHost, readTable, type StaticTable } from './static-file.js';
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

  #join(table: StaticTable, { host: { publicIp } }: Publication): Membership {
    const fail = (problem: string): OverlayError => new OverlayError('E_LEASE', `${this.#path}: ${problem}`);
    const lease = table.leases.find((one) => isOneHost(one.host.publicIp, publicIp));
    if (lease === undefined) throw fail(`no lease has our public IP ${formatAddresses(publicIp)}`);
    const { subnets, host } = lease;
    const what = `our lease ${formatPrefixes(subnets)}`;
    if (!namesHost(lease, publicIp)) {
      const names = formatAddresses(host.publicIp);
      throw fail(`${what} names ${names}: expected our public IP ${formatAddresses(publicIp)}`);
    }
    const [lacking] = lackingFields(subnets, familiesOf(table.config.networks));
    if (lacking !== undefined)
      throw fail(`${what} has no ${lacking}: expected a subnet of each family that the network has`);
    return new StaticMembership({ path: this.#path, log: this.#log, table, own: subnets, publicIp });
  }
}
