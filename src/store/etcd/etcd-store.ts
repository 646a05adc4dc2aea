// The etcd store: leases and network config under --etcd-prefix, shared with real flanneld.
//
//   EtcdStore ─ readConfig ─► config ─ join ─► acquire.ts ─► EtcdMembership ─┬─ OwnLease (renewal, alarms, loss)
//                                                                           └─ EtcdWatch, from watch() on
//
// All of them share one EtcdConnection. What each class guarantees stands in its own head; docs/etcd.md tells the whole
// for operators.

import { parseNetworkConfig } from '../../config/network-config.js';
import type { EtcdProxy } from '../../config/options.js';
import { type Condition, type ConditionCode, Conditions } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import { Backoff, sleep } from '../../core/waiting.js';
import type { EtcdStatus } from '../../ops/status.js';
import type { LeaseStore, Publication, SavedStart, StoredNetwork, StoreFlags } from '../store.js';
import { acquireLease } from './acquire.js';
import { EtcdConnection } from './connection.js';
import { parseEndpoints } from './endpoints.js';
import { EtcdKv } from './etcd-kv.js';
import type { KvEntry } from './etcd-kv.js';
import { EtcdFault } from './faults.js';
import { keyLayout, showKey } from './keys.js';
import { EtcdMembership, statusOf } from './membership.js';
import type { ReadConfig } from './membership.js';
import { EtcdSavedStart } from './saved-start.js';
import { addUnsaid, DEFAULT_TUNING, tableSource } from './shared.js';
import type { EtcdShared, EtcdTuning } from './shared.js';
import { storeCounters } from './store-counters.js';
import { hasTlsFiles } from './tls-files.js';
import type { TlsFiles } from './tls-files.js';

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

/** The network as etcd holds it. */
export interface EtcdNetwork extends StoredNetwork {
  join(publication: Publication, signal: AbortSignal): Promise<EtcdMembership>;
}

const CONFIG_RETRY_MS = 1000; // flannel asks once a second

/** The store that the flags tell of; throws as the constructor does. */
export function openEtcdStore({ etcd, files }: StoreFlags, log: Logger): EtcdStore {
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

/** See the head of this file. */
export class EtcdStore implements LeaseStore {
  readonly kind = 'etcd';
  readonly savedStart: SavedStart | undefined;
  readonly #shared: EtcdShared;
  readonly #closing = new AbortController();
  /** What holds up the start: under `config` and under `lease`. */
  readonly #conditions = new Conditions();
  readonly #savedLeaseId: () => bigint;

  /** Throws OverlayError E_USAGE or E_FILE for options that can never work. Contacts nobody. */
  constructor(options: EtcdStoreOptions) {
    const { tls, username, password, log, tablePath } = options;
    const tuning = { ...DEFAULT_TUNING, ...options.tuning };
    if ((username === '') !== (password === '')) {
      throw new OverlayError(
        'E_USAGE',
        'Cannot use only one of --etcd-username and --etcd-password: both are needed',
      );
    }
    const endpoints = parseEndpoints(options.endpoints, hasTlsFiles(tls));
    const connection = new EtcdConnection({
      endpoints,
      tls,
      auth: username === '' ? undefined : { username, password },
      proxy: options.proxy ?? 'off',
      log,
      clock: tuning.clock,
      random: tuning.random,
      recheckMs: tuning.recheckMs,
      openClient: tuning.openClient,
    });
    const layout = keyLayout(options.prefix);
    const renewMarginMs = options.renewMarginMinutes * 60_000;
    this.#shared = {
      ...tuning,
      connection,
      kv: new EtcdKv(connection),
      layout,
      log,
      renewMarginMs,
      tablePath,
    };
    const saved =
      tablePath === undefined
        ? undefined
        : new EtcdSavedStart({ path: tablePath, source: tableSource(layout), endpoints, log });
    this.savedStart = saved;
    this.#savedLeaseId = () => saved?.leaseId() ?? 0n;
  }

  async readConfig(signal: AbortSignal): Promise<EtcdNetwork> {
    const read = await this.#readConfig(AbortSignal.any([signal, this.#closing.signal]));
    return {
      config: read.config,
      join: (publication, joining) =>
        this.#join(read, publication, AbortSignal.any([joining, this.#closing.signal])),
    };
  }

  conditions(): readonly Condition[] {
    const found: Condition[] = [...this.#shared.connection.conditions()];
    for (const { code, text } of this.#conditions.list()) addUnsaid(found, code, text);
    return found;
  }

  metrics(): readonly MetricFamily[] {
    return storeCounters({});
  }

  status(): EtcdStatus {
    return statusOf(this.#shared);
  }

  close(): void {
    this.#closing.abort(new EtcdFault('closed', 'etcd store closed'));
    this.#shared.connection.close();
  }

  async #readConfig(until: AbortSignal): Promise<ReadConfig> {
    const { kv, layout, clock, random } = this.#shared;
    const key = showKey(layout.configKey);
    const backoff = new Backoff(50, CONFIG_RETRY_MS, random);
    for (;;) {
      try {
        const entry = await kv.get(layout.configKey, until);
        if (entry !== undefined) {
          const read = parseConfig(entry, key);
          this.#conditions.release('config');
          return read;
        }
        const text = `no network config in etcd at "${key}" (written with the v3 API?): waiting for it`;
        this.#hold('config', 'config-missing', text);
        await sleep(clock, CONFIG_RETRY_MS, until);
      } catch (error) {
        if (until.aborted || !(error instanceof EtcdFault)) throw error;
        this.#hold('config', 'starting', `network config not read: ${error.message}`);
        await sleep(clock, backoff.next(), until);
      }
    }
  }

  async #join(read: ReadConfig, publication: Publication, until: AbortSignal): Promise<EtcdMembership> {
    const { clock, random } = this.#shared;
    const context = { ...this.#shared, savedLeaseId: this.#savedLeaseId };
    const request = { config: read.config, ...publication };
    const backoff = new Backoff(50, 5000, random);
    for (;;) {
      try {
        const acquired = await acquireLease(context, request, until);
        until.throwIfAborted(); // nobody would close it
        this.#conditions.release('lease');
        return new EtcdMembership(this.#shared, read, acquired, publication.host);
      } catch (error) {
        if (until.aborted || !(error instanceof EtcdFault)) throw error;
        this.#hold('lease', 'lease-not-acquired', `no lease acquired yet: ${error.message}`);
        await sleep(clock, backoff.next(), until);
      }
    }
  }

  #hold(subject: 'config' | 'lease', code: ConditionCode, text: string): void {
    if (text !== this.#conditions.textOf(subject)) this.#shared.log.warn(text);
    this.#conditions.hold(code, text, subject);
  }
}

function parseConfig(entry: KvEntry, key: string): ReadConfig {
  if (entry.value === undefined) {
    const problem = `${entry.valueBytes} bytes are too many`;
    throw new OverlayError('E_CONFIG', `Cannot use network config at "${key}": ${problem}`);
  }
  return { config: parseNetworkConfig(entry.value, `etcd key "${key}"`), text: entry.value };
}
