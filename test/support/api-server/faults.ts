// What is to go wrong with requests that come: planned by a test, taken by the requests it fits.

import type { Ending } from './answer.js';
import { ApiFailure, failureOf } from './failures.js';
import type { RequestInfo, Verb } from './request-info.js';

/** Which requests; each field that is given must fit. */
export interface Match {
  readonly verb?: Verb;
  /** As in a rule: "nodes/status". */
  readonly resource?: string;
  readonly name?: string;
  /** How many of them. @default 1 */
  readonly times?: number;
}

/** A status, and what goes with it. */
export interface Refusal {
  readonly code: number;
  /** Of the header Retry-After. @default none, but 1 of 429 */
  readonly retryAfterSeconds?: number;
}

export type Plan =
  | { readonly kind: 'fail'; readonly failure: ApiFailure }
  | { readonly kind: 'truncate'; readonly bytes: number; readonly ending: Ending }
  | { readonly kind: 'hold'; readonly released: Promise<void> };

interface Planned {
  readonly match: Match;
  readonly plan: Plan;
  left: number;
}

export class Faults {
  #planned: Planned[] = [];

  /** Answers with this status, and what a server says with it; 429 as a text with Retry-After. */
  failNext(failure: ApiFailure | Refusal | number, match: Match = {}): void {
    this.#add({ kind: 'fail', failure: makeFailure(failure) }, match);
  }

  /** The body of the answer breaks off after so many bytes. */
  truncateNext(bytes: number, ending: Ending, match: Match = {}): void {
    this.#add({ kind: 'truncate', bytes, ending }, match);
  }

  /** No answer until the result is called; then as if nothing had been. */
  hold(match: Match = {}): () => void {
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    this.#add({ kind: 'hold', released }, match);
    return release;
  }

  clear(): void {
    this.#planned = [];
  }

  /** What is planned for this request. */
  take(info: RequestInfo): Plan | undefined {
    const found = this.#planned.find(({ match }) => fits(match, info));
    if (found !== undefined && --found.left <= 0)
      this.#planned = this.#planned.filter((other) => other !== found);
    return found?.plan;
  }

  #add(plan: Plan, match: Match): void {
    this.#planned.push({ match, plan, left: match.times ?? 1 });
  }
}

function makeFailure(failure: ApiFailure | Refusal | number): ApiFailure {
  if (failure instanceof ApiFailure) return failure;
  if (typeof failure === 'number') return failureOf(failure);
  return failureOf(failure.code, failure.retryAfterSeconds);
}

function fits({ verb, resource, name }: Match, info: RequestInfo): boolean {
  return (
    (verb === undefined || verb === info.verb) &&
    (resource === undefined || resource === info.ruleName) &&
    (name === undefined || name === info.name)
  );
}
