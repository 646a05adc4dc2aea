// Which leases this host believes, and what changes for its backend: the table and its diffs, pure.
//
// What judge.ts finds fit is used; everything else stays out and is listed as refused, with its reason, until the store
// changes it. Leases of two hosts may nest, which nesting.ts lists as alarms. Of two leases of one subnet under two ids
// the elder is used, and the other when that one goes.
//
// The work for an event does not grow with the table: leases are known by id, and those that another one may free or
// take away are found by their subnet.

import type { Ipv4 } from '../net/ipv4.js';
import { type DualAddress, type Prefix, prefixKey, prefixOf } from '../net/prefix.js';
import { Judge, type JudgeOptions, type Refusal, refusalOf } from './judge.js';
import {
  compareAge,
  type Lease,
  type LeaseUpdate,
  type Peer,
  type PeerDiff,
  sameHost,
  sameSubnets,
} from './lease.js';
import { addChange } from './lease-diff.js';
import { Nesting } from './nesting.js';

export interface LeaseChange {
  readonly diff: PeerDiff;
  /** Refusals that are new, or new in their reason. */
  readonly refusals: readonly Refusal[];
}

/** One update at work: accepted leases as they were before it, by id, and what it refused. */
interface Update {
  readonly before: Map<string, Peer | undefined>;
  readonly refusals: Refusal[];
}

/** The leases of the other hosts, as this host sees them. */
export class LeaseView {
  readonly #judge: Judge;
  readonly #network: Prefix;
  readonly #accepted = new Map<string, Peer>();
  readonly #refused = new Map<string, Refusal>();
  /** The accepted ones by subnet. */
  readonly #nesting = new Nesting();
  /** Refused for what other leases are, by the key of their subnet: they may be fit when those go. */
  readonly #waiting = new Map<number, Map<string, Lease>>();

  constructor(options: JudgeOptions) {
    this.#network = options.networks.v4!;
    this.#judge = new Judge(options);
  }

  get ownPublicIp(): DualAddress {
    return this.#judge.ownPublicIp;
  }

