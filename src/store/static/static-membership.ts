// This host in a network that a file tells of. The file is followed from watch() on.
//
// A config that was changed waits for a restart, and until then so does what hangs on it: leases that name no type keep
// the one they had, and leases of another Network, unless it is a wider one, are not looked at. An edit of one file
// reaches all hosts at once, and must not cut them off.

import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { type NetworkConfig, prefixesOf, sameConfig } from '../../config/network-config.js';
import { type Condition, Conditions } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import type { Lease } from '../../lease/lease.js';
import { familiesOf } from '../../net/dual.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  formatAddresses,
  formatPrefixes,
  type Prefix,
  prefixCovers,
  prefixEquals,
} from '../../net/prefix.js';
import type { StaticStatus } from '../../ops/status.js';
import type { Membership, MembershipListener } from '../store.js';
import { namesHost, readTable, type StaticTable } from './static-file.js';

// An editor writes a file in several steps; a reader that is too quick sees half of it.
const DEBOUNCE_MS = 50;
// For file systems that report no events, and for a directory that was replaced.
const POLL_MS = 2_000;

export interface StaticMembershipOptions {
  /** Absolute. */
  readonly path: string;
  /** What the file held at the start. */
  readonly table: StaticTable;
  readonly own: DualPrefix;
  readonly publicIp: DualAddress;
  readonly log: Logger;
}

/** See the head of this file. */
export class StaticMembership implements Membership {
  readonly own: DualPrefix;
  readonly #options: StaticMembershipOptions;
  readonly #conditions = new Conditions();
  /** The config that the daemon runs with. */
  readonly #inForce: NetworkConfig;
  #table: StaticTable;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #debounce: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: StaticMembershipOptions) {
    this.own = options.own;
    this.#options = options;
    this.#table = options.table;
    this.#inForce = options.table.config;
  }

  watch(listener: MembershipListener): void {
    listener.onLeases({ kind: 'snapshot', leases: this.#table.leases });
    const check = (): void => {
      clearTimeout(this.#debounce);
      this.#debounce = setTimeout(() => void this.#reload(listener), DEBOUNCE_MS);
    };
    this.#watchDirectory(check);
    this.#poll = setInterval(check, POLL_MS);
  }

  conditions(): readonly Condition[] {
    return this.#conditions.list();
  }

  metrics(): readonly MetricFamily[] {
    return [];
  }

  status(): StaticStatus {
    return { kind: 'static', file: this.#options.path, leases: this.#table.leases.length };
  }

  close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#poll);
    clearTimeout(this.#debounce);
    this.#watcher?.close();
    return Promise.resolve();
  }

  // The directory, because an atomic replacement gives the name to another inode.
  #watchDirectory(check: () => void): void {
    const { path, log } = this.#options;
    try {
      const watcher = watch(dirname(path), (_event, name) => {
        if (name === null || name === basename(path)) check();
      });
      watcher.on('error', () => watcher.close()); // the poll goes on
      this.#watcher = watcher;
    } catch (error) {
      log.warn({ err: error }, `cannot watch ${dirname(path)}; looking every ${POLL_MS / 1000} s`);
    }
  }

  async #reload(listener: MembershipListener): Promise<void> {
    const { path, log } = this.#options;
    let table: StaticTable;
    try {
      table = await readTable(path, { typeInForce: this.#inForce.backendType, known: this.#table });
    } catch (error) {
      if (!this.#isClosed) this.#note(`${(error as Error).message}; the last good table stays in force`);
      return;
    }
    if (this.#isClosed) return;
    if (this.#conditions.textOf('store-file') !== undefined) log.info(`${path} is good again`);
    this.#conditions.release('store-file');
    const before = this.#table;
    this.#table = table;
    if (table.digest === before.digest) return;
    if (!sameConfig(table.config, before.config)) listener.onConfig(table.config);
    if (!coversAll(prefixesOf(table.config), prefixesOf(this.#inForce))) return;
    this.#checkOwn(table);
    listener.onLeases({ kind: 'snapshot', leases: table.leases });
  }

  #note(fault: string): void {
    if (fault !== this.#conditions.textOf('store-file')) this.#options.log.error(fault);
    this.#conditions.hold('store-file', fault);
  }

  #checkOwn(table: StaticTable): void {
    const { path, publicIp, log } = this.#options;
    // Of another family than those in force there may be more in it: the file may be ahead of us.
    const families = familiesOf(this.own);
    const isOurs = ({ subnets }: Lease): boolean =>
      families.every((family) => {
        const subnet: Prefix<Address> | undefined = subnets[family];
        return subnet !== undefined && prefixEquals(subnet, this.own[family]!);
      });
    const holder = table.leases.find(isOurs);
    if (holder !== undefined && namesHost(holder, publicIp))
      return this.#conditions.release('lease-overwritten');
    const ours = `our lease ${formatPrefixes(this.own)} for ${formatAddresses(publicIp)}`;
    const fault = `${path}: ${ours} is no longer in it; restart to take another`;
    this.#conditions.hold('lease-overwritten', fault);
    log.error(fault);
  }
}

/** The network may have become wider, and may have another family beside its own. */
function coversAll(after: DualPrefix, before: DualPrefix): boolean {
  return familiesOf(before).every((family) => {
    const network: Prefix<Address> | undefined = after[family];
    return network !== undefined && prefixCovers(network, before[family]!);
  });
}
