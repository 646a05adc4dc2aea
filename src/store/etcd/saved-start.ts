// The table that the last run of this host saved, for a start without etcd, and as proof that a lease is ours.

import { parseNetworkConfig } from '../../config/network-config.js';
import type { Logger } from '../../core/log.js';
import type { DualAddress } from '../../net/prefix.js';
import { acceptsConnection } from '../reachability.js';
import type { CachedTable, SavedStart } from '../store.js';
import { loadPublicIp, loadTable, type SavedTable } from '../table-cache.js';
import type { Endpoint } from './endpoints.js';

const AWAY_AFTER_MS = 50;

export interface EtcdSavedStartOptions {
  readonly path: string;
  /** See tableSource(). */
  readonly source: string;
  readonly endpoints: readonly Endpoint[];
  readonly log: Logger;
}

export class EtcdSavedStart implements SavedStart {
  readonly #options: EtcdSavedStartOptions;
  /** undefined: the table was not looked at. */
  #leaseId: bigint | undefined;

  constructor(options: EtcdSavedStartOptions) {
    this.#options = options;
  }

  async isAway(): Promise<boolean> {
    const targets = this.#options.endpoints.map(({ target }) => target);
    return !(await acceptsConnection(targets, AWAY_AFTER_MS));
  }

  table(): CachedTable | undefined {
    const { path, log } = this.#options;
    const saved = this.#load();
    if (saved === undefined) return undefined;
    try {
      const config = parseNetworkConfig(saved.configText, `saved table "${path}"`);
      const { ownSubnets, ownHost, leases, savedAt } = saved;
      return { config, ownSubnets, ownHost, leases, savedAt };
    } catch (error) {
      log.warn({ path }, `ignoring saved lease table: ${(error as Error).message}`);
      return undefined;
    }
  }

  formerPublicIp(): DualAddress | undefined {
    return loadPublicIp(this.#options.path, this.#options.source);
  }

  /** The etcd lease that this host held its own key with; 0n: none. Reads the whole table, at most once. */
  leaseId(): bigint {
    if (this.#leaseId === undefined) this.#load();
    return this.#leaseId ?? 0n;
  }

  #load(): SavedTable | undefined {
    const { path, source, log } = this.#options;
    const saved = loadTable(path, source, log);
    this.#leaseId = saved?.ownLeaseId ?? 0n;
    return saved;
  }
}