  /** This host has another public IP: every lease is judged anew. O(leases). */
  ownPublicIpChanged(publicIp: DualAddress): LeaseChange {
    const work: Update = { before: new Map(), refusals: [] };
    this.#judgeAgain(this.#judge.ownPublicIpChanged(publicIp), work);
    for (const lease of [...this.#accepted.values()]) this.#put(lease, work);
    for (const { lease } of [...this.#refused.values()]) this.#put(lease, work);
    return this.#changeBy(work);
  }

  /** Takes what the store reports and returns what it changes. An update that changes nothing returns empty lists. */
  apply(update: LeaseUpdate): LeaseChange {
    const work: Update = { before: new Map(), refusals: [] };
    if (update.kind === 'snapshot') {
      const present = new Set(update.leases.map(({ id }) => id));
      for (const id of this.#accepted.keys()) if (!present.has(id)) this.#remove(id, work);
      for (const id of this.#refused.keys()) if (!present.has(id)) this.#remove(id, work);
      for (const lease of update.leases) this.#put(lease, work);
    } else {
      for (const event of update.events) {
        if (event.kind === 'put') this.#put(event.lease, work);
        else this.#remove(event.id, work);
      }
    }
    return this.#changeBy(work);
  }

  accepted(): Iterable<Peer> {
    return this.#accepted.values();
  }

  refusals(): readonly Refusal[] {
    return [...this.#refused.values()];
  }

  /** Leases of two hosts that share addresses, in words. O(number of such pairs). */
  alarms(): readonly string[] {
    return this.#nesting.alarms();
  }

  /** Several events about one lease amount to its last state against its first. */
  #changeBy({ before, refusals }: Update): LeaseChange {
    const diff: Record<keyof PeerDiff, Peer[]> = { added: [], changed: [], removed: [] };
    for (const [id, was] of before) {
      const is = this.#accepted.get(id);
      if (was === undefined || is === undefined || !isSame(was, is)) addChange(diff, was, is);
    }
    return { diff, refusals };
  }

  #put(lease: Lease, work: Update): void {
    if (lease.subnets.v4 === undefined || lease.host.publicIp.v4 === undefined) {
      this.#judgeAgain(this.#judge.noteHost(lease.id, undefined), work);
      this.#refuse(refusalOf(lease, 'no-common-family', 'has no subnet and public IP in IPv4'), work);
      return;
    }
    if (this.#judge.isOwn(lease)) {
      this.#remove(lease.id, work);
      return;
    }
    const refusal = this.#judge.judge(lease);
    const host = refusal === undefined ? lease.host.publicIp.v4 : undefined;
    this.#judgeAgain(this.#judge.noteHost(lease.id, host), work);
    if (refusal === undefined) this.#settle(lease, work);
    else this.#refuse(refusal, work);
  }

  #remove(id: string, work: Update): void {
    this.#judgeAgain(this.#judge.noteHost(id, undefined), work);
    this.#forgetRefusal(id);
    this.#withdraw(id, work);
  }

  /** Uses a lease with which nothing is wrong by itself, or refuses it for what other leases are. */
  #settle(lease: Lease, work: Update): void {
    const holder = this.#nesting.at(lease.subnets.v4!);
    const isRival = holder !== undefined && holder.id !== lease.id;
    const refusal = this.#judge.judgeCover(lease) ?? (isRival ? rivalRefusal(lease, holder) : undefined);
    if (refusal === undefined) this.#accept(lease, work);
    else this.#refuse(refusal, work, lease);
  }

  #accept(lease: Lease, work: Update): void {
    const before = this.#accepted.get(lease.id);
    this.#forgetRefusal(lease.id);
    if (before !== undefined && isSame(before, lease)) {
      const isAsOld = before.seniority?.created === lease.seniority?.created;
      before.seniority = lease.seniority; // a renewal: the backend, which holds the same object, learns of it so
      if (isAsOld) return;
      // It was made anew, and may be the younger one now.
      for (const rival of this.#waitingFor(before.subnets.v4!))
        if (compareAge(rival, before) < 0) this.#settle(rival, work);
      return;
    }
    const holder = this.#nesting.at(lease.subnets.v4!);
    const isMoved = before !== undefined && !sameSubnets(before.subnets, lease.subnets);
    if (isMoved) this.#withdraw(lease.id, work);
    if (!work.before.has(lease.id)) work.before.set(lease.id, before);
    this.#accepted.set(lease.id, lease);
    this.#nesting.put(lease);
    // Judged after the elder has its place, it is refused.
    if (holder !== undefined && holder.id !== lease.id) this.#settle(holder, work);
  }

  /** `waiting` is the lease when it may be fit once other leases are gone. */
  #refuse(refusal: Refusal, work: Update, waiting?: Lease): void {
    const { id } = refusal.lease;
    const known = this.#refused.get(id);
    this.#forgetRefusal(id);
    this.#refused.set(id, refusal);
    if (waiting !== undefined) this.#wait(waiting);
    this.#withdraw(id, work);
    if (known?.code !== refusal.code) work.refusals.push(refusal);
  }

  /** Takes a lease out of use; a younger one of its subnet may come in. */
  #withdraw(id: string, work: Update): void {
    const before = this.#accepted.get(id);
    if (before === undefined) return;
    if (!work.before.has(id)) work.before.set(id, before);
    this.#accepted.delete(id);
    const subnet = before.subnets.v4!;
    if (this.#nesting.at(subnet) !== before) return; // an elder lease has its place already
    this.#nesting.delete(subnet);
    for (const lease of this.#waitingFor(subnet)) if (lease.id !== id) this.#settle(lease, work);
  }

  /** Hosts came or went: looks again at each lease that covers one of them. */
  #judgeAgain(hosts: readonly Ipv4[], work: Update): void {
    for (const host of hosts) {
      for (let length = this.#network.length + 1; length <= 32; length++) {
        const subnet = prefixOf(host, length);
        const holder = this.#nesting.at(subnet);
        if (holder !== undefined) this.#settle(holder, work);
        for (const lease of this.#waitingFor(subnet)) this.#settle(lease, work);
      }
    }
  }

  #wait(lease: Lease): void {
    const key = prefixKey(lease.subnets.v4!);
    const leases = this.#waiting.get(key) ?? new Map<string, Lease>();
    this.#waiting.set(key, leases.set(lease.id, lease));
  }

  /** The eldest first. */
  #waitingFor(subnet: Prefix): readonly Lease[] {
    return [...(this.#waiting.get(prefixKey(subnet))?.values() ?? [])].sort(compareAge);
  }

  #forgetRefusal(id: string): void {
    const lease = this.#refused.get(id)?.lease;
    if (lease === undefined) return;
    this.#refused.delete(id);
    if (lease.subnets.v4 === undefined) return;
    const key = prefixKey(lease.subnets.v4);
    const leases = this.#waiting.get(key);
    if (leases?.delete(id) === true && leases.size === 0) this.#waiting.delete(key);
  }
}

function rivalRefusal(lease: Lease, holder: Peer): Refusal | undefined {
  if (compareAge(lease, holder) < 0) return undefined;
  return refusalOf(lease, 'same-subnet', `lease ${holder.id}, which is older, has the same subnet`);
}

function isSame(a: Peer, b: Peer): boolean {
  return sameSubnets(a.subnets, b.subnets) && sameHost(a.host, b.host);
}
