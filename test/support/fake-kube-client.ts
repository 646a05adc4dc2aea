// The nodes of an API server without a wire: a KubeClient with the semantics that a mirror of nodes must live with.
// Every write has a version of its own, the history can be compacted, a list can be old, a watch from the future is
// silent. Watches run on what is written at once; a test can hold them back, end them or make them lose events.

import type {
  ApiObject,
  KubeClient,
  ListEnd,
  ListOptions,
  Query,
  WatchEvent,
  WatchListener,
} from '../../src/store/kube/api/client.js';
import { orAbort } from '../../src/core/waiting.js';
import { KubeFault } from '../../src/store/kube/api/faults.js';

/** A Node as far as a mirror looks at it. */
export interface FakeNode extends ApiObject {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly creationTimestamp: string;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly spec: { readonly podCIDRs?: readonly string[] };
  readonly status: { readonly conditions: readonly ApiObject[] };
}

interface Write {
  readonly revision: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly node: FakeNode;
}

/** What etcd holds, to go back to. */
export interface FakeSnapshot {
  readonly revision: number;
  readonly nodes: ReadonlyMap<string, FakeNode>;
}

/** One watch that the server accepted. */
export class FakeWatch {
  /** Events are sent above this version. */
  sent: number;
  isHeld = false;
  /** Looks at each event before it is sent: none, one, or several come of it. */
  mangle: (event: WatchEvent) => readonly WatchEvent[] = (event) => [event];
  readonly query: Query;
  readonly #listener: WatchListener;
  readonly #settle: { resolve: () => void; reject: (error: unknown) => void };
  isOver = false;

  constructor(query: Query, listener: WatchListener, settle: FakeWatch['settle']) {
    this.query = query;
    this.sent = Number(query.resourceVersion);
    this.#listener = listener;
    this.#settle = settle;
  }

  get settle(): { resolve: () => void; reject: (error: unknown) => void } {
    return this.#settle;
  }

  send(event: WatchEvent): void {
    if (this.isOver) return;
    for (const each of this.mangle(event)) this.#listener.onEvent(each);
  }

  bookmark(version: string): void {
    if (!this.isOver && !this.isHeld)
      this.#listener.onEvent({ type: 'BOOKMARK', object: bookmarkOf(version) });
  }

  /** Cleanly, or with a fault. */
  end(fault?: unknown): void {
    if (this.isOver) return;
    this.isOver = true;
    if (fault === undefined) this.#settle.resolve();
    else this.#settle.reject(fault);
  }
}

function bookmarkOf(resourceVersion: string): ApiObject {
  return { kind: 'Node', apiVersion: 'v1', metadata: { resourceVersion, creationTimestamp: null } };
}

type Verb = 'list' | 'watch' | 'get';

/** See the head of this file. */
export class FakeKube implements KubeClient {
  readonly server = 'https://paper:6443';
  readonly nodes = new Map<string, FakeNode>();
  readonly watches: FakeWatch[] = [];
  /** Every request: "list resourceVersion=0 …". */
  readonly requests: string[] = [];
  revision = 100;
  /** Versions below are no longer kept. */
  compacted = 0;
  /** What a list at version 0 is made of; undefined: of what is there now. */
  cache: FakeSnapshot | undefined;
  /** Called before each request is answered; throws what it is answered with. */
  onRequest: (verb: Verb, query: Query, path: string) => void | Promise<void> = () => undefined;
  renewed = 0;
  #history: Write[] = [];
  #uids = 0;

  /** Watches that are open. */
  get open(): FakeWatch[] {
    return this.watches.filter(({ isOver }) => !isOver);
  }

