// Sends echo requests to all peers through the overlay itself, within one limit for all of them together. Only these
// tell whether packets reach a peer: its public IP may answer while its daemon is dead or its UDP port is blocked.
//
// A peer is asked on each way that its packets take: one in the udp mode, one for each family in the kernel modes. Each
// way has turns and a state of its own, and the peer is what its worse way is.
//
// Ways are kept in the order in which they were asked last, and whichever is first has its turn when five seconds are
// over. A tick every 100 ms asks ten at most, so that 10,000 have a turn every 100 s. One without an answer is asked
// again after a second, three times in all, from the same limit.
//
// Peers with traffic come first, for it is their state that matters, and to be sent to by the kernel lane they must be
// heard every 15 s. One whose traffic begins is asked at once. It keeps its place for a while when its traffic ends:
// connections that come again find the lane open, and bulk that begins without it stays without it (docs/lane.md).
//
// An answer counts under the same rules as a path probe's: it comes from the address that was asked, with our
// identifier, a sequence number that is waited for, and its token. An answer that comes late takes the loss back.

import type { Address } from '../net/prefix.js';
import { buildEchoTo, MIN_PROBE_BYTES, type Received, TOKEN_BYTES } from './icmp-echo.js';
import { addressOf, type IcmpSender, type PlainAddress, plainOf } from './path-prober.js';
import { REACH_STATES, type ReachState } from '../ops/status.js';
import { type HostAnswer, isWorse, PeerReach, type Reach } from './peer-reach.js';

const TICK_MS = 100;
const ECHOES_PER_TICK = 10;
/** Echoes of a tick that may be out of turn: hosts that are dead must not keep the others from their turns. */
const SOON_PER_TICK = 5;
/** Of those with traffic. */
const BUSY_PER_TICK = 6;
/** What those at rest have in any case, beside those that are asked out of turn: some quarter of all. */
const REST_PER_TICK = 3;
const CYCLE_MS = 5_000;
/** As many peers with traffic as have their turns in time. */
const MAX_BUSY = (BUSY_PER_TICK * CYCLE_MS) / TICK_MS;
/** How long a peer counts as one with traffic after it had any; and when there are more than have turns in time. */
const BUSY_MS = 600_000;
const BUSY_AMONG_MANY_MS = 10_000;
const SOON_MS = 1_000;
const ANSWER_MS = 900;
/** How long an answer that comes late is still recognized. */
const LATE_MS = 5_000;

export interface OverlayPeer<Lease> {
  /** Id of its lease: one peer for each. */
  readonly id: string;
  /** Its public IP on each way to it; of two the first is of IPv4, the second of IPv6. */
  readonly ways: readonly Address[];
  readonly lease: Lease;
}

export interface OverlayProberOptions<Lease> {
  readonly sender: Pick<IcmpSender, 'send'>;
  /** The address at a peer's end of the overlay, by the way to a public IP; undefined while nothing is sent there. */
  readonly targetOf: (lease: Lease, way: Address) => Address | undefined;
  /** Packets outbound and inbound that the data path has counted for a peer; undefined where it counts none. */
  readonly packetsOf: (lease: Lease) => readonly [number, number] | undefined;
  /** Ids of peers with traffic, each about once a second while it has any; called with each tick. */
  readonly takeBusy: () => readonly string[];
  readonly hostAnswer: (publicIp: Address) => HostAnswer;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly randomBytes: (count: number) => Buffer;
}

/** There may be 65,000 of these: numbers are such as V8 keeps without an object of their own, 32 bits signed. */
interface Way<Lease> {
  /** Id of the peer's lease for its first way; see secondKey(). */
  readonly key: string;
  readonly address: PlainAddress;
  lease: Lease;
  /** Undefined until it is asked, and while nothing is sent to it. */
  reach: PeerReach | undefined;
  /** In whole milliseconds. */
  askedMs: number;
  /** The peer's other way. */
  other: Way<Lease> | undefined;
}

/** What is known of one way to a peer. */
export interface WayReport<Lease> {
  readonly lease: Lease;
  readonly publicIp: Address;
  readonly report: Reach;
}

