// The static store: config and leases from one JSON file, for clusters without a server.
//
//   { "config": <network config>, "leases": [{ "subnet": "10.5.1.0/24", "publicIP": "172.20.0.1" }, …] }
//
// The own lease is the one with our public IP. The file is watched; a version that cannot be read or is wrong changes
// nothing: the last good table stays in force, and the store is degraded until the file is right again. At start there
// is no last good table, so the same faults are errors.
//
// A config that was changed waits for a restart, and until then so does what hangs on it: leases that name no type keep
// the one they had, and leases of another Network, unless it is a wider one, are not looked at. An edit of one file reaches all hosts at once, and
// must not cut them off.

import { type Condition, condition } from '../../core/conditions.js';
import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { field, parseJson } from '../../config/go-json.js';
import { type NetworkConfig, networkConfigFromValue } from '../../config/network-config.js';
import { OverlayError } from '../../core/errors.js';
import { type Ipv4Lease, leaseBackend } from '../../lease/lease.js';
import { formatIpv4, type Ipv4, parseIpv4 } from '../../net/ipv4.js';
import {
  formatPrefix,
  parsePrefix,
  type Prefix,
  prefixCovers,
  prefixEquals,
  prefixesOverlap,
} from '../../net/prefix.js';
import type { Logger } from '../../core/log.js';
import type { AcquireRequest, LeaseStore, StoreListener } from '../store.js';

// An editor writes a file in several steps; a reader that is too quick sees half of it.
const DEBOUNCE_MS = 50;
// For file systems that report no events, and for a directory that was replaced.
const POLL_MS = 2_000;
// 65,536 leases of some 60 bytes.
const MAX_FILE_BYTES = 16 << 20;

interface Table {
  readonly text: string;
  readonly config: NetworkConfig;
  readonly leases: readonly Ipv4Lease[];
}

