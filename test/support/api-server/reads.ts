// get and list.
//
// Where a list is served from decides what it means, as in the server: without a version, with a continue token, with
// a limit, or with an exact version it is read from etcd, which has pages and a past; else from the watch cache, which
// has neither, so that `limit=500&resourceVersion=0` gets everything.

import { type Clock, nap } from '../../../src/core/waiting.js';
import type { Answer } from './answer.js';
import { formatContinue, parseContinue } from './continue-token.js';
import * as failures from './failures.js';
import { type Form, negotiate } from './negotiation.js';
import type { ObjectStore } from './object-store.js';
import type { RequestInfo } from './request-info.js';
import type { Resource } from './resources.js';
import { parseSelection, type Selection } from './selectors.js';
import { keyOf, type StoredObject } from './stored-object.js';

/** How long a version that is not there yet is waited for. */
export const TOO_LARGE_WAIT_MS = 3000;

/** What is written at once: chunks that are neither a system call per node nor a copy of the cluster. */
const CHUNK_BYTES = 256 * 1024;

interface Page {
  readonly version: number;
  readonly objects: readonly StoredObject[];
  readonly continueToken: string | undefined;
  readonly remaining: number | undefined;
}

export class Reads {
  readonly #store: ObjectStore;
  readonly #clock: Clock;

  constructor(store: ObjectStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Throws ApiFailure (404, 406, 500, 504). */
  async get(
    resource: Resource,
    info: RequestInfo,
    accept: string | undefined,
    answer: Answer,
  ): Promise<void> {
    const form = negotiate(accept, resource, false);
    await this.#awaitVersion(parseVersion(info.query.get('resourceVersion')) ?? 0, answer);
    const found = this.#store.get(resource, keyOf(info.namespace, info.name ?? ''));
    if (found === undefined) throw failures.notFound(resource, info.name ?? '');
    answer.send(200, {}, bodyOf(found, form));
  }

  /** Streamed, as fast as the client reads. Throws ApiFailure (400, 406, 410, 422, 500, 504). */
  async list(
    resource: Resource,
    info: RequestInfo,
    accept: string | undefined,
    answer: Answer,
  ): Promise<void> {
    const form = negotiate(accept, resource, true);
    const selection = parseSelection(resource, info.namespace, info.query);
    const page = await this.#page(resource, info.query, selection, answer);
    const { version, objects, continueToken, remaining } = page;
    const metadata = {
      resourceVersion: `${version}`,
      ...(continueToken === undefined ? {} : { continue: continueToken }),
      ...(remaining === undefined ? {} : { remainingItemCount: remaining }),
    };
    const [kind, apiVersion] =
      form === 'metadata' ? ['PartialObjectMetadataList', 'meta.k8s.io/v1'] : [`${resource.kind}List`, 'v1'];
    const opening = JSON.stringify({ kind, apiVersion, metadata }).slice(0, -1);
    await sendList(answer, `${opening},"items":[`, objects, form);
  }

  async #page(
    resource: Resource,
    query: URLSearchParams,
    selection: Selection,
    answer: Answer,
  ): Promise<Page> {
    const asked = query.get('resourceVersion') ?? '';
    const match = query.get('resourceVersionMatch') ?? '';
    const limit = Number(query.get('limit') ?? 0) || 0;
    const token = query.get('continue') ?? '';
    checkMatch(match, asked);
    if (token !== '') {
      if (asked !== '' && asked !== '0')
        throw failures.badRequest('specifying resource version is not allowed when using continue');
      return this.#continued(resource, token, limit, selection);
    }
    const isFromEtcd = asked === '' || (limit > 0 && asked !== '0') || match === 'Exact';
    if (isFromEtcd && asked !== '' && !/^\d+$/.test(asked))
      throw failures.badRequest(`invalid resource version: ${failures.badVersionMessage(asked)}`);
    const version = parseVersion(asked) ?? 0;
    if (!isFromEtcd || match === 'NotOlderThan') {
      await this.#awaitVersion(version, answer);
      const page = this.#select(resource, this.#store.version, '', isFromEtcd ? limit : 0, selection);
      // The watch cache of most versions is a map, and its lists are in no order: nobody may count on one.
      return isFromEtcd ? page : { ...page, objects: [...page.objects].reverse() };
    }
    if (version > this.#store.version)
      throw failures.internalError('etcdserver: mvcc: required revision is a future revision');
    if (version !== 0 && version < this.#store.compacted)
      throw failures.expired('The resourceVersion for the provided list is too old.');
    return this.#select(resource, version === 0 ? this.#store.version : version, '', limit, selection);
  }

  #continued(resource: Resource, text: string, limit: number, selection: Selection): Page {
    const { version, after } = parseContinue(text);
    if (version >= 0 && version < this.#store.compacted) {
      throw failures.expired(
        'The provided continue parameter is too old to display a consistent list result. You can start a new list ' +
          'without the continue parameter, or use the continue token in this response to retrieve the remainder of ' +
          'the results. Continuing with the provided token results in an inconsistent list - objects that were ' +
          'created, modified, or deleted between the time the first chunk was returned and now may show up in the ' +
          'list.',
        formatContinue({ version: -1, after }),
      );
    }
    return this.#select(resource, version < 0 ? this.#store.version : version, after, limit, selection);
  }

  /** @param limit - 0: all. */
  #select(resource: Resource, version: number, after: string, limit: number, selection: Selection): Page {
    const all = this.#store
      .list(resource, version)
      .filter((object) => object.key > after && selection.includes(object));
    if (limit === 0 || all.length <= limit)
      return { version, objects: all, continueToken: undefined, remaining: undefined };
    const objects = all.slice(0, limit);
    const continueToken = formatContinue({ version, after: objects[limit - 1].key });
    // Known only where nothing has to be read to select.
    const remaining = selection.isAll ? all.length - limit : undefined;
    return { version, objects, continueToken, remaining };
  }

