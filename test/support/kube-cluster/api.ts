// The raw API for tests: requests as one says them, answers as they come. It shares no code with the client under test.

import { Agent, request } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';

/** A JSON object of the API, as it came. */
export type Json = Readonly<Record<string, unknown>>;

export interface ApiAnswer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** Of JSON, what it means; else the text. */
  readonly body: unknown;
}

export interface ApiRequest {
  readonly method: string;
  readonly path: string;
  /** An object is sent as JSON, a string as it is. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One event of a watch. */
export interface RawEvent {
  readonly type: string;
  readonly object: Json;
}

/** How an API server is reached, and as whom. */
export interface Way {
  readonly address: string;
  readonly port: number;
  /** Goes through a Unix socket instead, see place.ts. */
  readonly socketPath?: string | undefined;
  /** PEM text. */
  readonly ca: string;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly token?: string | undefined;
}

export const STRATEGIC_MERGE = 'application/strategic-merge-patch+json';

export class KubeApi {
  readonly #way: Way;
  readonly #agent: Agent;

  constructor(way: Way) {
    this.#way = way;
    const { ca, cert, key } = way;
    this.#agent = new Agent({ keepAlive: true, ca, ...(cert === undefined ? {} : { cert, key }) });
  }

  /** Whatever is answered; rejects when nothing is within 30 s. */
  async ask(what: ApiRequest): Promise<ApiAnswer> {
    const response = await this.#open(what);
    let text = '';
    response.setEncoding('utf8');
    for await (const chunk of response as AsyncIterable<string>) text += chunk;
    const isJson = /^application\/json/.test(response.headers['content-type'] ?? '');
    const body: unknown = isJson && text !== '' ? JSON.parse(text) : text;
    return { status: response.statusCode ?? 0, headers: response.headers, body };
  }

  /** The object that a request gives; rejects with the answer's text unless its status is 2xx. */
  async must(method: string, path: string, body?: unknown, contentType?: string): Promise<Json> {
    const headers = contentType === undefined ? {} : { 'content-type': contentType };
    const answer = await this.ask({ method, path, body, headers });
    if (answer.status < 200 || answer.status > 299) {
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    }
    return answer.body as Json;
  }

  /** Events of a watch as they come; `ended` resolves with its end. */
  async watch(
    path: string,
    onEvent: (event: RawEvent) => void,
    accept = 'application/json',
  ): Promise<{ ended: Promise<void>; close(): void }> {
    const response = await this.#open({ method: 'GET', path, headers: { accept } });
    if (response.statusCode !== 200) throw new Error(`GET ${path}: ${response.statusCode}`);
    response.setTimeout(0); // an idle watch says nothing for a minute
    const lines = createInterface({ input: response });
    lines.on('line', (line) => onEvent(JSON.parse(line) as RawEvent));
    // A connection that is reset; "close" follows. An interface of readline tells it a second time.
    for (const emitter of [response, lines]) emitter.on('error', () => undefined);
    return {
      ended: new Promise((resolve) => response.once('close', () => resolve())),
      close: () => response.destroy(),
    };
  }

  /** Ends its connections; the next request opens another. */
  disconnect(): void {
    this.#agent.destroy();
  }

  #open({ method, path, body, headers = {} }: ApiRequest): Promise<IncomingMessage> {
    const { address, port, socketPath, token } = this.#way;
    const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          ...(socketPath === undefined ? { host: address, port } : { socketPath }),
          // Checked against the certificate, whatever the way there.
          servername: 'kubernetes',
          method,
          path,
          agent: this.#agent,
          timeout: 30_000,
          headers: {
            accept: 'application/json',
            host: `${address}:${port}`,
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            ...(text === undefined ? {} : { 'content-type': 'application/json' }),
            ...headers,
          },
        },
        resolve,
      );
      sent.once('error', reject);
      sent.once('timeout', () => sent.destroy(new Error(`${method} ${path}: no answer within 30 s`)));
      sent.end(text);
    });
  }
}