export class StaticStore implements LeaseStore {
  readonly kind = 'static';
  readonly #path: string;
  readonly #log: Logger;
  /** The config that the daemon runs with. */
  #inForce: NetworkConfig | undefined;
  #table: Table | undefined;
  #fault: string | undefined;
  #ownFault: string | undefined;
  #own: { subnet: Prefix; publicIp: Ipv4 } | undefined;
  #listener: StoreListener | undefined;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #debounce: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(path: string, log: Logger) {
    this.#path = resolve(path);
    this.#log = log;
  }

  async readConfig(): Promise<NetworkConfig> {
    this.#table = await readTable(this.#path);
    this.#inForce = this.#table.config;
    return this.#table.config;
  }

  acquire(request: AcquireRequest): Promise<Prefix> {
    const publicIp = request.host.publicIp.v4;
    const lease = this.#table!.leases.find(({ host }) => host.publicIp.v4 === publicIp);
    if (lease === undefined) {
      const message = `${this.#path}: no lease has our public IP ${formatIpv4(publicIp)}`;
      return Promise.reject(new OverlayError('E_LEASE', message));
    }
    this.#own = { subnet: lease.subnets.v4, publicIp };
    return Promise.resolve(lease.subnets.v4);
  }

  watch(listener: StoreListener): void {
    this.#listener = listener;
    listener.onLeases({ kind: 'snapshot', leases: this.#table!.leases });
    this.#watchDirectory();
    this.#poll = setInterval(() => this.#check(), POLL_MS);
  }

  conditions(): readonly Condition[] {
    const found: Condition[] = [];
    if (this.#fault !== undefined) found.push(condition('store-file', this.#fault));
    if (this.#ownFault !== undefined) found.push(condition('lease-overwritten', this.#ownFault));
    return found;
  }

  status(): Record<string, unknown> {
    return { file: this.#path, leases: this.#table?.leases.length ?? 0 };
  }

  close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#poll);
    clearTimeout(this.#debounce);
    this.#watcher?.close();
    return Promise.resolve();
  }

  // The directory, because an atomic replacement gives the name to another inode.
  #watchDirectory(): void {
    try {
      this.#watcher = watch(dirname(this.#path), (_event, name) => {
        if (name === null || name === basename(this.#path)) this.#check();
      });
      this.#watcher.on('error', () => this.#watcher?.close()); // the poll goes on
    } catch (error) {
      this.#log.warn(
        { err: error },
        `cannot watch ${dirname(this.#path)}; looking every ${POLL_MS / 1000} s`,
      );
    }
  }

  #check(): void {
    clearTimeout(this.#debounce);
    this.#debounce = setTimeout(() => void this.#reload(), DEBOUNCE_MS);
  }

  async #reload(): Promise<void> {
    let table: Table;
    try {
      table = await readTable(this.#path, this.#inForce?.backendType);
    } catch (error) {
      const fault = `${(error as Error).message}; the last good table stays in force`;
      if (!this.#isClosed && fault !== this.#fault) this.#log.error(fault);
      this.#fault = fault;
      return;
    }
    if (this.#isClosed || this.#listener === undefined) return;
    if (this.#fault !== undefined) this.#log.info(`${this.#path} is good again`);
    this.#fault = undefined;
    if (table.text === this.#table!.text) return;
    const isConfigEqual = JSON.stringify(table.config) === JSON.stringify(this.#table!.config);
    this.#table = table;
    if (!isConfigEqual) this.#listener.onConfig(table.config);
    if (!prefixCovers(table.config.network, this.#inForce!.network)) return;
    this.#checkOwn(table);
    this.#listener.onLeases({ kind: 'snapshot', leases: table.leases });
  }

  #checkOwn(table: Table): void {
    const own = this.#own!;
    const holder = table.leases.find((lease) => prefixEquals(lease.subnets.v4, own.subnet));
    this.#ownFault =
      holder?.host.publicIp.v4 === own.publicIp
        ? undefined
        : `${this.#path}: our lease ${formatPrefix(own.subnet)} for ${formatIpv4(own.publicIp)} is no longer in it; ` +
          'restart to take another';
    if (this.#ownFault !== undefined) this.#log.error(this.#ownFault);
  }
}

/** `typeInForce` is that of leases that name none; by default the config's. */
async function readTable(path: string, typeInForce?: string): Promise<Table> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OverlayError('E_FILE', `Cannot read static file ${path}: ${code}`, { cause: error });
  }
  if (text.length > MAX_FILE_BYTES) {
    throw new OverlayError('E_FILE', `${path}: ${text.length} bytes: expected at most ${MAX_FILE_BYTES}`);
  }
  let value: unknown;
  try {
    value = parseJson(text, { maxBytes: MAX_FILE_BYTES });
  } catch (error) {
    throw new OverlayError('E_CONFIG', `${path}: ${(error as Error).message}`, { cause: error });
  }
  const config = networkConfigFromValue(field(value, 'config'), `${path}: config`);
  const defaultType = typeInForce ?? config.backendType;
  return { text, config, leases: readLeases(field(value, 'leases'), config, defaultType, path) };
}

function readLeases(value: unknown, config: NetworkConfig, defaultType: string, path: string): Ipv4Lease[] {
  if (!Array.isArray(value)) {
    throw new OverlayError(
      'E_CONFIG',
      `${path}: leases is ${JSON.stringify(value) ?? 'missing'}: expected an array`,
    );
  }
  const leases = value.map((item: unknown, index) =>
    readLease(item, `${path}: leases[${index}]`, defaultType),
  );
  for (const [index, { subnets }] of leases.entries()) {
    const subnet = subnets.v4;
    const where = `${path}: leases[${index}].subnet ${formatPrefix(subnet)}`;
    if (!prefixCovers(config.network, subnet) || subnet.length <= config.network.length) {
      throw new OverlayError(
        'E_CONFIG',
        `${where} is not inside the Network ${formatPrefix(config.network)}`,
      );
    }
  }
  const overlap = findOverlap(leases);
  if (overlap !== undefined) {
    const [a, b] = overlap.map((lease) => formatPrefix(lease.subnets.v4));
    throw new OverlayError('E_CONFIG', `${path}: leases: subnets ${a} and ${b} overlap`);
  }
  return leases;
}

function readLease(value: unknown, where: string, defaultType: string): Ipv4Lease {
  const text = (name: string): string => {
    const found = field(value, name);
    if (typeof found === 'string') return found;
    throw new OverlayError(
      'E_CONFIG',
      `${where}.${name} is ${JSON.stringify(found) ?? 'missing'}: expected a string`,
    );
  };
  const subnet = parsePrefix(text('subnet'));
  if (subnet === undefined) {
    throw new OverlayError(
      'E_CONFIG',
      `${where}.subnet is "${text('subnet')}": expected a network such as 10.5.1.0/24`,
    );
  }
  const publicIp = parseIpv4(text('publicIP'));
  if (publicIp === undefined) {
    throw new OverlayError(
      'E_CONFIG',
      `${where}.publicIP is "${text('publicIP')}": expected an IPv4 address`,
    );
  }
  // A lease of the udp type carries no type at all.
  const unnamed = defaultType === 'udp' ? '' : defaultType;
  const backendType = field(value, 'backendType') === undefined ? unnamed : text('backendType');
  const backendData = field(value, 'backendData');
  const host = { publicIp: { v4: publicIp }, backend: leaseBackend(backendType, backendData) };
  return { id: formatPrefix(subnet), subnets: { v4: subnet }, host, seniority: undefined };
}

/** Two leases that share addresses. Sorted by address, an overlap shows between neighbours. */
function findOverlap(leases: readonly Ipv4Lease[]): [Ipv4Lease, Ipv4Lease] | undefined {
  const sorted = [...leases].sort(
    ({ subnets: { v4: a } }, { subnets: { v4: b } }) => a.address - b.address || a.length - b.length,
  );
  for (let i = 1; i < sorted.length; i++) {
    if (prefixesOverlap(sorted[i - 1].subnets.v4, sorted[i].subnets.v4)) return [sorted[i - 1], sorted[i]];
  }
  return undefined;
}
