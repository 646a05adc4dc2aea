// One family of a peer of a kernel mode: what it needs, what the kernel has of it, and what is wrong. A peer with both
// has two records, and what is wrong with the one does not hold up the other.
//
//   waiting → programmed | failed (tried again, alone) | refused (looked at again in every full run)

import type { Backoff } from '../core/waiting.js';
import type { ConditionCode } from '../core/conditions.js';
import type { Peer } from '../lease/lease.js';
import { familiesOf, type FamilyName } from '../net/dual.js';
import { type Address, formatPrefix, type Prefix } from '../net/prefix.js';
import { PEER_REFUSALS, type PeerState } from '../ops/status.js';
import type { KernelObject, PeerRefusal } from './objects.js';
import { retryBackoff } from './retry.js';

/** The kernel refused something of a peer. */
interface Failure {
  readonly message: string;
  readonly backoff: Backoff;
  readonly retryAtMs: number;
}

/** Whether a lease has what a record of this family is about. */
export function hasFamily({ subnets, host }: Peer, family: FamilyName): boolean {
  return subnets[family] !== undefined && host.publicIp[family] !== undefined;
}

/** The public IP of each family that a lease has a record of, IPv4 first. */
export function waysTo(lease: Peer): readonly Address[] {
  const families = familiesOf(lease.host.publicIp).filter((family) => hasFamily(lease, family));
  return families.map((family) => lease.host.publicIp[family]!);
}

/** No store has an id with a space in it. */
export function recordKey(id: string, family: FamilyName): string {
  return family === 'v4' ? id : `${id} v6`;
}

/** What the programmer knows of one family of a lease. */
export class PeerRecord {
  readonly key: string;
  readonly family: FamilyName;
  #lease: Peer;
  /** The lease that `#verdict` was made from. */
  #judged: Peer | undefined;
  #verdict: readonly KernelObject[] | PeerRefusal = [];
  /** What the kernel took entirely; the same array as `objects` unless something failed or is waiting. */
  #done: readonly KernelObject[] | undefined;
  #failure: Failure | undefined;
  /** Reason of the refusal that was told last. */
  #told: string | undefined;

  /** `lease` has this family, and so has each that takes its place; see hasFamily(). */
  constructor(lease: Peer, family: FamilyName) {
    this.#lease = lease;
    this.family = family;
    this.key = recordKey(lease.id, family);
  }

  get lease(): Peer {
    return this.#lease;
  }

  get subnet(): Prefix<Address> {
    return this.#lease.subnets[this.family]!;
  }

  get publicIp(): Address {
    return this.#lease.host.publicIp[this.family]!;
  }

  /** What it needs in the kernel; empty before it is judged, and while it is refused. */
  get objects(): readonly KernelObject[] {
    return isRefusal(this.#verdict) ? [] : this.#verdict;
  }

  /** What the kernel is known to have of it. */
  get done(): readonly KernelObject[] | undefined {
    return this.#done;
  }

  get isRefused(): boolean {
    return isRefusal(this.#verdict);
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** When it is tried again, by the clock of fail(); Infinity when it has not failed. */
  get retryAtMs(): number {
    return this.#failure?.retryAtMs ?? Infinity;
  }

  /** Whether the kernel holds what packets to it need. */
  get isCarried(): boolean {
    return this.#done !== undefined && this.#failure === undefined;
  }

  /** The peer has another lease from now on. */
  change(lease: Peer): void {
    this.#lease = lease;
    this.#failure = undefined;
  }

  /** What it gets from now on. */
  judge(verdict: readonly KernelObject[] | PeerRefusal): void {
    this.#judged = this.#lease;
    this.#verdict = verdict;
    if (isRefusal(verdict)) this.#failure = this.#done = undefined;
  }

  /** The kernel took `objects`; a lease that changed meanwhile is waiting again. */
  succeed(objects: readonly KernelObject[]): void {
    if (this.#verdict !== objects || this.#judged !== this.#lease) return;
    this.#failure = undefined;
    this.#done = objects;
  }

  /** Notes that the kernel refused something. True for the first of several refusals in a row. */
  fail(message: string, nowMs: number, random: () => number): boolean {
    const backoff = this.#failure?.backoff ?? retryBackoff(random);
    const isFirst = this.#failure === undefined;
    this.#failure = { message, backoff, retryAtMs: nowMs + backoff.next() };
    this.#done = undefined;
    return isFirst;
  }

  /** The reason of the refusal, if it was not logged yet. */
  takeNews(): string | undefined {
    const reason = isRefusal(this.#verdict) ? this.#verdict.reason : undefined;
    const isNews = reason !== this.#told;
    this.#told = reason;
    return isNews ? reason : undefined;
  }

  state(): PeerState {
    if (this.#judged !== this.#lease) return { state: 'waiting' };
    if (this.#failure !== undefined) return { state: 'failed', reason: this.#failure.message };
    if (isRefusal(this.#verdict)) return { state: 'refused', ...this.#verdict };
    return { state: this.#done === this.#verdict ? 'programmed' : 'waiting' };
  }

  /** What is wrong with it; undefined when nothing is. */
  fault(): { readonly code: ConditionCode; readonly text: string } | undefined {
    const subnet = formatPrefix(this.subnet);
    if (this.#failure !== undefined) {
      const text = `peer ${subnet} cannot be programmed: ${this.#failure.message}`;
      return { code: 'peer-unprogrammed', text };
    }
    if (!isRefusal(this.#verdict)) return undefined;
    return {
      code: PEER_REFUSALS[this.#verdict.code].condition,
      text: `peer ${subnet} ${this.#verdict.reason}`,
    };
  }
}

export function isRefusal(verdict: readonly KernelObject[] | PeerRefusal): verdict is PeerRefusal {
  return 'code' in verdict;
}
