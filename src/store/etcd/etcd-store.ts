// The etcd store: leases and network config under --etcd-prefix, shared with real flanneld.
//
//   readConfig ─► acquire ─► watch ─┬─ RangeMirror <prefix>/subnets ─► LeaseTable ─► onLeases, saved table
//                                   │                              └─► OwnLease (renewal, alarms, loss)
//                                   └─ RangeMirror <prefix>/config  ─► onConfig
//
// All of them share one EtcdConnection. What each class guarantees stands in its own head; docs/etcd.md tells the whole
// for operators.

import { type Condition, type ConditionCode, condition } from '../../core/conditions.js';
import { parseNetworkConfig } from '../../config/network-config.js';
import type { NetworkConfig } from '../../config/network-config.js';
import type { EtcdProxy } from '../../config/options.js';
import { OverlayError } from '../../core/errors.js';
import type { Ipv4LeaseHost } from '../../lease/lease.js';
import type { Ipv4 } from '../../net/ipv4.js';
import type { Prefix } from '../../net/prefix.js';
import type { Logger } from '../../core/log.js';
import type { AcquireRequest, CachedTable, LeaseStore, StoreListener } from '../store.js';
import { loadPublicIp, loadTable, TableCache } from '../table-cache.js';
import type { SavedTable } from '../table-cache.js';
import { acquireLease } from './acquire.js';
import type { Acquired } from './acquire.js';
import { ConfigWatch } from './config-watch.js';
import { EtcdConnection } from './connection.js';
import { parseEndpoints } from './endpoints.js';
import type { Endpoint } from './endpoints.js';
import { EtcdKv } from './etcd-kv.js';
import type { KvEntry } from './etcd-kv.js';
import { EtcdFault } from './faults.js';
import { keyLayout, showKey } from './keys.js';
import type { KeyLayout } from './keys.js';
import { leaseKeyId, trimEntry } from './lease-entry.js';
import { LeaseTable } from './lease-table.js';
import type { MirrorEvent } from './mirror-diff.js';
import { OwnLease } from './own-lease.js';
import { acceptsConnection } from './reachability.js';
import { RangeMirror } from './range-mirror.js';
import { storeCounters } from './store-counters.js';
import { hasTlsFiles } from './tls-files.js';
import type { TlsFiles } from './tls-files.js';
import { Backoff, MONOTONIC_CLOCK, sleep } from '../../core/waiting.js';
import type { Clock } from '../../core/waiting.js';
import type { MetricFamily } from '../../core/metric.js';

export interface EtcdStoreOptions {
  /** --etcd-endpoints as given. */
  readonly endpoints: string;
  /** --etcd-prefix. */
  readonly prefix: string;
  readonly tls: TlsFiles;
  /** --etcd-username and --etcd-password; "" for none. */
  readonly username: string;
  readonly password: string;
  /** --etcd-proxy. @default 'off' */
  readonly proxy?: EtcdProxy;
  /** --subnet-lease-renew-margin. */
  readonly renewMarginMinutes: number;
  /** Where the last good table is kept; undefined: nowhere. */
  readonly tablePath: string | undefined;
  readonly log: Logger;
  /** For tests: what is fixed in production. */
  readonly tuning?: Partial<EtcdTuning>;
}

export interface EtcdTuning {
  /** flannel's lease lifetime. */
  readonly leaseTtlSeconds: number;
  /** Silence on a watch after which the server is asked for a sign of life, and time for its answer. */
  readonly progressMs: number;
  /** Between two comparisons of a watched range with a fresh list. */
  readonly resyncMs: number;
  /** How long leases that vanished with a wiped store are kept. */
  readonly graceMs: number;
  /** Between two looks at certificate files and alarms. */
  readonly recheckMs: number;
  readonly clock: Clock;
  readonly random: () => number;
}

const DEFAULT_TUNING: EtcdTuning = {
  leaseTtlSeconds: 86_400,
  progressMs: 5000,
  resyncMs: 300_000,
  graceMs: 600_000,
  recheckMs: 30_000,
  clock: MONOTONIC_CLOCK,
  random: Math.random,
};