  /** Creates the node or changes it; annotations are merged, undefined removes one. */
  put(
    name: string,
    annotations: Record<string, string | undefined> = {},
    podCidrs?: readonly string[],
  ): FakeNode {
    const known = this.nodes.get(name);
    const merged = Object.entries({ ...known?.metadata.annotations, ...annotations });
    const metadata = {
      name,
      uid: known?.metadata.uid ?? `uid-${++this.#uids}`,
      creationTimestamp: known?.metadata.creationTimestamp ?? '2026-11-26T00:00:00Z',
      annotations: Object.fromEntries(
        merged.filter((entry): entry is [string, string] => entry[1] !== undefined),
      ),
    };
    const spec = podCidrs === undefined ? (known?.spec ?? {}) : { podCIDRs: podCidrs };
    return this.#write(known === undefined ? 'ADDED' : 'MODIFIED', {
      metadata: { ...metadata, resourceVersion: '' },
      spec,
      status: { conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: String(this.revision) }] },
    });
  }

  delete(name: string): void {
    const known = this.nodes.get(name);
    if (known !== undefined) this.#write('DELETED', known);
  }

  /** One write of another object of the store. */
  writeElsewhere(): void {
    this.revision++;
  }

  snapshot(): FakeSnapshot {
    return { revision: this.revision, nodes: new Map(this.nodes) };
  }

  /** etcd is restored from a backup and the API server started anew. */
  restore({ revision, nodes }: FakeSnapshot): void {
    this.nodes.clear();
    for (const [name, node] of nodes) this.nodes.set(name, node);
    this.revision = revision;
    this.compacted = 0;
    this.#history = [];
    this.cache = undefined;
    for (const watch of this.open) watch.end();
  }

  compact(): void {
    this.compacted = this.revision;
    this.#history = [];
  }

  bookmarkAll(): void {
    for (const watch of this.open) {
      this.#feed(watch);
      if (watch.sent <= this.revision) watch.bookmark(String(this.revision));
    }
  }

  /** Sends a watch what it has not sent yet. */
  release(watch: FakeWatch): void {
    watch.isHeld = false;
    this.#feed(watch);
  }

  isListening(): Promise<boolean> {
    return Promise.resolve(true);
  }

  async get(path: string, signal: AbortSignal): Promise<ApiObject> {
    await this.#ask('get', {}, path, signal);
    const name = path.slice('/api/v1/nodes/'.length);
    const node = this.nodes.get(name);
    if (node === undefined) throw new KubeFault(404, 'NotFound', `cannot get nodes "${name}": 404 NotFound`);
    return node;
  }

  async list(
    path: string,
    query: Query,
    onItem: (item: ApiObject) => void,
    signal: AbortSignal,
    options: ListOptions = {},
  ): Promise<ListEnd> {
    const answered = await this.#ask(
      'list',
      query,
      path + (options.metadataOnly === true ? ' metadata' : ''),
      signal,
    );
    const { resourceVersion: version = '', limit, continue: token } = query;
    if (Number(version) > this.revision) {
      throw new KubeFault(504, 'Timeout', `Too large resource version: ${version}`, { retryAfterMs: 1000 });
    }
    const { nodes, revision } = version === '0' ? (this.cache ?? this.snapshot()) : this.snapshot();
    const names = [...nodes.keys()].sort();
    const start = token === undefined ? 0 : Number(token.split('@')[0]);
    const end = version === '0' || limit === undefined ? names.length : start + Number(limit);
    for (const name of names.slice(start, end)) {
      const node = nodes.get(name)!;
      onItem(options.metadataOnly === true ? { metadata: node.metadata } : node);
    }
    await answered();
    const at = token === undefined ? String(revision) : token.split('@')[1];
    return { resourceVersion: at, continueToken: end < names.length ? `${end}@${at}` : undefined };
  }

  async watch(path: string, query: Query, listener: WatchListener, signal: AbortSignal): Promise<void> {
    await this.#ask('watch', query, path, signal);
    await new Promise<void>((resolve, reject) => {
      const watch = new FakeWatch(query, listener, { resolve, reject });
      signal.addEventListener('abort', () => watch.end(signal.reason), { once: true });
      this.watches.push(watch);
      listener.onOpen();
      if (watch.sent < this.compacted) {
        watch.end(
          new KubeFault(410, 'Expired', `too old resource version: ${watch.sent} (${this.compacted})`),
        );
      } else this.#feed(watch);
    });
  }

  patch(): Promise<ApiObject> {
    return Promise.reject(new Error('not used'));
  }

  create(): Promise<ApiObject> {
    return Promise.reject(new Error('not used'));
  }

  renew(): void {
    this.renewed++;
    for (const watch of this.open) watch.end(new KubeFault(0, 'broken', 'renewed'));
  }

  close(): void {
    for (const watch of this.open) watch.end(new KubeFault(0, 'closed', 'closed'));
  }

  async #ask(verb: Verb, query: Query, path: string, signal: AbortSignal): Promise<() => Promise<void>> {
    const text = Object.entries(query).map(([key, value]) => `${key}=${value}`);
    this.requests.push([verb, path.replace('/api/v1/', ''), ...text].join(' '));
    const answered = async (): Promise<void> => {
      await Promise.resolve();
      if (signal.aborted) throw signal.reason;
    };
    await answered();
    await orAbort(Promise.resolve(this.onRequest(verb, query, path)), signal);
    await answered();
    return answered;
  }

  #write(type: Write['type'], node: FakeNode): FakeNode {
    const revision = ++this.revision;
    const written = { ...node, metadata: { ...node.metadata, resourceVersion: String(revision) } };
    if (type === 'DELETED') this.nodes.delete(node.metadata.name);
    else this.nodes.set(node.metadata.name, written);
    this.#history.push({ revision, type, node: written });
    for (const watch of this.open) this.#feed(watch);
    return written;
  }

  #feed(watch: FakeWatch): void {
    if (watch.isHeld || watch.isOver) return;
    for (const { revision, type, node } of this.#history) {
      if (revision <= watch.sent) continue;
      watch.sent = revision;
      watch.send({ type, object: node });
    }
  }
}
