// A Kubernetes API server in one process of Node: nodes, pods and events of core v1 with the semantics of a real one,
// for faults that a real one cannot be made to show, and for machines that have none.
//
//   gate ── transport ── handler ─┬─ access           who, and whether they may
//   (TCP)   (TLS, HTTP)           ├─ faults           what a test has planned
//                                 ├─ reads, writes ── store: versions, history, compaction
//                                 └─ watches ────────┘
//
// test/unit/support/api-server replays what a real server was recorded to say, so that the two cannot drift apart.

import { MONOTONIC_CLOCK, type Clock } from '../../src/core/waiting.js';
import { Access, ADMIN, FLANNEL, NOBODY } from './api-server/access.js';
import type { Ending } from './api-server/answer.js';
import type { ApiObject } from './api-server/api-object.js';
import { Authority } from './api-server/certificates.js';
import { Faults } from './api-server/faults.js';
import { Gate } from './api-server/gate.js';
import { Handler } from './api-server/handler.js';
import { type Backup, ObjectStore } from './api-server/object-store.js';
import { assignPodCidrs, type ClusterCidr } from './api-server/pod-cidrs.js';
import { Reads } from './api-server/reads.js';
import { EVENTS, NODES, PODS, type Resource } from './api-server/resources.js';
import { SeenRequests } from './api-server/seen-requests.js';
import { keyOf, type StoredObject } from './api-server/stored-object.js';
import { applyStrategicPatch } from './api-server/strategic-patch.js';
import { Transport } from './api-server/transport.js';
import { Watches } from './api-server/watches.js';
import type { WatchTimes } from './api-server/watch-stream.js';
import { Writes } from './api-server/writes.js';

export interface ApiServerOptions extends Partial<WatchTimes> {
  /** @default '127.0.0.1' */
  readonly address?: string;
  /** @default 0: a free one */
  readonly port?: number;
  /** @default 'https' */
  readonly scheme?: 'https' | 'http';
  /** What ALPN offers. @default both */
  readonly protocols?: readonly ('h2' | 'http/1.1')[];
  /** Names of the certificate beside the address, as openssl writes them. */
  readonly names?: readonly string[];
  /** Changes that a watch can resume from. @default 10000 */
  readonly historyLimit?: number;
  /** Whether a watch may ask for the initial state. @default false */
  readonly hasWatchList?: boolean;
  /** Of bookmarks and ends of watches. @default the real one */
  readonly clock?: Clock;
  /** Of timestamps in objects. @default the real one */
  readonly now?: () => Date;
}

export interface NodeParts {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly podCidrs?: readonly string[];
  readonly status?: ApiObject;
}

/** Listens from open() to close(). */
export class ApiServer {
  readonly store: ObjectStore;
  readonly access = new Access();
  /** What is to go wrong with the next requests. */
  readonly faults = new Faults();
  readonly watches: Watches;
  readonly #seen = new SeenRequests();
  readonly #writes: Writes;
  readonly #gate: Gate;
  readonly #transport: Transport;
  readonly #options: ApiServerOptions;
  #authority: Authority | undefined;
  /** Bearer tokens: of an administrator, of flannel's service account, of somebody who may do nothing. */
  readonly tokens = {
    admin: this.access.issueToken(ADMIN),
    flannel: this.access.issueToken(FLANNEL),
    nobody: this.access.issueToken(NOBODY),
  };

