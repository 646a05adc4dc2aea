// Which leases this host believes, and what changes for its backend: the table and its diffs, pure.
//
// What judge.ts finds fit is used; everything else stays out and is listed as refused, with its reason, until the store
// changes it. Leases of two hosts may nest, which nesting.ts lists as alarms. Of two leases of one subnet under two ids
// the elder is used, and the other when that one goes.
//
// The work for an event does not grow with the table: leases are known by id, and those that another one may free or
// take away are found by their subnet.

import { familiesOf } from '../net/dual.js';
import type { Ipv6 } from '../net/ipv6.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  type Prefix,
  prefixEquals,
  prefixKey,
  prefixOf,
} from '../net/prefix.js';
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

/** Subnets, of any family or none. */
interface Places {
  readonly v4?: Prefix;
  readonly v6?: Prefix<Ipv6>;
}

/** The leases of the other hosts, as this host sees them. */
export class LeaseView {
  readonly #judge: Judge;
  readonly #networks: DualPrefix;
  readonly #accepted = new Map<string, Peer>();
  readonly #refused = new Map<string, Refusal>();
  /** The accepted ones by subnet. */
  readonly #nesting = { v4: new Nesting('v4'), v6: new Nesting('v6') };
  /** Refused for what other leases are, by the key of each of their subnets: they may be fit when those go. */
  readonly #waiting = new Map<number | bigint, Map<string, Peer>>();

  constructor(options: JudgeOptions) {
    this.#networks = options.networks;
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
    return [...this.#nesting.v4.alarms(), ...this.#nesting.v6.alarms()];
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

  #put(given: Lease, work: Update): void {
    const lease = this.#judge.cut(given);
    if (lease === undefined) {
      this.#judgeAgain(this.#judge.noteHost(given.id, undefined), work);
      this.#refuse(this.#judge.foreign(given), work);
      return;
    }
    if (this.#judge.isOwn(lease)) {
      this.#remove(lease.id, work);
      return;
    }
    const refusal = this.#judge.judge(lease);
    const host = refusal === undefined ? lease.host.publicIp : undefined;
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
  #settle(lease: Peer, work: Update): void {
    const elder = this.#rivalsOf(lease).find((rival) => compareAge(lease, rival) >= 0);
    const refusal = this.#judge.judgeCover(lease) ?? (elder && rivalRefusal(lease, elder));
    if (refusal === undefined) this.#accept(lease, work);
    else this.#refuse(refusal, work, lease);
  }

  #accept(lease: Peer, work: Update): void {
    const before = this.#accepted.get(lease.id);
    this.#forgetRefusal(lease.id);
    if (before !== undefined && isSame(before, lease)) {
      const isAsOld = before.seniority?.created === lease.seniority?.created;
      before.seniority = lease.seniority; // a renewal: the backend, which holds the same object, learns of it so
      if (!isAsOld) this.#offerToElder(before, work);
      return;
    }
    const rivals = this.#rivalsOf(lease);
    if (!work.before.has(lease.id)) work.before.set(lease.id, before);
    this.#accepted.set(lease.id, lease);
    for (const family of familiesOf(lease.subnets)) this.#nesting[family].put(lease);
    const left = before === undefined ? {} : this.#leavePlaces(before);
    // Judged after the elder has its place, they are refused.
    for (const rival of rivals) if (this.#accepted.get(rival.id) === rival) this.#settle(rival, work);
    this.#offer(left, lease.id, work);
    if (before !== undefined) this.#offerToElder(lease, work);
  }

  /** A peer that was made anew may be the younger one now. */
  #offerToElder(peer: Peer, work: Update): void {
    for (const rival of this.#waitingFor(peer.subnets))
      if (compareAge(rival, peer) < 0) this.#settleAgain(rival, work);
  }

  /** Those that have a subnet of a lease now: one for each family at most. */
  #rivalsOf({ id, subnets }: Peer): readonly Peer[] {
    const { v4, v6 } = subnets;
    const holders = [v4 && this.#nesting.v4.at(v4), v6 && this.#nesting.v6.at(v6)];
    return holders.filter((holder) => holder !== undefined && holder.id !== id) as Peer[];
  }

  /** `waiting` is the lease when it may be fit once other leases are gone. */
  #refuse(refusal: Refusal, work: Update, waiting?: Peer): void {
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
    this.#offer(this.#leavePlaces(before), id, work);
  }

