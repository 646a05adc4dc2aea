// What clients said: every request, for tests to assert on.

import type { IncomingHttpHeaders } from 'node:http';
import type { Verb } from './request-info.js';

export interface SeenRequest {
  readonly verb: Verb;
  /** "nodes/status"; undefined: a path of no resource. */
  readonly resource: string | undefined;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingHttpHeaders;
  /** Parsed when it is JSON; undefined: none. */
  readonly body: unknown;
  readonly httpVersion: string;
  /** 1 for the first connection of the server. */
  readonly connection: number;
  readonly remoteAddress: string;
  /** Undefined: refused before it was known. */
  user: string | undefined;
  /** Of the answer; 0: none yet. */
  status: number;
}

/** As many as a test looks at; a lab that runs for hours must not fill the memory. */
const LIMIT = 20_000;

export class SeenRequests {
  #all: SeenRequest[] = [];

  add(request: SeenRequest): void {
    this.#all.push(request);
    if (this.#all.length > LIMIT * 1.25) this.#all = this.#all.slice(-LIMIT);
  }

  /** In the order in which they came; those of a verb, of a resource. */
  list(verb?: Verb, resource?: string): readonly Readonly<SeenRequest>[] {
    return this.#all.filter(
      (request) =>
        (verb === undefined || request.verb === verb) &&
        (resource === undefined || request.resource === resource),
    );
  }

  clear(): void {
    this.#all = [];
  }
}
