// One request, from its head to its answer: recorded, what is planned to go wrong, who it is, whether they may, what
// is asked.

import { type Access, PUBLIC_PATHS } from './access.js';
import { Answer } from './answer.js';
import type { ApiObject } from './api-object.js';
import { ApiFailure, methodNotAllowed, noSuchResource, tooLargeBody } from './failures.js';
import type { Faults } from './faults.js';
import { negotiate } from './negotiation.js';
import { bodyOf, type Reads } from './reads.js';
import { parseRequest, type RequestInfo } from './request-info.js';
import type { SeenRequest, SeenRequests } from './seen-requests.js';
import type { Incoming, Outgoing, Peer } from './transport.js';
import type { Watches } from './watches.js';
import { parseBody, type Writes, type Written } from './writes.js';

/** --max-request-bytes of the server. */
const BODY_LIMIT = 3_145_728;

export interface Parts {
  readonly access: Access;
  readonly faults: Faults;
  readonly reads: Reads;
  readonly writes: Writes;
  readonly watches: Watches;
  readonly seen: SeenRequests;
}

export class Handler {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async handle(incoming: Incoming, outgoing: Outgoing, peer: Peer): Promise<void> {
    const info = parseRequest(incoming.method ?? 'GET', incoming.url ?? '/');
    const answer = new Answer(outgoing, peer.connection);
    incoming.on('error', () => undefined);
    const body = await readBody(incoming);
    const seen = describe(info, incoming, peer, body);
    this.#parts.seen.add(seen);
    try {
      await this.#answer(info, incoming, peer, body, answer, seen);
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
      sendFailure(answer, error);
    } finally {
      seen.status = answer.status;
    }
  }

  async #answer(
    info: RequestInfo,
    incoming: Incoming,
    peer: Peer,
    body: Buffer,
    answer: Answer,
    seen: SeenRequest,
  ): Promise<void> {
    const { access, faults } = this.#parts;
    const plan = faults.take(info);
    if (plan?.kind === 'fail') throw plan.failure;
    if (plan?.kind === 'truncate') answer.truncate(plan.bytes, plan.ending);
    if (plan?.kind === 'hold') await Promise.race([plan.released, answer.closed]);
    if (answer.isOver) return;
    const { authorization, accept } = incoming.headers;
    seen.user = access.authenticate({ authorization, certificateName: peer.certificateName });
    access.authorize(seen.user, info);
    if (info.ruleName === undefined) return answerPath(info, answer);
    if (body.length > BODY_LIMIT) throw tooLargeBody();
    const { resource, subresource, verb } = info;
    if (resource === undefined) throw noSuchResource();
    if (subresource !== undefined && !(resource.hasStatus && subresource === 'status'))
      throw noSuchResource();
    const isMissing = resource.isNamespaced && info.namespace === undefined;
    if (isMissing && !['list', 'watch'].includes(verb)) throw methodNotAllowed();
    if (verb === 'get') return this.#parts.reads.get(resource, info, accept, answer);
    if (verb === 'list') return this.#parts.reads.list(resource, info, accept, answer);
    if (verb === 'watch') return this.#parts.watches.start(resource, info, accept, answer);
    this.#write(info, incoming, body, answer);
  }

  #write(info: RequestInfo, incoming: Incoming, body: Buffer, answer: Answer): void {
    const { writes } = this.#parts;
    const { verb, name, namespace, subresource } = info;
    const resource = info.resource!;
    const form = negotiate(incoming.headers.accept, resource, false);
    const send = ({ code, object: stored }: Written): void => answer.send(code, {}, bodyOf(stored, form));
    if (verb === 'create' && name === undefined) {
      const isDryRun = info.query.get('dryRun') === 'All';
      return send(writes.create(resource, namespace, parseBody(body), isDryRun));
    }
    if (verb === 'update' && name !== undefined) return send(writes.update(resource, info, parseBody(body)));
    const type = incoming.headers['content-type'];
    if (verb === 'patch' && name !== undefined) return send(writes.patch(resource, info, type, body));
    if (verb === 'delete' && subresource === undefined)
      return sendJson(answer, 200, writes.delete(resource, info, parseBody(body)));
    throw methodNotAllowed();
  }
}

async function readBody(incoming: Incoming): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of incoming) {
      bytes += (chunk as Buffer).length;
      if (bytes <= BODY_LIMIT + 1) chunks.push(chunk as Buffer);
    }
  } catch {
    // The client went away; the answer finds nobody.
  }
  return bytes > BODY_LIMIT ? Buffer.alloc(BODY_LIMIT + 1) : Buffer.concat(chunks);
}

function describe(info: RequestInfo, incoming: Incoming, peer: Peer, body: Buffer): SeenRequest {
  return {
    verb: info.verb,
    resource: info.ruleName,
    method: info.method,
    path: info.path,
    query: Object.fromEntries(info.query),
    headers: incoming.headers,
    body: jsonOrText(body),
    httpVersion: incoming.httpVersion,
    connection: peer.connection.number,
    remoteAddress: peer.connection.remoteAddress,
    user: undefined,
    status: 0,
  };
}

function jsonOrText(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(body.toString());
  } catch {
    return body.toString();
  }
}

/** What the server says of itself, as text, and its version. */
function answerPath({ path }: RequestInfo, answer: Answer): void {
  if (['/healthz', '/livez', '/readyz'].includes(path))
    return answer.send(200, { 'content-type': 'text/plain; charset=utf-8' }, Buffer.from('ok'));
  if (path === '/version') {
    const version = { major: '1', minor: '27', gitVersion: 'v1.27.1', platform: 'linux/amd64' };
    return sendJson(answer, 200, version);
  }
  throw new ApiFailure(404, { paths: ['/api', '/api/v1', ...PUBLIC_PATHS] });
}

function sendJson(answer: Answer, code: number, object: ApiObject): void {
  answer.send(code, {}, Buffer.from(`${JSON.stringify(object)}\n`));
}

function sendFailure(answer: Answer, { code, body, headers }: ApiFailure): void {
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  answer.send(code, headers, Buffer.from(text));
}
