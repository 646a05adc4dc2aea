// A client without opinions, for tests of the stand-in: it says what it is told to and shows what came, over HTTP/1.1
// or HTTP/2. One connection a request.

import { request as requestHttp, type IncomingMessage } from 'node:http';
import { connect, constants, type ClientHttp2Session } from 'node:http2';
import { request as requestHttps } from 'node:https';
import type { ApiObject } from './api-object.js';

export interface Question {
  /** @default GET */
  readonly method?: string;
  /** With its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON, or as it is when it is a text; null: none. */
  readonly body?: unknown;
  /** Undefined: no credentials. */
  readonly token?: string | undefined;
}

export interface Server {
  readonly url: string;
  /** PEM; undefined: plain HTTP. */
  readonly ca: string | undefined;
  /** PEM, of a client certificate. */
  readonly cert?: string;
  readonly key?: string;
}

/** What came of a request, while it comes. */
export class Reply {
  status = 0;
  headers: Readonly<Record<string, unknown>> = {};
  text = '';
  /** `ended`: cleanly; else the code of the error. */
  outcome: string | undefined;
  #wake = (): void => undefined;

  /** Frames that are complete. */
  get frames(): { readonly type: string; readonly object: ApiObject }[] {
    const lines = this.text.split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as { type: string; object: ApiObject });
  }

  get json(): ApiObject {
    return JSON.parse(this.text) as ApiObject;
  }

  /** Resolves when `test` is true of it. */
  async until(test: (reply: this) => boolean): Promise<this> {
    while (!test(this)) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this;
  }

  get done(): Promise<this> {
    return this.until(({ outcome }) => outcome !== undefined);
  }

  change(change: (reply: this) => void): void {
    change(this);
    this.#wake();
  }
}

/** A request that is under way; `end` gives it up. */
export interface Asked {
  readonly reply: Reply;
  /** Stops and goes on reading. */
  readonly pause: () => void;
  readonly resume: () => void;
  readonly end: () => void;
}

/** Over HTTP/1.1. */
export function ask1(server: Server, question: Question): Asked {
  const reply = new Reply();
  const request = server.ca === undefined ? requestHttp : requestHttps;
  const outgoing = request(`${server.url}${question.path}`, {
    method: question.method ?? 'GET',
    headers: { ...headersOf(question), ...lengthOf(question) },
    agent: false,
    ...tlsOf(server),
  });
  let answer: IncomingMessage | undefined;
  const fail = (error: Error): void => reply.change(() => (reply.outcome ??= codeOf(error)));
  outgoing.on('error', fail);
  outgoing.on('response', (incoming) => {
    answer = incoming;
    reply.change(() => {
      reply.status = incoming.statusCode ?? 0;
      reply.headers = incoming.headers;
    });
    incoming.setEncoding('utf8');
    incoming.on('data', (chunk: string) => reply.change(() => (reply.text += chunk)));
    incoming.on('error', fail);
    incoming.on('end', () => reply.change(() => (reply.outcome ??= 'ended')));
  });
  outgoing.end(bodyText(question));
  return {
    reply,
    pause: () => answer?.pause(),
    resume: () => answer?.resume(),
    end: () => outgoing.destroy(),
  };
}

/** Over HTTP/2. `session` is made when it is not given, and closed with the request. */
export function ask2(server: Server, question: Question, session?: ClientHttp2Session): Asked {
  const reply = new Reply();
  const used = session ?? openSession(server);
  const stream = used.request({
    [constants.HTTP2_HEADER_METHOD]: question.method ?? 'GET',
    [constants.HTTP2_HEADER_PATH]: question.path,
    ...headersOf(question),
  });
  const fail = (error: Error): void => reply.change(() => (reply.outcome ??= codeOf(error)));
  used.on('error', fail);
  stream.on('error', fail);
  stream.on('response', (headers) =>
    reply.change(() => {
      reply.status = headers[':status'] ?? 0;
      reply.headers = headers;
    }),
  );
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => reply.change(() => (reply.text += chunk)));
  stream.on('end', () => reply.change(() => (reply.outcome ??= 'ended')));
  stream.on('close', () => {
    reply.change(() => (reply.outcome ??= `closed ${stream.rstCode}`));
    if (session === undefined) used.destroy();
  });
  stream.end(bodyText(question));
  return {
    reply,
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    end: () => used.destroy(),
  };
}

export function openSession(server: Server): ClientHttp2Session {
  const session = connect(server.url, tlsOf(server));
  session.on('error', () => undefined);
  return session;
}

function tlsOf({ ca, cert, key }: Server): { ca?: string; cert?: string; key?: string } {
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  };
}

function headersOf({ headers, token, body }: Question): Record<string, string> {
  return {
    accept: 'application/json',
    ...(body === undefined || body === null ? {} : { 'content-type': 'application/json' }),
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...headers,
  };
}

/** Node says how a body ends of its own accord, but for the methods that seldom have one. */
function lengthOf(question: Question): Record<string, string> {
  const text = bodyText(question);
  return text === undefined ? {} : { 'content-length': `${Buffer.byteLength(text)}` };
}

function bodyText({ body }: Question): string | undefined {
  if (body === undefined || body === null) return undefined;
  return typeof body === 'string' ? body : JSON.stringify(body);
}

/** Of an HTTP/2 stream that went with its connection: what became of that. */
function codeOf(error: Error): string {
  const { cause } = error;
  if (cause instanceof Error && 'code' in cause) return String(cause.code);
  return 'code' in error ? String(error.code) : error.message;
}
