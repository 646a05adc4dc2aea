// The way to etcd: one session at a time to one of the endpoints, made again whenever it proves bad.
//
// A session is one Etcd3 client for one endpoint, with one TCP connection. Several endpoints are our business, not
// etcd3's: it would pick one at random for each call, retry writes, and open a circuit breaker for 5 s. Here a session
// sticks to the endpoint that answered; a failure that speaks against the connection closes the session, and the next
// caller opens another, the endpoints being tried in turn, each 300 ms after the previous or as soon as that one fails.
// All callers wait for the same attempt, so an absent etcd is probed once, however many loops wait for it.
//
// The probe is Maintenance.Status: any user may call it, it names a member without leader, and it lists alarms. Gateways
// that do not pass it on are asked for a key instead.
// etcd3 is loaded on first use: a start from the cached table must not wait for it.

import { type Condition, condition } from '../../core/conditions.js';
import type { Interceptor } from '@grpc/grpc-js';
import type { Etcd3, IDuplexStream, IOptions, IWatchRequest, IWatchResponse } from 'etcd3';
import type { EtcdProxy } from '../../config/options.js';
import type { Logger } from '../../core/log.js';
import type { EtcdStatus } from '../../ops/status.js';
import type { Endpoint } from './endpoints.js';
import { EtcdFault, toFault } from './faults.js';
import { ProgressSupport } from './progress-support.js';
import { hasTlsFiles, readTlsFiles, tlsSignature } from './tls-files.js';
import type { TlsFiles, TlsMaterial } from './tls-files.js';
import { Backoff, orAbort, sleep } from '../../core/waiting.js';
import type { Clock } from '../../core/waiting.js';
import { adoptUpperCase, mayUseProxy } from './web-proxy.js';

/** Longest wait for the answer to one call (no request may hang longer than 5 s). */
export const CALL_TIMEOUT_MS = 5000;
const STAGGER_MS = 300; // a live endpoint answers in a few ms; a black-holed one shall not hold up the next
const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2000;
const RECHECK_MS = 30_000; // certificate files and alarms
// 32 MiB: a page of 1,000 leases of the largest accepted size is 16 MiB; a page that exceeds it is asked for in parts.
const MAX_RECEIVE_BYTES = 32 * 1024 * 1024;

export interface ConnectionOptions {
  readonly endpoints: readonly Endpoint[];
  readonly tls: TlsFiles;
  /** Never logged and never shown. */
  readonly auth: { readonly username: string; readonly password: string } | undefined;
  readonly proxy: EtcdProxy;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  /** @default 30000 */
  readonly recheckMs?: number;
}

/** etcd3's raw watch stream. */
export type WatchDuplex = IDuplexStream<IWatchRequest, IWatchResponse>;

export interface Session {
  readonly endpoint: Endpoint;
  /** Aborts, with an EtcdFault as its reason, when the session is given up. */
  readonly closed: AbortSignal;
  /** What is known of the endpoint, also from sessions before. */
  readonly progress: ProgressSupport;
  /** A watch stream, which the member ends when it loses its leader. */
  openWatch(): Promise<WatchDuplex>;
  /** Reads a key that need not exist: resolves when etcd answers, if only that we may not. */
  read(): Promise<void>;
}

/** What a long-lived watch needs of the connection. */
export interface SessionSource {
  session(signal: AbortSignal): Promise<Session>;
  report(session: Session, fault: EtcdFault): void;
}

class OpenSession implements Session {
  readonly endpoint: Endpoint;
  readonly client: Etcd3;
  readonly progress: ProgressSupport;
  readonly #requireLeader: Interceptor;
  readonly #closing = new AbortController();

  constructor(endpoint: Endpoint, client: Etcd3, progress: ProgressSupport, requireLeader: Interceptor) {
    this.endpoint = endpoint;
    this.client = client;
    this.progress = progress;
    this.#requireLeader = requireLeader;
  }

