// The way to etcd: one session at a time to one of the endpoints, made again whenever it proves bad.
//
//        ┌──────────── a fault that speaks against it, new certificates, another public IP ────────────┐
//        ▼                                                                                             │
//   no session ─ somebody calls ─► Connector.connect(), again and again after 25 ms to 2 s ─► session ─┘
//
// A session sticks to the endpoint that answered. All callers wait for the same attempt, so an absent etcd is probed
// once, however many loops wait for it.

import type { EtcdProxy } from '../../config/options.js';
import { type Condition, condition } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import { Backoff, type Clock, orAbort, sleep } from '../../core/waiting.js';
import type { EtcdStatus } from '../../ops/status.js';
import { MAX_BACKOFF_MS, MIN_BACKOFF_MS, openEtcd3 } from './client.js';
import type { EtcdClient, EtcdUser, OpenClient } from './client.js';
import { type Connected, Connector } from './connector.js';
import type { Endpoint } from './endpoints.js';
import { EtcdFault, toFault } from './faults.js';
import { alarmsOf, type OpenSession, type Session } from './session.js';
import type { TlsFiles } from './tls-files.js';
import { TlsKeeper } from './tls-keeper.js';
import { adoptUpperCase } from './web-proxy.js';

const RECHECK_MS = 30_000; // certificate files and alarms

export interface ConnectionOptions {
  readonly endpoints: readonly Endpoint[];
  readonly tls: TlsFiles;
  readonly auth: EtcdUser | undefined;
  readonly proxy: EtcdProxy;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  /** @default 30000 */
  readonly recheckMs?: number;
  /** @default openEtcd3 */
  readonly openClient?: OpenClient;
}

/** What a long-lived watch needs of the connection. */
export interface SessionSource {
  session(signal: AbortSignal): Promise<Session>;
  report(session: Session, fault: EtcdFault): void;
}

/** See the head of this file. */
export class EtcdConnection implements SessionSource {
  readonly #options: ConnectionOptions;
  readonly #backoff: Backoff;
  readonly #tls: TlsKeeper;
  readonly #connector: Connector;
  readonly #closing = new AbortController();
  #session: OpenSession | undefined;
  #connecting: Promise<OpenSession> | undefined;
  #sessionsOpened = 0;
  /** The fault that was said last, until the next connection. */
  #said = '';
  #fault: EtcdFault | undefined;
  #alarms: readonly string[] = [];
  #cancelRecheck: () => void = () => undefined;

