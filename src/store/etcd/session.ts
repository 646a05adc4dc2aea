// One session: a client for one endpoint that has answered.
//
// The probe is Maintenance.Status: any user may call it, it names a member without leader, and it lists alarms.
// Gateways that do not pass it on are asked for a key instead.

import type { IStatusResponse } from 'etcd3';
import { type Clock, orAbort } from '../../core/waiting.js';
import { CALL_TIMEOUT_MS, type EtcdClient, type WatchDuplex } from './client.js';
import type { Endpoint } from './endpoints.js';
import { EtcdFault, toFault } from './faults.js';
import type { ProgressSupport } from './progress-support.js';

/** What a watch sees of it. */
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

export class OpenSession implements Session {
  readonly endpoint: Endpoint;
  readonly progress: ProgressSupport;
  readonly #client: EtcdClient;
  readonly #clock: Clock;
  readonly #closing = new AbortController();

  constructor(endpoint: Endpoint, client: EtcdClient, progress: ProgressSupport, clock: Clock) {
    this.endpoint = endpoint;
    this.progress = progress;
    this.#client = client;
    this.#clock = clock;
  }

  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  openWatch(): Promise<WatchDuplex> {
    return this.#client.openWatch();
  }

  async read(): Promise<void> {
    try {
      // Not serializable: a proxy would answer that from its memory.
      await this.#client.kv.range({ key: Buffer.from([0]), limit: 1, count_only: true });
    } catch (error) {
      if (toFault(error, 'Cannot read', this.endpoint.url).kind !== 'permission') throw error;
    }
  }

  /**
   * One call. Rejects with what the client says, with the reason of `signal` or of the session's end when that comes
   * first, and with an EtcdFault after some 5 s; the call may still be executed then.
   */
  call<T>(signal: AbortSignal, run: (client: EtcdClient) => Promise<T>): Promise<T> {
    return orAbort(this.#bounded(run(this.#client)), AbortSignal.any([signal, this.closed]));
  }

  /** Whether the endpoint can be used, and the alarms it tells of, if it tells of any. Rejects with EtcdFault. */
  async probe(signal: AbortSignal): Promise<readonly string[] | undefined> {
    try {
      return alarmsOf(this.endpoint, await this.call(signal, (client) => client.maintenance.status()));
    } catch (error) {
      const fault = toFault(error, 'Cannot connect to etcd', this.endpoint.url);
      if (fault.kind !== 'other' && fault.kind !== 'permission') throw fault;
      await this.call(signal, () => this.read());
      return undefined;
    }
  }

  close(fault: EtcdFault): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(fault);
    this.#client.close();
  }

  // etcd3 answers an invalid token by calling itself again, without limit; this ends our wait, and close() the calls.
  #bounded<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(CALL_TIMEOUT_MS + 500, () =>
        reject(new EtcdFault('timeout', `no answer from etcd within ${CALL_TIMEOUT_MS} ms`)),
      );
      promise.then(resolve, reject).finally(cancel);
    });
  }
}

/** The alarms that are raised. Throws EtcdFault for a member without leader. */
export function alarmsOf(endpoint: Endpoint, { leader, errors }: IStatusResponse): readonly string[] {
  if (leader === '0')
    throw new EtcdFault('no-leader', `Cannot use etcd at ${endpoint.url}: the member has no leader`);
  const names = (errors ?? []).map((text) => /alarm:(\w+)/.exec(text)?.[1]);
  return [...new Set(names.filter((name) => name !== undefined))];
}
