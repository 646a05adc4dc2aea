// A store under test with a listener that models the table, and the small language the fault tests are written in.

import pino from 'pino';
import type { EtcdStoreOptions } from '../../src/store/etcd/etcd-store.js';
import { EtcdStore } from '../../src/store/etcd/etcd-store.js';
import type { EtcdMembership } from '../../src/store/etcd/membership.js';
import type { EtcdTuning } from '../../src/store/etcd/shared.js';
import type { NetworkConfig } from '../../src/config/network-config.js';
import { type Lease, type LeaseHost, type LeaseUpdate } from '../../src/lease/lease.js';
import { formatLeaseValue } from '../../src/lease/lease-codec.js';
import { formatPrefix, type Prefix } from '../../src/net/prefix.js';
import type { OverlayError } from '../../src/core/errors.js';
import type { MembershipListener } from '../../src/store/store.js';
import type { EtcdServer } from './etcd-server.js';
import { hostOf, type HostWords } from './leases.js';

export const PREFIX = '/coreos.com/network';
export const NETWORK = '{"Network":"10.5.0.0/16","SubnetLen":24,"Backend":{"Type":"udp"}}';
export { textsOf as reasonsOf } from './conditions.js';

/** Canary: must never occur in a log or a degraded reason. */
export const PASSWORD = 'canary-pa55word';

/** Log lines of a store, parsed. */
export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export class Recorder implements MembershipListener {
  /** By subnet. */
  readonly table = new Map<string, Lease>();
  /** Subnets by id, which is all that a delete tells. */
  readonly #subnets = new Map<string, string>();
  readonly configs: NetworkConfig[] = [];
  readonly lost: string[] = [];
  readonly updates: LeaseUpdate[] = [];
  snapshots = 0;
  puts = 0;
  deletes = 0;
  onUpdate: (update: LeaseUpdate) => void = () => undefined;

  onLeases(update: LeaseUpdate): void {
    this.updates.push(update);
    if (update.kind === 'snapshot') {
      this.snapshots++;
      this.table.clear();
      for (const lease of update.leases) this.#put(lease);
    } else {
      for (const event of update.events) {
        if (event.kind === 'put') {
          this.puts++;
          this.#put(event.lease);
        } else {
          this.deletes++;
          this.table.delete(this.#subnets.get(event.id)!);
        }
      }
    }
    this.onUpdate(update);
  }

  #put(lease: Lease): void {
    const subnet = formatPrefix(lease.subnets.v4!);
    this.table.set(subnet, lease);
    this.#subnets.set(lease.id, subnet);
  }

  onConfig(config: NetworkConfig): void {
    this.configs.push(config);
  }

  onConfirmed(): void {
    throw new Error('no table was used');
  }

  onOutdated(): void {
    throw new Error('no table was used');
  }

  onOwnLeaseLost({ message }: OverlayError): void {
    this.lost.push(message);
  }

  /** "10.5.1.0/24 <value>" lines, sorted. */
  lines(): string[] {
    return [...this.table.values()]
      .map((lease) => `${formatPrefix(lease.subnets.v4!)} ${formatLeaseValue(lease.host)}`)
      .sort();
  }
}

/** What a host has of a store: its membership, which is closed with the store. */
export type Joined = Pick<EtcdMembership, 'own' | 'publish' | 'conditions' | 'metrics' | 'status' | 'close'>;

export interface Fixture {
  readonly store: Joined;
  readonly recorder: Recorder;
  readonly log: LogLine[];
  readonly subnet: Prefix;
}

export const FAST: Partial<EtcdTuning> = { progressMs: 1000, resyncMs: 60_000, recheckMs: 1000 };

export interface FixtureOptions {
  readonly endpoints: string;
  readonly publicIp?: string;
  readonly previousSubnet?: Prefix;
  readonly tuning?: Partial<EtcdTuning>;
  readonly store?: Partial<EtcdStoreOptions>;
  readonly host?: Omit<HostWords, 'publicIp'>;
}