const AWAY_AFTER_MS = 50;
const CONFIG_RETRY_MS = 1000; // flannel asks once a second

/** See the head of this file, and LeaseStore for the order of calls. */
export class EtcdStore implements LeaseStore {
  readonly kind = 'etcd';
  readonly #options: EtcdStoreOptions;
  readonly #tuning: EtcdTuning;
  readonly #log: Logger;
  readonly #layout: KeyLayout;
  readonly #endpoints: readonly Endpoint[];
  readonly #connection: EtcdConnection;
  readonly #kv: EtcdKv;
  readonly #closing = new AbortController();
  readonly #cache: TableCache | undefined;
  #configText: string | undefined;
  #configProblem: Condition | undefined;
  #acquireProblem: string | undefined;
  /** The public IP that was published last, or tried to be; the connection has been made anew for it. */
  #publishedFrom: Ipv4 | undefined;
  #request: AcquireRequest | undefined;
  #acquired: Acquired | undefined;
  #usesCache: CachedTable | undefined;
  /** undefined: the saved table was not looked at. */
  #savedId: bigint | undefined;
  #leases: RangeMirror | undefined;
  #config: ConfigWatch | undefined;
  #table: LeaseTable | undefined;
  #own: OwnLease | undefined;
  #closed: Promise<void> | undefined;