  async #awaitVersion(version: number, answer: Answer): Promise<void> {
    if (version <= this.#store.version) return;
    const done = new AbortController();
    const stop = this.#store.onChange((change) => change.version >= version && done.abort());
    void answer.closed.then(() => done.abort());
    await nap(TOO_LARGE_WAIT_MS, done.signal, this.#clock);
    stop();
    if (version > this.#store.version) throw failures.tooLargeVersion(version, this.#store.version);
  }
}

const MATCHES = ['Exact', 'NotOlderThan', ''];

function checkMatch(match: string, asked: string): void {
  const option = 'resourceVersionMatch';
  if (match !== '' && asked === '')
    throw failures.invalidOption(option, `${option} is forbidden unless resourceVersion is provided`);
  if (match === 'Exact' && asked === '0')
    throw failures.invalidOption(option, `${option} "exact" is forbidden for resourceVersion "0"`);
  if (!MATCHES.includes(match)) throw failures.unsupportedOption(option, match, MATCHES);
}

/** Undefined: none was asked for. Throws ApiFailure (500). */
export function parseVersion(text: string | null): number | undefined {
  if (text === null || text === '') return undefined;
  if (!/^\d+$/.test(text)) throw failures.badVersion(text);
  return Number(text);
}

/** An object as the body of an answer. */
export function bodyOf(object: StoredObject, form: Form): Buffer {
  return Buffer.concat([...object.parts(form === 'metadata' ? 'metadata' : 'full'), LINE_END]);
}

const LINE_END = Buffer.from('\n');
const COMMA = Buffer.from(',');

async function sendList(
  answer: Answer,
  opening: string,
  objects: readonly StoredObject[],
  form: Form,
): Promise<void> {
  const view = form === 'metadata' ? 'metadata' : 'item';
  let parts: Buffer[] = [Buffer.from(opening)];
  let bytes = 0;
  let isBegun = false;
  for (let i = 0; i < objects.length; i++) {
    if (i > 0) parts.push(COMMA);
    parts.push(...objects[i].parts(view));
    bytes += objects[i].byteLength;
    if (bytes < CHUNK_BYTES) continue;
    if (!isBegun) answer.begin(200);
    isBegun = true;
    const mayGoOn = answer.write(Buffer.concat(parts));
    parts = [];
    bytes = 0;
    if (!mayGoOn) await answer.drained();
    if (answer.isOver) return;
  }
  parts.push(Buffer.from(']}\n'));
  const last = Buffer.concat(parts);
  if (!isBegun) return answer.send(200, {}, last);
  answer.write(last);
  answer.end();
}
