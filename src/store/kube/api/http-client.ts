// The KubeClient over HTTP.
//
//   call ─► a place among 16 ─► identity, credentials ─► transport ─► answer ─► object, items or events
//                                     └── once more after a 401 ◄──┘
//
// What is asked in one go and in pieces alike is JSON without compression: gzip would save nine tenths of 76 MB for
// 5,000 nodes, but costs the API server half a second of CPU for each node that starts, and us 0.3 s.

import { readVersion } from '../../../core/version.js';
import { orAbort } from '../../../core/waiting.js';
import { acceptsConnection } from '../../reachability.js';
import { isObject, parseBytes, type ParseBytes, parseObject } from './api-object.js';
import { BoundedSignal } from './bounded-signal.js';
import { ByteBuffer } from './byte-buffer.js';
import type {
  ApiObject,
  KubeClient,
  LeanOptions,
  ListEnd,
  ListOptions,
  Query,
  WatchEvent,
  WatchListener,
} from './client.js';
import type { Answer, Ask } from './connection.js';
import type { Credentials, Pass } from './credentials.js';
import { faultOfAnswer, faultOfStatus, toKubeFault, WayFault } from './faults.js';
import { type Identity, type IdentityOptions, type IdentitySource, openIdentity } from './identity.js';
import { leanEvent, leanItem } from './lean-object.js';
import { LineSplitter } from './line-splitter.js';
import { ListSplitter } from './list-splitter.js';
import { resourceOf } from './resource.js';
import { Slots } from './slots.js';
import { type Timing, TIMING } from './timing.js';
import { Transport } from './transport.js';
import type { Environment } from './web-proxy.js';

// Requests at once, watches included. The API server lets a connection have 250 streams.
const MAX_REQUESTS = 16;
const MAX_OBJECT_BYTES = 8 << 20;
// A Status is some hundred bytes; of anything else the first line says enough.
const MAX_FAULT_BYTES = 64 << 10;
// 100,000 nodes of 20 KB.
const MAX_LIST_BYTES = 2 ** 31;
const LISTENING_MS = 50;

const JSON_TYPE = 'application/json';
const PATCH_TYPE = 'application/strategic-merge-patch+json';
const METADATA_TYPE = `${JSON_TYPE};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,${JSON_TYPE}`;

type Verb = 'get' | 'patch' | 'create' | 'list' | 'watch';

/** What is asked, and in which way the answer is used. */
interface Call<T> {
  readonly verb: Verb;
  readonly ask: Ask;
  /** For the head of the answer, or for all of it. */
  readonly timeoutMs: number;
  readonly isStreamed: boolean;
  /** Reads the body of a 2xx. */
  readonly use: (answer: Answer, action: string, signal: AbortSignal) => Promise<T>;
}

export class HttpKubeClient implements KubeClient {
  readonly #source: IdentitySource;
  readonly #timing: Timing;
  readonly #slots = new Slots(MAX_REQUESTS);
  readonly #userAgent = `twilld/${readVersion()} (linux/${process.arch})`;
  #identity: Identity;
  #transport: Transport;
  readonly #underWay = new Set<BoundedSignal>();
  #isClosed = false;

  private constructor(source: IdentitySource, identity: Identity, timing: Timing) {
    this.#source = source;
    this.#identity = identity;
    this.#timing = timing;
    this.#transport = new Transport(identity.way, timing);
  }

  /**
   * Finds out where the API server is and who we are there; nothing is contacted before the first call. Rejects with
   * OverlayError E_USAGE (flags, environment) or E_FILE (kubeconfig, certificates, tokens). `environment` is that of
   * this process, which exec plugins get, too.
   */
  static async open(
    options: IdentityOptions,
    environment: Environment,
    timing: Timing = TIMING,
  ): Promise<HttpKubeClient> {
    const source = await openIdentity(options, environment, timing);
    return new HttpKubeClient(source, await source(), timing);
  }

  get server(): string {
    return this.#identity.way.server.url;
  }

  isListening(): Promise<boolean> {
    const { proxy, server } = this.#identity.way;
    return acceptsConnection([(proxy ?? server).target], LISTENING_MS);
  }