  private constructor(options: ApiServerOptions) {
    const { clock = MONOTONIC_CLOCK, now = () => new Date(), historyLimit = 10_000 } = options;
    this.#options = options;
    this.store = new ObjectStore(historyLimit);
    this.#writes = new Writes(this.store, now);
    const times = {
      bookmarkMs: options.bookmarkMs ?? 60_000,
      bookmarkBeforeEndMs: options.bookmarkBeforeEndMs ?? 2_000,
      slowReaderEvents: options.slowReaderEvents ?? 1_000,
    };
    this.watches = new Watches(this.store, clock, times, options.hasWatchList ?? false);
    const handler = new Handler({
      ...{ access: this.access, faults: this.faults, watches: this.watches, seen: this.#seen },
      ...{ reads: new Reads(this.store, clock), writes: this.#writes },
    });
    this.#transport = new Transport((...args) => void handler.handle(...args), undefined);
    this.#transport.protocols = options.protocols ?? ['h2', 'http/1.1'];
    this.#gate = new Gate((socket, connection) => this.#transport.serve(socket, connection));
  }

  static async open(options: ApiServerOptions = {}): Promise<ApiServer> {
    const server = new ApiServer(options);
    if (options.scheme !== 'http') server.useNewAuthority();
    await server.#gate.open(options.address ?? '127.0.0.1', options.port ?? 0);
    return server;
  }

  get port(): number {
    return this.#gate.port;
  }

  get url(): string {
    const { address = '127.0.0.1', scheme = 'https' } = this.#options;
    return `${scheme}://${address.includes(':') ? `[${address}]` : address}:${this.port}`;
  }

  /** PEM of the certificate authority; it signs client certificates too. Only of an https server. */
  get authority(): Authority {
    return this.#authority!;
  }

  /** Connections so far. */
  get connections(): number {
    return this.#gate.accepted;
  }

  /** What was asked, in order. */
  get requests(): SeenRequests {
    return this.#seen;
  }

  async close(): Promise<void> {
    this.watches.end('cut');
    await this.#gate.close();
    this.#authority?.close();
  }

  // Objects

  /** As a kubelet registers it; or any object, whole. */
  createNode(name: string, parts: NodeParts = {}): ApiObject {
    const { annotations = {}, labels = {}, podCidrs = [], status = {} } = parts;
    return this.create(NODES, {
      metadata: {
        name,
        labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', ...labels },
        annotations: { 'node.alpha.kubernetes.io/ttl': '0', ...annotations },
      },
      spec: podCidrs.length === 0 ? {} : { podCIDR: podCidrs[0], podCIDRs: podCidrs },
      status,
    });
  }

  createPod(namespace: string, name: string, nodeName: string): ApiObject {
    return this.create(PODS, { metadata: { namespace, name }, spec: { nodeName }, status: {} });
  }

  /** Throws ApiFailure, as the API would answer. */
  create(resource: Resource, object: ApiObject): ApiObject {
    const { namespace } = object.metadata as { namespace?: string };
    return this.#writes.create(resource, namespace, object).object.json();
  }

  /** Plays the controller manager's part, for nodes without a podCIDR, those that come too. The result ends that. */
  assignPodCidrs(clusters: readonly ClusterCidr[]): () => void {
    return assignPodCidrs(this.store, clusters, (name, podCIDRs) => {
      this.updateNode(name, { spec: { podCIDR: podCIDRs[0], podCIDRs } });
    });
  }

  /** Undefined: there is none. */
  node(name: string): ApiObject | undefined {
    return this.store.get(NODES, name)?.json();
  }

  events(): ApiObject[] {
    return this.store.list(EVENTS).map((event) => event.json());
  }

  /** A strategic merge patch of all parts, spec and status too; or a function from the old object to the new. */
  updateNode(name: string, change: ApiObject | ((node: ApiObject) => ApiObject)): ApiObject {
    const apply =
      typeof change === 'function' ? change : (node: ApiObject) => applyStrategicPatch(NODES, node, change);
    return this.#writes.amend(this.#stored(NODES, name), apply).json();
  }

  deleteNode(name: string): void {
    this.store.remove(this.#stored(NODES, name));
  }

  deletePod(namespace: string, name: string): void {
    this.store.remove(this.#stored(PODS, keyOf(namespace, name)));
  }

  #stored(resource: Resource, key: string): StoredObject {
    const stored = this.store.get(resource, key);
    if (stored === undefined) throw new Error(`no ${resource.kind} "${key}" in the stand-in`);
    return stored;
  }

  // Faults of the process and the network

  /** Ends all connections and listens no more. */
  async stop(): Promise<void> {
    await this.#gate.pause();
  }

  /** Listens again after stop(), on the same port, with an empty watch cache, as a new process has. */
  async start(): Promise<void> {
    this.store.forgetWatchCache();
    await this.#gate.listen();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Another certificate for new connections, of the same authority. */
  useNewCertificate(): void {
    const { address = '127.0.0.1', names = [] } = this.#options;
    const all = [`IP:${address}`, 'DNS:kubernetes', 'DNS:kubernetes.default.svc', ...names];
    const certificate = this.authority.issue({ commonName: 'kube-apiserver', names: all });
    this.#transport.certificate = { ...certificate, ca: this.authority.cert };
  }

  /** Another authority, which nobody trusts yet, and a certificate of it for new connections. */
  useNewAuthority(): void {
    this.#authority?.close();
    this.#authority = new Authority('kubernetes');
    this.useNewCertificate();
  }

  /** The history goes back: etcd was restored from a backup, and the API server started anew. */
  async restore(backup: Backup): Promise<void> {
    await this.stop();
    this.store.restore(backup);
    await this.start();
  }

  /** Accepts and never answers: what clients send is swallowed, on connections there are and on new ones. */
  blackHole(): void {
    this.#gate.mode = 'swallow';
  }

  /** Swallows all on the connections that exist; new ones work. */
  blackHoleExisting(): void {
    this.#gate.swallowExisting();
  }

  /** Reads no socket, so that a client's sends fill up; nothing is lost. */
  stopReading(): void {
    this.#gate.mode = 'stall';
  }

  /** The end of blackHole() and stopReading(). */
  heal(): void {
    this.#gate.mode = 'pass';
  }

  /** Ends all connections: by FIN, as a killed process does, or by RST. */
  cutConnections(how: 'cut' | 'reset' = 'cut'): void {
    if (how === 'cut') this.#gate.cut();
    else this.#gate.reset();
  }

  /** GOAWAY on each HTTP/2 connection. @param code - 0: streams may go on. */
  goAway(code = 0): void {
    this.#transport.goAway(code);
  }

  /** Ends all open watches so. */
  endWatches(ending: Ending = 'end'): void {
    this.watches.end(ending);
  }
}