/** An EtcdStore that only was constructed, with its log captured. */
export function makeStore(options: FixtureOptions): { store: EtcdStore; log: LogLine[] } {
  const log: LogLine[] = [];
  const formatters = { level: (label: string) => ({ level: label }) };
  const logger = pino(
    { level: 'debug', formatters },
    { write: (line: string) => log.push(JSON.parse(line) as LogLine) },
  );
  const store = new EtcdStore({
    endpoints: options.endpoints,
    prefix: PREFIX,
    tls: { keyFile: '', certFile: '', caFile: '' },
    username: '',
    password: '',
    renewMarginMinutes: 60,
    tablePath: undefined,
    log: logger,
    tuning: { ...FAST, ...options.tuning },
    ...options.store,
  });
  return { store, log };
}

/** A member of the network that `store` tells of; closes it with itself. */
export async function joinStore(
  store: EtcdStore,
  options: Pick<FixtureOptions, 'publicIp' | 'host' | 'previousSubnet'>,
  signal: AbortSignal,
  listener?: MembershipListener,
): Promise<Joined> {
  const network = await store.readConfig(signal);
  const { previousSubnet } = options;
  const member = await network.join(
    { host: ownHostOf(options), previousSubnets: previousSubnet && { v4: previousSubnet } },
    signal,
  );
  if (listener !== undefined) member.watch(listener);
  return {
    own: member.own,
    publish: (host) => member.publish(host),
    conditions: () => member.conditions(),
    metrics: () => member.metrics(),
    status: () => member.status(),
    close: async () => {
      await member.close();
      store.close();
    },
  };
}

/** A store that has its lease and watches. */
export async function startStore(options: FixtureOptions): Promise<Fixture> {
  const { store: opened, log } = makeStore(options);
  const recorder = new Recorder();
  const store = await joinStore(opened, options, AbortSignal.timeout(20_000), recorder);
  await until(() => recorder.snapshots > 0 && store.status().watchEstablished, 'first snapshot and watch');
  return { store, recorder, log, subnet: store.own.v4! };
}

export function ownHostOf(options: Pick<FixtureOptions, 'publicIp' | 'host'>): LeaseHost {
  return hostOf({ publicIp: options.publicIp ?? '172.20.0.1', ...options.host });
}

/** Waits until `condition` holds; fails naming `what` after `timeoutMs`. Resolves to the ms it took. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 15_000,
): Promise<number> {
  const startedAtMs = performance.now();
  while (!(await condition())) {
    if (performance.now() - startedAtMs > timeoutMs)
      throw new Error(`timed out after ${timeoutMs} ms waiting for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return performance.now() - startedAtMs;
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function putConfig(server: EtcdServer, text = NETWORK): Promise<void> {
  await server.ctl('put', `${PREFIX}/config`, text);
}

export function leaseValue(publicIp: string): string {
  return `{"PublicIP":"${publicIp}","PublicIPv6":null}`;
}

export async function putLease(server: EtcdServer, name: string, publicIp: string): Promise<void> {
  await server.ctl('put', `${PREFIX}/subnets/${name}`, leaseValue(publicIp));
}

/** Many operations in transactions of at most 100 (etcd's limit is 128). */
export async function txn(server: EtcdServer, operations: readonly string[]): Promise<void> {
  for (let i = 0; i < operations.length; i += 100) {
    await server.ctlInput(`\n${operations.slice(i, i + 100).join('\n')}\n\n\n`, 'txn');
  }
}

/** What a fresh list shows, as Recorder.lines(): the verdict after every fault. */
export async function listed(server: EtcdServer): Promise<string[]> {
  const out = await server.ctl('get', '--prefix', `${PREFIX}/subnets/`);
  const rows = out.split('\n');
  const lines: string[] = [];
  for (let i = 0; i + 1 < rows.length; i += 2) {
    lines.push(`${rows[i].slice(`${PREFIX}/subnets/`.length).replace('-', '/')} ${rows[i + 1]}`);
  }
  return lines.sort();
}

/** Waits until the modelled table equals a fresh list. */
export async function converged(server: EtcdServer, recorder: Recorder, timeoutMs = 15_000): Promise<number> {
  return until(
    async () => JSON.stringify(recorder.lines()) === JSON.stringify(await listed(server)),
    'table equals a fresh list',
    timeoutMs,
  );
}