  get(path: string, signal: AbortSignal): Promise<ApiObject> {
    return this.#object('get', this.#ask('GET', path), signal);
  }

  patch(path: string, patch: ApiObject, signal: AbortSignal): Promise<ApiObject> {
    return this.#object('patch', this.#ask('PATCH', path, PATCH_TYPE, patch), signal);
  }

  create(path: string, object: ApiObject, signal: AbortSignal): Promise<ApiObject> {
    return this.#object('create', this.#ask('POST', path, JSON_TYPE, object), signal);
  }

  list(
    path: string,
    query: Query,
    onItem: (item: ApiObject) => void,
    signal: AbortSignal,
    options: ListOptions = {},
  ): Promise<ListEnd> {
    const ask = this.#ask('GET', withQuery(path, query));
    const accept = options.metadataOnly === true ? METADATA_TYPE : JSON_TYPE;
    const parse = options.statusOf === undefined ? parseBytes : leanItem(options.statusOf);
    const timeoutMs = this.#timing.idleMs;
    return this.#call(
      {
        verb: 'list',
        ask: { ...ask, headers: { ...ask.headers, accept } },
        timeoutMs,
        isStreamed: true,
        use: (answer, _action, bounded) =>
          readList(answer, new ListSplitter(guarded(onItem), parse), timeoutMs, bounded),
      },
      signal,
    );
  }

  watch(
    path: string,
    query: Query,
    listener: WatchListener,
    signal: AbortSignal,
    { statusOf }: LeanOptions = {},
  ): Promise<void> {
    const parse = statusOf === undefined ? parseBytes : leanEvent(statusOf);
    return this.#call(
      {
        verb: 'watch',
        ask: this.#ask('GET', withQuery(path, { ...query, watch: 'true' })),
        timeoutMs: this.#timing.idleMs,
        isStreamed: true,
        use: (answer, action, bounded) => readWatch(answer, listener, parse, action, bounded),
      },
      signal,
    );
  }

  renew(): void {
    this.#transport.renew();
  }

  close(): void {
    this.#isClosed = true;
    this.#transport.close();
    this.#identity.credentials.close();
    for (const bounded of this.#underWay) bounded.abort(new WayFault('closed', 'the client was closed'));
  }

  #ask(method: Ask['method'], path: string, type?: string, body?: ApiObject): Ask {
    return {
      method,
      path,
      headers: {
        accept: JSON_TYPE,
        'user-agent': this.#userAgent,
        ...(type === undefined ? {} : { 'content-type': type }),
      },
      body: body === undefined ? undefined : Buffer.from(JSON.stringify(body)),
    };
  }

  #object(verb: Verb, ask: Ask, signal: AbortSignal): Promise<ApiObject> {
    const { callMs } = this.#timing;
    return this.#call({ verb, ask, timeoutMs: callMs, isStreamed: false, use: readObject }, signal);
  }

  async #call<T>({ verb, ask, timeoutMs, isStreamed, use }: Call<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const bounded = new BoundedSignal(signal, timeoutMs);
    this.#underWay.add(bounded);
    const action = `${verb} ${resourceOf(ask.path)} at ${this.server}`;
    try {
      return await this.#slots.run(async () => {
        const answer = await this.#send(ask, bounded.signal);
        if (answer.status < 200 || answer.status > 299) throw await faultOf(answer, action, bounded.signal);
        if (isStreamed) bounded.stopTimer();
        return await use(answer, action, bounded.signal).catch((error: unknown) => {
          answer.discard();
          throw error;
        });
      }, bounded.signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof ListenerFailure) throw error.cause;
      throw toKubeFault(error, action);
    } finally {
      bounded.release();
      this.#underWay.delete(bounded);
    }
  }

  async #send(ask: Ask, signal: AbortSignal): Promise<Answer> {
    for (let isFirst = true; ; isFirst = false) {
      const { way, credentials } = await this.#adoptIdentity();
      const pass = await passOf(credentials, signal);
      const { authorization } = pass;
      const headers = authorization === undefined ? ask.headers : { ...ask.headers, authorization };
      const sent = { ...ask, path: `${way.server.prefix}${ask.path}`, headers };
      let answer: Answer;
      try {
        answer = await this.#transport.send(sent, pass.certificate, signal);
      } catch (error) {
        if (error instanceof WayFault && error.reason === 'tls') credentials.refuse(pass);
        throw error;
      }
      if (answer.status !== 401 || !isFirst) return answer;
      answer.discard();
      credentials.refuse(pass);
    }
  }

  /** The kubeconfig may have been rewritten, and name another server. */
  async #adoptIdentity(): Promise<Identity> {
    const identity = await this.#source();
    if (identity !== this.#identity && !this.#isClosed) {
      this.#identity.credentials.close();
      this.#identity = identity;
      this.#transport.renew();
      this.#transport = new Transport(identity.way, this.#timing);
    }
    return identity;
  }
}