  /** Throws OverlayError E_USAGE or E_FILE when the certificate files cannot be used at all. */
  constructor(options: ConnectionOptions) {
    const { endpoints, tls, auth, proxy, log, clock, random, openClient = openEtcd3 } = options;
    this.#options = options;
    this.#backoff = new Backoff(MIN_BACKOFF_MS, MAX_BACKOFF_MS, random);
    this.#tls = new TlsKeeper(tls, log);
    this.#connector = new Connector({
      ...{ endpoints, proxy, log, clock, openClient },
      user: auth,
      tls: this.#tls,
    });
    if (proxy === 'environment') adoptUpperCase(process.env);
    this.#scheduleRecheck();
  }

  /** The session in use, or the next one; waits for ever, until `signal` aborts or the connection is closed. */
  session(signal: AbortSignal): Promise<OpenSession> {
    if (this.#session !== undefined) return Promise.resolve(this.#session);
    this.#connecting ??= this.#connect().finally(() => (this.#connecting = undefined));
    return orAbort(this.#connecting, signal);
  }

  /**
   * One attempt of one call on the current session. Rejects with EtcdFault; a fault of the connection closes the
   * session, so that the next attempt uses another. Rejects with the signal's reason when that aborts first: the call
   * may still be executed.
   */
  async call<T>(action: string, signal: AbortSignal, run: (client: EtcdClient) => Promise<T>): Promise<T> {
    const session = await this.session(signal);
    try {
      const result = await session.call(signal, run);
      this.#backoff.reset();
      return result;
    } catch (error) {
      if (signal.aborted) throw error;
      const fault = toFault(error, action, session.endpoint.url);
      this.report(session, fault);
      throw fault;
    }
  }

  /** Tells that `session` met `fault`; it is closed when the fault speaks against it. */
  report(session: Session, fault: EtcdFault): void {
    if (fault.kind === 'no-space') this.#alarms = ['NOSPACE'];
    if (!fault.breaksSession || this.#session !== session) return;
    this.#drop(fault);
    if (fault.kind !== 'token' && fault.kind !== 'auth') this.#connector.passOver(session.endpoint);
  }

  get isConnected(): boolean {
    return this.#session !== undefined;
  }

  /** Why etcd cannot be used fully right now; empty when it can. */
  conditions(): readonly Condition[] {
    const found: Condition[] = [];
    if (this.#session === undefined && this.#fault !== undefined) {
      const text = `etcd ${FAULT_WORDS[this.#fault.kind] ?? 'failed'}: ${this.#fault.message}`;
      found.push(condition('store-unreachable', text));
    }
    found.push(...this.#tls.conditions());
    for (const alarm of this.#alarms)
      found.push(condition('store-alarm', `etcd alarm ${alarm}: writes are refused until it is disarmed`));
    return found;
  }

  status(): Pick<EtcdStatus, 'endpoints' | 'connectedTo' | 'sessionsOpened'> {
    return {
      endpoints: this.#options.endpoints.map((endpoint) => endpoint.url),
      connectedTo: this.#session?.endpoint.url ?? null,
      sessionsOpened: this.#sessionsOpened,
    };
  }

  /** The host's address changed: a connection from the one before hears nothing more, and only a timeout would tell. */
  renew(): void {
    if (this.#session === undefined) return;
    this.#options.log.info('public IP changed: connecting to etcd again');
    this.#drop(new EtcdFault('closed', 'the public IP of this host changed'));
  }

  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#cancelRecheck();
    const fault = new EtcdFault('closed', 'etcd connection closed');
    this.#closing.abort(fault);
    this.#drop(fault);
  }

  #drop(fault: EtcdFault): void {
    const session = this.#session;
    this.#session = undefined;
    // A token or a password that was renewed is no outage; what stays is said by the next attempt.
    const isOutage = fault.kind !== 'token' && fault.kind !== 'auth' && fault.kind !== 'closed';
    if (session !== undefined && isOutage) this.#sayFault(fault);
    this.#fault = fault;
    this.#connector.useUserAgain();
    session?.close(fault);
  }

  async #connect(): Promise<OpenSession> {
    const closing = this.#closing.signal;
    for (;;) {
      closing.throwIfAborted();
      // Also the first attempt after a loss waits its 25 to 50 ms: a member that accepts and fails is no busy loop.
      if (this.#fault !== undefined) await sleep(this.#options.clock, this.#backoff.next(), closing);
      try {
        return this.#adopt(await this.#connector.connect(closing));
      } catch (error) {
        if (closing.aborted) throw error;
        this.#fault = toFault(error, 'Cannot connect', 'etcd');
        this.#sayFault(this.#fault);
      }
    }
  }

  #adopt({ session, alarms }: Connected): OpenSession {
    if (this.#closing.signal.aborted) session.close(new EtcdFault('closed', 'not needed'));
    this.#closing.signal.throwIfAborted();
    this.#session = session;
    this.#alarms = alarms ?? this.#alarms;
    this.#sessionsOpened++;
    this.#sayConnected(session.endpoint.url);
    return session;
  }

  /** Once per cause, not per attempt. */
  #sayFault(fault: EtcdFault): void {
    if (fault.message !== this.#said) this.#options.log.warn({ kind: fault.kind }, fault.message);
    this.#said = fault.message;
  }

  /** The first connection, and the end of each loss that was said. */
  #sayConnected(endpoint: string): void {
    if (this.#sessionsOpened === 1) this.#options.log.info({ endpoint }, 'connected to etcd');
    else if (this.#said !== '') this.#options.log.info({ endpoint }, 'connected to etcd again');
    this.#said = '';
  }

  #scheduleRecheck(): void {
    const jitter = 0.9 + 0.2 * this.#options.random();
    this.#cancelRecheck = this.#options.clock.after((this.#options.recheckMs ?? RECHECK_MS) * jitter, () => {
      void this.#recheck().finally(() => {
        if (!this.#closing.signal.aborted) this.#scheduleRecheck();
      });
    });
  }

  async #recheck(): Promise<void> {
    if (this.#tls.reload()) {
      this.#options.log.info('etcd certificates changed: connecting again with the new ones');
      this.#drop(new EtcdFault('closed', 'etcd certificates changed'));
      return;
    }
    const session = this.#session;
    if (session === undefined) return;
    try {
      const status = await this.call('Cannot ask for the status', this.#closing.signal, (client) =>
        client.maintenance.status(),
      );
      this.#alarms = alarmsOf(session.endpoint, status);
    } catch (error) {
      // call() has recorded a fault of the connection; a server that refuses Status just shows no alarms.
      if (error instanceof EtcdFault) this.report(session, error);
      this.#options.log.debug({ error: (error as Error).message }, 'etcd status not read');
    }
  }
}

const FAULT_WORDS: Partial<Record<EtcdFault['kind'], string>> = {
  unreachable: 'unreachable',
  timeout: 'does not answer',
  tls: 'TLS failed',
  auth: 'authentication failed',
  token: 'authentication token refused',
  permission: 'permission denied',
  'no-leader': 'has no leader',
};