/** Addresses of ways, once for each. */
export interface AddressChanges {
  readonly left: Address[];
  readonly come: Address[];
}

interface Asked<Lease> {
  readonly way: Way<Lease>;
  readonly reach: PeerReach;
  readonly target: Address;
  readonly token: Buffer;
  readonly sentAtMs: number;
}

const NEVER_MS = -(2 ** 30);

const NOT_USED: Reach = { state: 'unknown', reason: 'not used' };
const NOT_ASKED: Reach = new PeerReach(0).report('none');

/** `Lease` is the caller's own type; values of it are only handed back. */
export class OverlayProber<Lease> {
  readonly #options: OverlayProberOptions<Lease>;
  readonly #identifier: number;
  /** By the time they were asked last. */
  readonly #ways = new Map<string, Way<Lease>>();
  /** Those that are asked before their turn. */
  readonly #soon = new Set<Way<Lease>>();
  /** Those whose traffic began, until they are asked. */
  readonly #begun = new Set<Way<Lease>>();
  /** Those with traffic and when they last had any, by the time they were asked last. */
  readonly #busy = new Map<Way<Lease>, number>();
  /** By sequence number, in the order of sending. */
  readonly #asked = new Map<number, Asked<Lease>>();
  readonly #late = new Map<number, Asked<Lease>>();
  #sequence = 0;
  #sent = 0;
  #answered = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: OverlayProberOptions<Lease>) {
    this.#options = options;
    this.#identifier = options.randomBytes(2).readUInt16BE();
  }

  start(): void {
    this.#timer ??= setInterval(() => this.tick(), TICK_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** What is known of a peer is forgotten when it is left out, or another host has its lease. O(peers). */
  setPeers(peers: Iterable<OverlayPeer<Lease>>): void {
    const left = new Set(Array.from(this.#firstWays(), ({ key }) => key));
    const isFirstRound = this.#isFirstRound;
    for (const peer of peers) {
      left.delete(peer.id);
      this.#put(peer, isFirstRound);
    }
    for (const id of left) this.#forget(id);
  }

  /** The same for those that went, by id, and those that came or are others now. O(changes). */
  changePeers(gone: Iterable<string>, come: Iterable<OverlayPeer<Lease>>): AddressChanges {
    const changes: AddressChanges = { left: [], come: [] };
    const isFirstRound = this.#isFirstRound;
    for (const id of gone) changes.left.push(...this.#forget(id));
    for (const peer of come) {
      const known = this.#waysOf(peer.id).map(({ address }) => addressOf(address));
      this.#put(peer, isFirstRound);
      changes.left.push(...known.filter((address) => !peer.ways.includes(address)));
      changes.come.push(...peer.ways.filter((address) => !known.includes(address)));
    }
    return changes;
  }

  /** Of each way to a peer; none to one that is not known. */
  reportsOf(id: string): readonly WayReport<Lease>[] {
    return this.#waysOf(id).map((way) => this.#reportOf(way));
  }

  /** Peers that packets are sent to and that cannot be reached, with the worse way. O(peers). */
  *unreached(): Iterable<{ readonly lease: Lease; readonly publicIp: Address; readonly state: ReachState }> {
    for (const first of this.#firstWays()) {
      const worse = this.#worseOf(first);
      const state = this.#stateOf(worse);
      if (state !== 'ok' && state !== 'unknown')
        yield { lease: worse.lease, publicIp: addressOf(worse.address), state };
    }
  }

  /** How many peers are in which state. O(peers). */
  summary(): Record<ReachState, number> {
    const counts = Object.fromEntries(REACH_STATES.map((state) => [state, 0])) as Record<ReachState, number>;
    for (const first of this.#firstWays()) counts[this.#stateOf(this.#worseOf(first))]++;
    return counts;
  }

  /** Of all ways to all peers. */
  *reports(): Iterable<WayReport<Lease>> {
    for (const way of this.#ways.values()) yield this.#reportOf(way);
  }

  /** To all peers. */
  get wayCount(): number {
    return this.#ways.size;
  }

  counts(): { readonly sent: number; readonly answered: number } {
    return { sent: this.#sent, answered: this.#answered };
  }

  /** One round of the timer: gives up on old echoes, then asks those whose turn it is. */
  tick(): void {
    const nowMs = this.#options.now();
    this.#expire(nowMs);
    this.#noteBusy(nowMs);
    let left = ECHOES_PER_TICK - this.#askBusy(nowMs);
    const leave = Math.max(left - SOON_PER_TICK, REST_PER_TICK);
    for (const way of this.#soon) {
      if (left <= leave || nowMs - way.askedMs < SOON_MS) break;
      this.#ask(way, nowMs);
      left--;
    }
    for (const way of this.#ways.values()) {
      if (left === 0 || nowMs - way.askedMs < CYCLE_MS) break;
      this.#ask(way, nowMs);
      left--;
    }
  }

  #noteBusy(nowMs: number): void {
    for (const id of this.#options.takeBusy()) {
      const way = this.#ways.get(id);
      if (way === undefined) continue;
      if (this.#busy.has(way)) this.#busy.set(way, Math.round(nowMs));
      else this.#begun.add(way);
    }
  }

  /** How many of those with traffic were asked. */
  #askBusy(nowMs: number): number {
    let asked = 0;
    for (const way of this.#begun) {
      if (asked === BUSY_PER_TICK) break;
      this.#begun.delete(way);
      this.#busy.set(way, Math.round(nowMs));
      this.#ask(way, nowMs);
      asked++;
    }
    for (const [way, busyMs] of this.#busy) {
      if (asked === BUSY_PER_TICK || nowMs - way.askedMs < CYCLE_MS) break;
      const keptMs = this.#busy.size > MAX_BUSY ? BUSY_AMONG_MANY_MS : BUSY_MS;
      if (nowMs - busyMs > keptMs) {
        this.#busy.delete(way);
        continue;
      }
      this.#ask(way, nowMs);
      asked++;
    }
    return asked;
  }

  /** Takes what the socket received. */
  receive(received: Received): void {
    const { id, sequence } = received.kind === 'reply' ? received.echo : received;
    const asked = this.#asked.get(sequence) ?? this.#late.get(sequence);
    if (id !== this.#identifier || asked === undefined) return;
    const { way, reach, target, token, sentAtMs } = asked;
    if (received.kind !== 'reply') {
      if (received.kind === 'unreachable' && received.destination === target)
        reach.noteRefusal('the network says that it cannot be reached');
      return;
    }
    if (received.from !== target || !received.echo.token.equals(token)) return;
    this.#asked.delete(sequence);
    this.#late.delete(sequence);
    this.#answered++;
    const nowMs = this.#options.now();
    reach.noteAnswer(nowMs - sentAtMs, nowMs);
    this.#soon.delete(way);
  }

  *#firstWays(): Iterable<Way<Lease>> {
    for (const way of this.#ways.values()) if (isFirst(way)) yield way;
  }

  #waysOf(id: string): readonly Way<Lease>[] {
    const first = this.#ways.get(id);
    if (first === undefined) return [];
    return first.other === undefined ? [first] : [first, first.other];
  }

  #reportOf({ lease, reach, address, askedMs }: Way<Lease>): WayReport<Lease> {
    const publicIp = addressOf(address);
    if (reach !== undefined)
      return { lease, publicIp, report: reach.report(this.#options.hostAnswer(publicIp)) };
    return { lease, publicIp, report: askedMs === NEVER_MS ? NOT_ASKED : NOT_USED };
  }

  #stateOf({ reach, address }: Way<Lease>): ReachState {
    return reach?.state(this.#options.hostAnswer(addressOf(address))) ?? 'unknown';
  }

  #worseOf(first: Way<Lease>): Way<Lease> {
    const { other } = first;
    return other !== undefined && isWorse(this.#stateOf(other), this.#stateOf(first)) ? other : first;
  }

  /** In the first round all are new, and have their turns in the order in which they came. */
  get #isFirstRound(): boolean {
    const [first] = this.#ways.values();
    return first === undefined || first.askedMs === NEVER_MS;
  }

  #put({ id, ways: [one, other], lease }: OverlayPeer<Lease>, isFirstRound: boolean): void {
    const hadTwo = this.#ways.get(id)?.other !== undefined;
    const first = this.#putWay(id, one, lease, isFirstRound);
    const second =
      hadTwo || other !== undefined ? this.#putWay(secondKey(id), other, lease, isFirstRound) : undefined;
    if (first !== undefined) first.other = second;
    if (second !== undefined) second.other = first;
  }

  /** The way with this key from now on; undefined for no address, and then there is none. */
  #putWay(
    key: string,
    publicIp: Address | undefined,
    lease: Lease,
    isFirstRound: boolean,
  ): Way<Lease> | undefined {
    const address = publicIp === undefined ? undefined : plainOf(publicIp);
    const known = this.#ways.get(key);
    if (known !== undefined && known.address === address) {
      known.lease = lease;
      return known;
    }
    if (known !== undefined) this.#drop(known);
    if (address === undefined) return undefined;
    const way = { key, address, lease, reach: undefined, askedMs: NEVER_MS, other: undefined };
    this.#ways.set(key, way);
    if (!isFirstRound) this.#soon.add(way);
    return way;
  }

  /** The addresses it had, if it was known. */
  #forget(id: string): readonly Address[] {
    const ways = this.#waysOf(id);
    for (const way of ways) this.#drop(way);
    return ways.map(({ address }) => addressOf(address));
  }

  #drop(way: Way<Lease>): void {
    this.#ways.delete(way.key);
    this.#soon.delete(way);
    this.#begun.delete(way);
    this.#busy.delete(way);
  }

  #ask(way: Way<Lease>, nowMs: number): void {
    this.#soon.delete(way);
    this.#ways.delete(way.key);
    this.#ways.set(way.key, way);
    const busyMs = this.#busy.get(way);
    if (busyMs !== undefined) {
      this.#busy.delete(way);
      this.#busy.set(way, busyMs);
    }
    way.askedMs = Math.round(nowMs);
    const target = this.#options.targetOf(way.lease, addressOf(way.address));
    if (target === undefined) {
      way.reach = undefined; // what was lost while nothing was sent to it says nothing
      return;
    }
    const reach = (way.reach ??= new PeerReach(nowMs));
    const packets = this.#options.packetsOf(way.lease);
    if (packets !== undefined) reach.noteTraffic(...packets, nowMs);

    const sequence = (this.#sequence = (this.#sequence + 1) & 0xffff);
    const token = this.#options.randomBytes(TOKEN_BYTES);
    this.#asked.set(sequence, { way, reach, target, token, sentAtMs: nowMs });
    this.#sent++;
    const echo = buildEchoTo(target, { id: this.#identifier, sequence, token }, MIN_PROBE_BYTES);
    const onTooLong = (): void => undefined; // no device takes less than 64 bytes
    this.#options.sender.send(target, echo, onTooLong, (reason) => reach.noteRefusal(reason));
  }

  #expire(nowMs: number): void {
    for (const [sequence, { sentAtMs }] of this.#late) {
      if (nowMs - sentAtMs < LATE_MS) break;
      this.#late.delete(sequence);
    }
    for (const [sequence, asked] of this.#asked) {
      if (nowMs - asked.sentAtMs < ANSWER_MS) break;
      this.#asked.delete(sequence);
      this.#late.set(sequence, asked);
      const { way, reach } = asked;
      reach.noteLost();
      if (way.reach === reach && reach.isInDoubt && this.#ways.get(way.key) === way) this.#soon.add(way);
    }
  }
}

/** Of two ways that to an IPv4 address is the first. */
function isFirst({ address, other }: Way<unknown>): boolean {
  return other === undefined || typeof address === 'number';
}

/** No store has an id with a space in it. */
function secondKey(id: string): string {
  return `${id} 2`;
}