/** That a plugin takes too long says more than that nothing was answered. */
async function passOf(credentials: Credentials, signal: AbortSignal): Promise<Pass> {
  try {
    return await orAbort(credentials.current(signal), signal);
  } catch (error) {
    if (!(error instanceof WayFault) || error.reason !== 'timeout') throw error;
    throw new WayFault('credentials', 'no credentials in time: the exec plugin has not ended', {
      cause: error,
    });
  }
}

function withQuery(path: string, query: Query): string {
  const text = new URLSearchParams(query).toString();
  return text === '' ? path : `${path}?${text}`;
}

async function readObject(answer: Answer, _action: string, signal: AbortSignal): Promise<ApiObject> {
  const bytes = new ByteBuffer(MAX_OBJECT_BYTES, 'the answer');
  await answer.read((chunk) => bytes.push(chunk), undefined, signal);
  return parseObject(bytes.toString(), 'the answer');
}

async function readList(
  answer: Answer,
  splitter: ListSplitter,
  idleMs: number,
  signal: AbortSignal,
): Promise<ListEnd> {
  let bytes = 0;
  await answer.read(
    (chunk) => {
      bytes += chunk.length;
      if (bytes > MAX_LIST_BYTES) throw new SyntaxError(`the list has more than ${MAX_LIST_BYTES} bytes`);
      splitter.write(chunk);
    },
    idleMs,
    signal,
  );
  return splitter.end();
}

const EVENT_TYPES: ReadonlySet<unknown> = new Set<WatchEvent['type']>([
  'ADDED',
  'MODIFIED',
  'DELETED',
  'BOOKMARK',
]);

async function readWatch(
  answer: Answer,
  listener: WatchListener,
  parse: ParseBytes,
  action: string,
  signal: AbortSignal,
): Promise<void> {
  const onEvent = guarded((event: WatchEvent) => listener.onEvent(event));
  guarded(() => listener.onOpen())(undefined);
  const splitter = new LineSplitter((line) => {
    const event = parse(line, 'a line of the watch');
    const { type, object } = event;
    if (!isObject(object)) throw new SyntaxError('an event of the watch has no object');
    if (type === 'ERROR') throw faultOfStatus(object, action);
    // A type that a later server may have is nothing that we could act on.
    if (EVENT_TYPES.has(type)) onEvent({ type: type as WatchEvent['type'], object });
  });
  await answer.read((chunk) => splitter.write(chunk), undefined, signal);
}

/** The fault of an answer that is no success; its text as far as it comes. */
async function faultOf(answer: Answer, action: string, signal: AbortSignal): Promise<Error> {
  const bytes = new ByteBuffer(MAX_FAULT_BYTES, 'the answer');
  await answer.read((chunk) => bytes.push(chunk), undefined, signal).catch(() => undefined);
  return faultOfAnswer(answer.status, bytes.toString(), answer.header('retry-after'), action);
}

/** What a listener throws is no fault of the request. */
class ListenerFailure extends Error {}

function guarded<T>(listener: (value: T) => void): (value: T) => void {
  return (value) => {
    try {
      listener(value);
    } catch (error) {
      throw new ListenerFailure('a listener failed', { cause: error });
    }
  };
}
