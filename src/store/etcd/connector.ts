// One attempt to get a session, at any of the endpoints.
//
// The endpoints are tried in turn, each 300 ms after the previous or as soon as that one fails, and the first that
// answers is taken; the next attempt begins with it. Several endpoints are our business, not etcd3's, which would pick
// one at random for each call.

import type { EtcdProxy } from '../../config/options.js';
import type { Logger } from '../../core/log.js';
import type { Clock } from '../../core/waiting.js';
import type { EtcdUser, OpenClient } from './client.js';
import type { Endpoint } from './endpoints.js';
import { EtcdFault, toFault } from './faults.js';
import { ProgressSupport } from './progress-support.js';
import { OpenSession } from './session.js';
import type { TlsKeeper } from './tls-keeper.js';
import { mayUseProxy } from './web-proxy.js';

const STAGGER_MS = 300; // a live endpoint answers in a few ms; a black-holed one shall not hold up the next

export interface ConnectorOptions {
  readonly endpoints: readonly Endpoint[];
  readonly user: EtcdUser | undefined;
  readonly proxy: EtcdProxy;
  readonly tls: TlsKeeper;
  readonly openClient: OpenClient;
  readonly log: Logger;
  readonly clock: Clock;
}

/** A session, and the alarms its member told of. */
export interface Connected {
  readonly session: OpenSession;
  /** Undefined when it does not tell. */
  readonly alarms: readonly string[] | undefined;
}

/** An endpoint, and what is known of it from the sessions before. */
interface Way {
  readonly endpoint: Endpoint;
  readonly progress: ProgressSupport;
}

export class Connector {
  readonly #options: ConnectorOptions;
  readonly #ways: readonly Way[];
  #first = 0;
  #usesUser = true;

  constructor(options: ConnectorOptions) {
    this.#options = options;
    const { endpoints, log } = options;
    this.#ways = endpoints.map((endpoint) => ({
      endpoint,
      progress: new ProgressSupport(endpoint.url, log),
    }));
  }

  /**
   * One attempt. Rejects with EtcdFault: of several endpoints with what says most; with another when `signal` aborts.
   */
  async connect(signal: AbortSignal): Promise<Connected> {
    const { endpoints, tls } = this.#options;
    tls.reload();
    try {
      const ways = [...this.#ways.slice(this.#first), ...this.#ways.slice(0, this.#first)];
      const connected = await this.#race(ways, signal);
      this.#first = endpoints.indexOf(connected.session.endpoint);
      return connected;
    } catch (error) {
      const fault = toFault(error, 'Cannot connect', 'etcd');
      // As etcd's own clients do: a user name for a server without authentication is no reason to stay away.
      this.#usesUser = fault.kind !== 'auth-off';
      throw fault;
    }
  }

  /** The next attempt begins with the endpoint behind this one. */
  passOver(endpoint: Endpoint): void {
    const { endpoints } = this.#options;
    this.#first = (endpoints.indexOf(endpoint) + 1) % endpoints.length;
  }

  /** Authentication may have been switched on since the last attempt. */
  useUserAgain(): void {
    this.#usesUser = true;
  }

  #race(ways: readonly Way[], signal: AbortSignal): Promise<Connected> {
    return new Promise((resolve, reject) => {
      let started = 0;
      let failed = 0;
      let isOver = false;
      let worst: EtcdFault | undefined;
      let cancelStagger = (): void => undefined;
      const startNext = (): void => {
        cancelStagger();
        if (isOver || started === ways.length) return;
        const way = ways[started++];
        if (started < ways.length) cancelStagger = this.#options.clock.after(STAGGER_MS, startNext);
        this.#open(way, signal).then(
          (connected) => {
            if (isOver) return connected.session.close(new EtcdFault('closed', 'not needed'));
            isOver = true;
            cancelStagger();
            resolve(connected);
          },
          (error: unknown) => {
            const fault = toFault(error, 'Cannot connect to etcd', way.endpoint.url);
            // A refused certificate or password says more than a port where nobody listens (flannel's default is one).
            if (worst === undefined || worst.kind === 'unreachable') worst = fault;
            if (++failed < ways.length && !signal.aborted) return startNext();
            if (isOver) return;
            isOver = true;
            cancelStagger();
            reject(worst);
          },
        );
      };
      startNext();
    });
  }

  async #open({ endpoint, progress }: Way, signal: AbortSignal): Promise<Connected> {
    const { proxy, tls, user, openClient, clock } = this.#options;
    const client = await openClient({
      endpoint,
      user: this.#usesUser ? user : undefined,
      tls: tls.material,
      usesProxy: proxy === 'environment' && mayUseProxy(endpoint.target, process.env),
    });
    const session = new OpenSession(endpoint, client, progress, clock);
    try {
      return { session, alarms: await session.probe(signal) };
    } catch (error) {
      const fault = toFault(error, 'Cannot connect to etcd', endpoint.url);
      session.close(fault);
      throw fault;
    }
  }
}