  openWatch(): Promise<WatchDuplex> {
    return this.client.watchClient.watch({ interceptors: [this.#requireLeader] });
  }

  async read(): Promise<void> {
    try {
      // Not serializable: a proxy would answer that from its memory.
      await this.client.kv.range({ key: Buffer.from([0]), limit: 1, count_only: true });
    } catch (error) {
      if (toFault(error, 'Cannot read', this.endpoint.url).kind !== 'permission') throw error;
    }
  }

  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  close(fault: EtcdFault): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(fault);
    this.client.close();
  }
}

/** See the head of this file. */
export class EtcdConnection implements SessionSource {
  readonly #options: ConnectionOptions;
  readonly #backoff: Backoff;
  readonly #closing = new AbortController();
  readonly #progress = new Map<Endpoint, ProgressSupport>();
  #session: OpenSession | undefined;
  #connecting: Promise<OpenSession> | undefined;
  #firstEndpoint = 0;
  #sessionsOpened = 0;
  /** The fault that was said last, until the next connection. */
  #said = '';
  #useAuth = true;
  #fault: EtcdFault | undefined;
  #tlsProblem: string | undefined;
  #tlsSignature = '';
  #tlsMaterial: TlsMaterial | undefined;
  #alarms: readonly string[] = [];
  #cancelRecheck: () => void = () => undefined;

  /** Throws OverlayError E_USAGE or E_FILE when the certificate files cannot be used at all. */
  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#backoff = new Backoff(MIN_BACKOFF_MS, MAX_BACKOFF_MS, options.random);
    this.#tlsSignature = tlsSignature(options.tls);
    this.#tlsMaterial = readTlsFiles(options.tls);
    if (options.proxy === 'environment') adoptUpperCase(process.env);
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
  async call<T>(action: string, signal: AbortSignal, run: (client: Etcd3) => Promise<T>): Promise<T> {
    const session = await this.session(signal);
    try {
      const result = await orAbort(
        this.#bounded(run(session.client)),
        AbortSignal.any([signal, session.closed]),
      );
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
    if (fault.kind !== 'token' && fault.kind !== 'auth') {
      this.#firstEndpoint =
        (this.#options.endpoints.indexOf(session.endpoint) + 1) % this.#options.endpoints.length;
    }
  }

  get isConnected(): boolean {
    return this.#session !== undefined;
  }

  /** Why etcd cannot be used fully right now; empty when it can. */
  conditions(): Condition[] {
    const found: Condition[] = [];
    if (this.#session === undefined && this.#fault !== undefined) {
      const text = `etcd ${FAULT_WORDS[this.#fault.kind] ?? 'failed'}: ${this.#fault.message}`;
      found.push(condition('store-unreachable', text));
    }
    if (this.#tlsProblem !== undefined)
      found.push(condition('store-certificates', `etcd certificates not renewed: ${this.#tlsProblem}`));
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
    this.#useAuth = true; // authentication may have been switched on since
    session?.close(fault);
  }

  async #connect(): Promise<OpenSession> {
    const { endpoints, clock } = this.#options;
    for (;;) {
      this.#closing.signal.throwIfAborted();
      // Also the first attempt after a loss waits its 25 to 50 ms: a member that accepts and fails is no busy loop.
      if (this.#fault !== undefined) await sleep(clock, this.#backoff.next(), this.#closing.signal);
      try {
        this.#reloadTls();
        const session = await this.#race(
          endpoints.map((_, i) => endpoints[(i + this.#firstEndpoint) % endpoints.length]),
        );
        this.#closing.signal.throwIfAborted();
        this.#session = session;
        this.#sessionsOpened++;
        this.#firstEndpoint = endpoints.indexOf(session.endpoint);
        this.#sayConnected(session.endpoint.url);
        return session;
      } catch (error) {
        if (this.#closing.signal.aborted) throw error;
        const fault = toFault(error, 'Cannot connect', 'etcd');
        this.#fault = fault;
        // As etcd's own clients do: a user name for a server without authentication is no reason to stay away.
        this.#useAuth = fault.kind !== 'auth-off';
        this.#sayFault(fault);
      }
    }
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

  /** Tries `endpoints` in order, overlapping, and takes the first that answers. */
  #race(endpoints: readonly Endpoint[]): Promise<OpenSession> {
    return new Promise((resolve, reject) => {
      let started = 0;
      let failed = 0;
      let won = false;
      let worst: EtcdFault | undefined;
      let cancelStagger = (): void => undefined;
      const startNext = (): void => {
        cancelStagger();
        if (won || started === endpoints.length) return;
        const endpoint = endpoints[started++];
        if (started < endpoints.length) cancelStagger = this.#options.clock.after(STAGGER_MS, startNext);
        this.#open(endpoint).then(
          (session) => {
            if (won || this.#closing.signal.aborted)
              return session.close(new EtcdFault('closed', 'not needed'));
            won = true;
            cancelStagger();
            resolve(session);
          },
          (error: unknown) => {
            const fault = toFault(error, 'Cannot connect to etcd', endpoint.url);
            // A refused certificate or password says more than a port where nobody listens (flannel's default names one).
            if (worst === undefined || worst.kind === 'unreachable') worst = fault;
            if (++failed === endpoints.length && !won) reject(worst);
            else startNext();
          },
        );
      };
      startNext();
    });
  }

  async #open(endpoint: Endpoint): Promise<OpenSession> {
    const [{ Etcd3 }, { InterceptingCall }] = await Promise.all([import('etcd3'), import('@grpc/grpc-js')]);
    // Clients that set this metadata are told of a lost leader; others are left waiting for its return.
    const requireLeader: Interceptor = (options, nextCall) =>
      new InterceptingCall(nextCall(options), {
        start: (metadata, listener, next) => {
          metadata.set('hasleader', 'true');
          next(metadata, listener);
        },
      });
    const auth = this.#useAuth ? this.#options.auth : undefined;
    const client = new Etcd3(this.#clientOptions(endpoint, auth));
    const session = new OpenSession(endpoint, client, this.#progressOf(endpoint), requireLeader);
    try {
      await orAbort(this.#bounded(this.#probe(session)), this.#closing.signal);
      return session;
    } catch (error) {
      const fault = toFault(error, 'Cannot connect to etcd', endpoint.url);
      session.close(fault);
      throw fault;
    }
  }

  async #probe(session: OpenSession): Promise<void> {
    const { endpoint, client } = session;
    try {
      const status = await client.maintenance.status();
      if (status.leader === '0') throw noLeader(endpoint);
      this.#noteAlarms(status.errors);
    } catch (error) {
      const { kind } = toFault(error, 'Cannot connect to etcd', endpoint.url);
      if (kind !== 'other' && kind !== 'permission') throw error;
      await session.read();
    }
  }

  #progressOf(endpoint: Endpoint): ProgressSupport {
    const known = this.#progress.get(endpoint);
    if (known !== undefined) return known;
    const support = new ProgressSupport(endpoint.url, this.#options.log);
    this.#progress.set(endpoint, support);
    return support;
  }

  #clientOptions(endpoint: Endpoint, auth: ConnectionOptions['auth']): IOptions {
    return {
      hosts: `${endpoint.isTls ? 'https' : 'http'}://${endpoint.target}`,
      ...(endpoint.isTls && this.#tlsMaterial !== undefined ? { credentials: this.#tlsMaterial } : {}),
      ...(auth === undefined ? {} : { auth: { ...auth } }),
      // A deadline is absolute, so it must be made for each call; streams have none.
      defaultCallOptions: (context) => (context.isStream ? {} : { deadline: Date.now() + CALL_TIMEOUT_MS }),
      faultHandling: { host: () => PASS_THROUGH, global: PASS_THROUGH },
      grpcOptions: {
        'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
        'grpc.keepalive_time_ms': 10_000,
        'grpc.keepalive_timeout_ms': 3000,
        'grpc.keepalive_permit_without_calls': 1,
        'grpc.enable_retries': 0,
        'grpc.enable_http_proxy': this.#usesProxy(endpoint) ? 1 : 0, // its default is 1, for loopback too
        'grpc.service_config_disable_resolution': 1, // no TXT look-ups for what etcd never publishes
        'grpc.initial_reconnect_backoff_ms': MIN_BACKOFF_MS,
        'grpc.max_reconnect_backoff_ms': MAX_BACKOFF_MS,
        // grpc-js shares TCP connections among channels with equal options. One session must never get the dead
        // connection of the one before, so each has a value of its own in an option that nothing reads.
        'twill.session': ++sessionSerial,
      },
    };
  }

  #usesProxy({ target }: Endpoint): boolean {
    return this.#options.proxy === 'environment' && mayUseProxy(target, process.env);
  }

  // etcd3 answers an invalid token by calling itself again, without limit; this ends our wait, and close() the calls.
  #bounded<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const cancel = this.#options.clock.after(CALL_TIMEOUT_MS + 500, () =>
        reject(new EtcdFault('timeout', `no answer from etcd within ${CALL_TIMEOUT_MS} ms`)),
      );
      promise.then(resolve, reject).finally(cancel);
    });
  }

  #noteAlarms(errors: readonly string[] | undefined): void {
    const alarms = (errors ?? [])
      .map((text) => /alarm:(\w+)/.exec(text)?.[1])
      .filter((name) => name !== undefined);
    this.#alarms = [...new Set(alarms)];
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
    if (
      hasTlsFiles(this.#options.tls) &&
      tlsSignature(this.#options.tls) !== this.#tlsSignature &&
      this.#reloadTls()
    ) {
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
      this.#noteAlarms(status.errors);
      if (status.leader === '0') this.report(session, noLeader(session.endpoint));
    } catch (error) {
      // call() has recorded a fault of the connection; a server that refuses Status just shows no alarms.
      this.#options.log.debug({ error: (error as Error).message }, 'etcd status not read');
    }
  }

  /** Takes over changed certificate files; keeps the old ones, and says so, when the new ones are unusable. */
  #reloadTls(): boolean {
    const signature = tlsSignature(this.#options.tls);
    if (signature === this.#tlsSignature) return false;
    try {
      this.#tlsMaterial = readTlsFiles(this.#options.tls);
      this.#tlsSignature = signature;
      this.#tlsProblem = undefined;
      return true;
    } catch (error) {
      const problem = (error as Error).message;
      if (problem !== this.#tlsProblem) this.#options.log.error(`etcd certificates not renewed: ${problem}`);
      this.#tlsProblem = problem;
      return false;
    }
  }
}

let sessionSerial = 0;

function noLeader(endpoint: Endpoint): EtcdFault {
  return new EtcdFault('no-leader', `Cannot use etcd at ${endpoint.url}: the member has no leader`);
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

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

/** etcd3's retries and circuit breaker, switched off. What a task throws must come as a rejection: etcd3 relies on it. */
const PASS_THROUGH = {
  execute: (task: (context: { signal: AbortSignal }) => unknown) =>
    new Promise((resolve) => resolve(task({ signal: NEVER }))),
} as unknown as Policy;

const NEVER = new AbortController().signal;