  /** Throws OverlayError E_USAGE or E_FILE for options that can never work. Contacts nobody. */
  constructor(options: EtcdStoreOptions) {
    this.#options = options;
    this.#tuning = { ...DEFAULT_TUNING, ...options.tuning };
    this.#log = options.log;
    this.#layout = keyLayout(options.prefix);
    if ((options.username === '') !== (options.password === '')) {
      throw new OverlayError(
        'E_USAGE',
        'Cannot use only one of --etcd-username and --etcd-password: both are needed',
      );
    }
    this.#endpoints = parseEndpoints(options.endpoints, hasTlsFiles(options.tls));
    this.#connection = new EtcdConnection({
      endpoints: this.#endpoints,
      tls: options.tls,
      auth: options.username === '' ? undefined : { username: options.username, password: options.password },
      proxy: options.proxy ?? 'off',
      log: options.log,
      clock: this.#tuning.clock,
      random: this.#tuning.random,
      recheckMs: this.#tuning.recheckMs,
    });
    this.#kv = new EtcdKv(this.#connection);
    this.#cache =
      options.tablePath === undefined ? undefined : new TableCache(options.tablePath, options.log);
  }

  async isAway(): Promise<boolean> {
    return !(await acceptsConnection(this.#endpoints, AWAY_AFTER_MS));
  }

  cached(): CachedTable | undefined {
    const { tablePath } = this.#options;
    if (tablePath === undefined) return undefined;
    const saved = loadTable(tablePath, this.#source, this.#log);
    this.#savedId = saved?.ownLeaseId ?? 0n;
    if (saved === undefined) return undefined;
    try {
      const config = parseNetworkConfig(saved.configText, `saved table "${tablePath}"`);
      const { ownSubnet, ownHost, leases, savedAt } = saved;
      this.#usesCache = { config, ownSubnet, ownHost, leases, savedAt };
    } catch (error) {
      this.#log.warn({ path: tablePath }, `ignoring saved lease table: ${(error as Error).message}`);
    }
    return this.#usesCache;
  }

  formerPublicIp(): Ipv4 | undefined {
    const { tablePath } = this.#options;
    return tablePath === undefined ? undefined : loadPublicIp(tablePath, this.#source);
  }

  async readConfig(signal: AbortSignal): Promise<NetworkConfig> {
    const until = AbortSignal.any([signal, this.#closing.signal]);
    const key = showKey(this.#layout.configKey);
    const backoff = new Backoff(50, CONFIG_RETRY_MS, this.#tuning.random);
    for (;;) {
      try {
        const entry = await this.#kv.get(this.#layout.configKey, until);
        if (entry !== undefined) {
          if (entry.value === undefined)
            throw new OverlayError(
              'E_CONFIG',
              `Cannot use network config at "${key}": ${entry.valueBytes} bytes are too many`,
            );
          const config = parseNetworkConfig(entry.value, `etcd key "${key}"`);
          this.#configText = entry.value;
          this.#configProblem = undefined;
          return config;
        }
        this.#noteConfigProblem(
          'config-missing',
          `no network config in etcd at "${key}" (written with the v3 API?): waiting for it`,
        );
        await sleep(this.#tuning.clock, CONFIG_RETRY_MS, until);
      } catch (error) {
        if (until.aborted || !(error instanceof EtcdFault)) throw error;
        this.#noteConfigProblem('starting', `network config not read: ${error.message}`);
        await sleep(this.#tuning.clock, backoff.next(), until);
      }
    }
  }

  async acquire(request: AcquireRequest, signal: AbortSignal): Promise<Prefix> {
    const until = AbortSignal.any([signal, this.#closing.signal]);
    const { clock, random, leaseTtlSeconds } = this.#tuning;
    const savedLeaseId = (): bigint => this.#savedLeaseId();
    const shared = { kv: this.#kv, layout: this.#layout, log: this.#log, clock, random };
    const context = { ...shared, leaseTtlSeconds, savedLeaseId };
    const backoff = new Backoff(50, 5000, random);
    for (;;) {
      try {
        this.#acquired = await acquireLease(context, request, until);
        this.#request = request;
        this.#acquireProblem = undefined;
        return this.#acquired.subnet;
      } catch (error) {
        if (until.aborted || !(error instanceof EtcdFault)) throw error;
        const problem = `no lease acquired yet: ${error.message}`;
        if (problem !== this.#acquireProblem) this.#log.warn({ kind: error.kind }, problem);
        this.#acquireProblem = problem;
        await sleep(clock, backoff.next(), until);
      }
    }
  }

  watch(listener: StoreListener): void {
    const acquired = this.#acquired;
    const request = this.#request;
    if (acquired === undefined || request === undefined) throw new TypeError('watch() before acquire()');
    if (this.#leases !== undefined) throw new TypeError('watch() called twice');
    const { clock, random, progressMs, resyncMs, graceMs, leaseTtlSeconds } = this.#tuning;
    const shared = {
      connection: this.#connection,
      kv: this.#kv,
      log: this.#log,
      clock,
      random,
      progressMs,
      resyncMs,
    };
    this.#table = new LeaseTable({
      layout: this.#layout,
      log: this.#log,
      clock,
      graceMs,
      emit: (update) => {
        if (update.kind === 'snapshot') this.#usesCache = undefined;
        listener.onLeases(update);
        this.#cache?.changed(() => this.#tableToSave());
      },
    });
    this.#own = new OwnLease({
      kv: this.#kv,
      layout: this.#layout,
      log: this.#log,
      clock,
      random,
      leaseTtlSeconds,
      renewMarginMs: this.#options.renewMarginMinutes * 60_000,
      network: request.config.network,
      subnet: acquired.subnet,
      host: request.host,
      own: acquired.own,
      onWritten: () => this.#cache?.changed(() => this.#tableToSave()),
      onLost: (reason) => listener.onOwnLeaseLost(reason),
    });
    this.#leases = new RangeMirror({
      ...shared,
      range: this.#layout.leaseRange,
      trimming: {
        id: (key) => leaseKeyId(this.#layout, key),
        entry: (entry) => trimEntry(this.#layout, entry),
      },
      listener: {
        onSnapshot: (entries) => this.#onSnapshot(entries),
        onEvents: (events) => this.#onEvents(events),
      },
    });
    this.#config = new ConfigWatch({
      ...shared,
      range: this.#layout.configRange,
      knownText: this.#configText,
      onConfig: (config, text) => {
        this.#configText = text;
        this.#cache?.changed(() => this.#tableToSave());
        listener.onConfig(config);
      },
    });
  }

  async publish(host: Ipv4LeaseHost): Promise<void> {
    if (this.#own === undefined || this.#request === undefined)
      throw new TypeError('publish() before watch()');
    // Once for each change: a reservation refuses for as long as it stands, and is asked again and again.
    const publicIp = host.publicIp.v4;
    const before = this.#publishedFrom ?? this.#request.host.publicIp.v4;
    this.#publishedFrom = publicIp;
    if (publicIp !== before) this.#connection.renew();
    await this.#own.publish(host);
    this.#request = { ...this.#request, host };
    this.#cache?.changed(() => this.#tableToSave());
  }

  conditions(): readonly Condition[] {
    const found: Condition[] = this.#connection.conditions();
    const add = (code: ConditionCode, text: string | undefined): void => {
      // What holds up one thing holds up the next: the first says it.
      if (text !== undefined && !found.some((known) => known.text.includes(text)))
        found.push(condition(code, text));
    };
    if (this.#usesCache !== undefined)
      add(
        'saved-table',
        `lease table of ${this.#usesCache.savedAt} in use: etcd has not answered yet, or not with a valid config`,
      );
    if (this.#configProblem !== undefined) add(this.#configProblem.code, this.#configProblem.text);
    add('lease-not-acquired', this.#acquireProblem);
    found.push(...(this.#own?.conditions() ?? []));
    // Without a connection the watches are down for the reason that stands above already.
    if (this.#connection.isConnected) add('store-watch-down', this.#leases?.fault ?? this.#config?.fault);
    add('config-invalid', this.#config?.problem);
    found.push(...(this.#table?.conditions() ?? []), ...(this.#cache?.conditions() ?? []));
    return found;
  }

  status(): Record<string, unknown> {
    return {
      ...this.#connection.status(),
      prefix: this.#layout.prefix,
      ownLease: this.#own?.status() ?? null,
      revision: String(this.#leases?.revision ?? 0n),
      watchEstablished: this.#leases?.isLive ?? false,
      leases: this.#table?.size ?? 0,
      badKeys: this.#table?.badKeys.current ?? 0,
      badKeyList: this.#table?.listBadKeys() ?? [],
    };
  }

  metrics(): readonly MetricFamily[] {
    return storeCounters({ mirror: this.#leases?.counters, own: this.#own?.counters, table: this.#table });
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort(new EtcdFault('closed', 'etcd store closed'));
    await Promise.all([this.#own?.close(), this.#leases?.close(), this.#config?.close()]);
    await this.#cache?.close();
    this.#table?.close();
    this.#connection.close();
  }

  /** What tells one overlay from another: the public IP inside the table does the rest. */
  get #source(): string {
    return `etcd:${this.#layout.prefix}`;
  }

  #onSnapshot(entries: ReadonlyMap<string, KvEntry>): void {
    this.#own!.observe(entries.get(this.#own!.key));
    this.#table!.applySnapshot(entries);
  }

  #onEvents(events: readonly MirrorEvent[]): void {
    this.#log.debug({ events: events.length, revision: String(this.#leases?.revision ?? 0n) }, 'watch');
    const ownKey = this.#own!.key;
    for (const event of events) {
      if (event.kind === 'put') {
        if (event.entry.key === ownKey) this.#own!.observe(event.entry);
      } else if (event.key === ownKey) this.#own!.observe(undefined);
    }
    this.#table!.applyEvents(events);
  }

  #savedLeaseId(): bigint {
    const { tablePath } = this.#options;
    if (tablePath === undefined) return 0n;
    this.#savedId ??= loadTable(tablePath, this.#source, this.#log)?.ownLeaseId ?? 0n;
    return this.#savedId;
  }

  #noteConfigProblem(code: ConditionCode, text: string): void {
    if (text !== this.#configProblem?.text) this.#log.warn(text);
    this.#configProblem = condition(code, text);
  }

  #tableToSave(): SavedTable | undefined {
    if (this.#configText === undefined || this.#acquired === undefined || this.#request === undefined)
      return undefined;
    return {
      source: this.#source,
      savedAt: new Date().toISOString(),
      configText: this.#configText,
      ownSubnet: this.#acquired.subnet,
      ownHost: this.#request.host,
      ownLeaseId: this.#own?.etcdLease ?? this.#acquired.own.leaseId,
      leases: [...this.#table!.leases()],
    };
  }
}