  /** The subnets that a peer still has the place of, and has no more. An elder lease may have its place already. */
  #leavePlaces(peer: Peer): Places {
    const { v4, v6 } = peer.subnets;
    const places: { -readonly [family in keyof Places]: Places[family] } = {};
    if (v4 !== undefined && this.#nesting.v4.at(v4) === peer) places.v4 = v4;
    if (v6 !== undefined && this.#nesting.v6.at(v6) === peer) places.v6 = v6;
    if (places.v4 !== undefined) this.#nesting.v4.delete(places.v4);
    if (places.v6 !== undefined) this.#nesting.v6.delete(places.v6);
    return places;
  }

  /** Subnets were left by lease `id`: others that wait for them may come in. */
  #offer(places: Places, id: string, work: Update): void {
    for (const lease of this.#waitingFor(places)) if (lease.id !== id) this.#settleAgain(lease, work);
  }

  /** Hosts came or went: looks again at each lease that covers one of them. */
  #judgeAgain(hosts: readonly Address[], work: Update): void {
    for (const host of hosts) {
      const [family, bits] = typeof host === 'number' ? (['v4', 32] as const) : (['v6', 128] as const);
      for (let length = this.#networks[family]!.length + 1; length <= bits; length++) {
        const subnet = prefixOf(host, length);
        const holder = this.#nesting[family].at(subnet);
        if (holder !== undefined) this.#settle(holder, work);
        for (const lease of this.#waitingAt(subnet)) this.#settleAgain(lease, work);
      }
    }
  }

  /** Unless it was settled since it was found waiting. */
  #settleAgain(lease: Peer, work: Update): void {
    if (this.#refused.get(lease.id)?.lease === lease) this.#settle(lease, work);
  }

  #wait(lease: Peer): void {
    for (const family of familiesOf(lease.subnets)) {
      const key = prefixKey(lease.subnets[family]!);
      const leases = this.#waiting.get(key) ?? new Map<string, Peer>();
      this.#waiting.set(key, leases.set(lease.id, lease));
    }
  }

  /** Those that wait for any of the subnets, the eldest first. */
  #waitingFor({ v4, v6 }: Places): readonly Peer[] {
    const found = [...(v4 ? this.#waitingAt(v4) : []), ...(v6 ? this.#waitingAt(v6) : [])];
    return v4 === undefined || v6 === undefined ? found : [...new Set(found)].sort(compareAge);
  }

  /** The eldest first. */
  #waitingAt(subnet: Prefix<Address>): readonly Peer[] {
    return [...(this.#waiting.get(prefixKey(subnet))?.values() ?? [])].sort(compareAge);
  }

  #forgetRefusal(id: string): void {
    const lease = this.#refused.get(id)?.lease;
    if (lease === undefined) return;
    this.#refused.delete(id);
    for (const family of familiesOf(lease.subnets)) {
      const key = prefixKey(lease.subnets[family]!);
      const leases = this.#waiting.get(key);
      if (leases?.delete(id) === true && leases.size === 0) this.#waiting.delete(key);
    }
  }
}

function rivalRefusal(lease: Peer, { id, subnets }: Peer): Refusal {
  const { v4 } = lease.subnets;
  const family = v4 !== undefined && subnets.v4 !== undefined && prefixEquals(v4, subnets.v4) ? 'v4' : 'v6';
  return refusalOf(lease, 'same-subnet', `lease ${id}, which is older, has the same subnet`, family);
}

function isSame(a: Peer, b: Peer): boolean {
  return sameSubnets(a.subnets, b.subnets) && sameHost(a.host, b.host);
}
