// Sends echo requests to all peers through the overlay itself, within one limit for all of them together. Only these
// tell whether packets reach a peer: its public IP may answer while its daemon is dead or its UDP port is blocked.
//
// Peers are kept in the order in which they were asked last, and whoever is first has its turn when five seconds are
// over. A tick every 100 ms asks ten at most, so that 10,000 peers have a turn every 100 s. A peer that did not answer
// is asked again after a second, three times in all, from the same limit.
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
import { type HostAnswer, PeerReach, type Reach } from './peer-reach.js';

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
  readonly publicIp: Address;
  readonly lease: Lease;
}

export interface OverlayProberOptions<Lease> {
  readonly sender: Pick<IcmpSender, 'send'>;
  /** The address at a peer's end of the overlay; undefined while nothing is sent to it. */
  readonly targetOf: (lease: Lease) => Address | undefined;
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
interface Peer<Lease> {
  readonly id: string;
  readonly address: PlainAddress;
  lease: Lease;
  /** Undefined until it is asked, and while nothing is sent to it. */
  reach: PeerReach | undefined;
  /** In whole milliseconds. */
  askedMs: number;
}

/** Addresses of peers, once for each peer. */
export interface AddressChanges {
  readonly left: Address[];
  readonly come: Address[];
}

interface Asked<Lease> {
  readonly peer: Peer<Lease>;
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
  readonly #peers = new Map<string, Peer<Lease>>();
  /** Those that are asked before their turn. */
  readonly #soon = new Set<Peer<Lease>>();
  /** Those whose traffic began, until they are asked. */
  readonly #begun = new Set<Peer<Lease>>();
  /** Those with traffic and when they last had any, by the time they were asked last. */
  readonly #busy = new Map<Peer<Lease>, number>();
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
    const left = new Set(this.#peers.keys());
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
    const note = (list: Address[], address: PlainAddress | undefined): void => {
      if (address !== undefined) list.push(addressOf(address));
    };
    for (const id of gone) note(changes.left, this.#forget(id));
    for (const peer of come) {
      const known = this.#peers.get(peer.id)?.address;
      this.#put(peer, isFirstRound);
      if (known === plainOf(peer.publicIp)) continue;
      note(changes.left, known);
      note(changes.come, peer.publicIp);
    }
    return changes;
  }

  /** Undefined for a peer that is not known. */
  report(id: string): Reach | undefined {
    const peer = this.#peers.get(id);
    return peer && this.#reportOf(peer);
  }

  /** Peers that packets are sent to and that cannot be reached. O(peers). */
  *unreached(): Iterable<{ readonly lease: Lease; readonly publicIp: Address; readonly state: ReachState }> {
    for (const peer of this.#peers.values()) {
      const state = this.#stateOf(peer);
      if (state !== 'ok' && state !== 'unknown')
        yield { lease: peer.lease, publicIp: addressOf(peer.address), state };
    }
  }

  /** How many peers are in which state. O(peers). */
  summary(): Record<ReachState, number> {
    const counts = Object.fromEntries(REACH_STATES.map((state) => [state, 0])) as Record<ReachState, number>;
    for (const peer of this.#peers.values()) counts[this.#stateOf(peer)]++;
    return counts;
  }

  /** All peers with their reports. */
  *reports(): Iterable<{ readonly lease: Lease; readonly publicIp: Address; readonly report: Reach }> {
    for (const peer of this.#peers.values())
      yield { lease: peer.lease, publicIp: addressOf(peer.address), report: this.#reportOf(peer) };
  }

  get peerCount(): number {
    return this.#peers.size;
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
    for (const peer of this.#soon) {
      if (left <= leave || nowMs - peer.askedMs < SOON_MS) break;
      this.#ask(peer, nowMs);
      left--;
    }
    for (const peer of this.#peers.values()) {
      if (left === 0 || nowMs - peer.askedMs < CYCLE_MS) break;
      this.#ask(peer, nowMs);
      left--;
    }
  }

  #noteBusy(nowMs: number): void {
    for (const id of this.#options.takeBusy()) {
      const peer = this.#peers.get(id);
      if (peer === undefined) continue;
      if (this.#busy.has(peer)) this.#busy.set(peer, Math.round(nowMs));
      else this.#begun.add(peer);
    }
  }

  /** How many of those with traffic were asked. */
  #askBusy(nowMs: number): number {
    let asked = 0;
    for (const peer of this.#begun) {
      if (asked === BUSY_PER_TICK) break;
      this.#begun.delete(peer);
      this.#busy.set(peer, Math.round(nowMs));
      this.#ask(peer, nowMs);
      asked++;
    }
    for (const [peer, busyMs] of this.#busy) {
      if (asked === BUSY_PER_TICK || nowMs - peer.askedMs < CYCLE_MS) break;
      const keptMs = this.#busy.size > MAX_BUSY ? BUSY_AMONG_MANY_MS : BUSY_MS;
      if (nowMs - busyMs > keptMs) {
        this.#busy.delete(peer);
        continue;
      }
      this.#ask(peer, nowMs);
      asked++;
    }
    return asked;
  }

  /** Takes what the socket received. */
  receive(received: Received): void {
    const { id, sequence } = received.kind === 'reply' ? received.echo : received;
    const asked = this.#asked.get(sequence) ?? this.#late.get(sequence);
    if (id !== this.#identifier || asked === undefined) return;
    const { peer, reach, target, token, sentAtMs } = asked;
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
    this.#soon.delete(peer);
  }

  #reportOf({ reach, address, askedMs }: Peer<Lease>): Reach {
    if (reach === undefined) return askedMs === NEVER_MS ? NOT_ASKED : NOT_USED;
    return reach.report(this.#options.hostAnswer(addressOf(address)));
  }

  #stateOf({ reach, address }: Peer<Lease>): ReachState {
    return reach?.state(this.#options.hostAnswer(addressOf(address))) ?? 'unknown';
  }

  /** In the first round all are new, and have their turns in the order in which they came. */
  get #isFirstRound(): boolean {
    const [first] = this.#peers.values();
    return first === undefined || first.askedMs === NEVER_MS;
  }

  #put({ id, publicIp, lease }: OverlayPeer<Lease>, isFirstRound: boolean): void {
    const address = plainOf(publicIp);
    const known = this.#peers.get(id);
    if (known?.address === address) {
      known.lease = lease;
      return;
    }
    this.#forget(id);
    const peer = { id, address, lease, reach: undefined, askedMs: NEVER_MS };
    this.#peers.set(id, peer);
    if (!isFirstRound) this.#soon.add(peer);
  }

  /** The address it had, if it was known. */
  #forget(id: string): PlainAddress | undefined {
    const peer = this.#peers.get(id);
    if (peer === undefined) return undefined;
    this.#peers.delete(id);
    this.#soon.delete(peer);
    this.#begun.delete(peer);
    this.#busy.delete(peer);
    return peer.address;
  }

  #ask(peer: Peer<Lease>, nowMs: number): void {
    this.#soon.delete(peer);
    this.#peers.delete(peer.id);
    this.#peers.set(peer.id, peer);
    const busyMs = this.#busy.get(peer);
    if (busyMs !== undefined) {
      this.#busy.delete(peer);
      this.#busy.set(peer, busyMs);
    }
    peer.askedMs = Math.round(nowMs);
    const target = this.#options.targetOf(peer.lease);
    if (target === undefined) {
      peer.reach = undefined; // what was lost while nothing was sent to it says nothing
      return;
    }
    const reach = (peer.reach ??= new PeerReach(nowMs));
    const packets = this.#options.packetsOf(peer.lease);
    if (packets !== undefined) reach.noteTraffic(...packets, nowMs);

    const sequence = (this.#sequence = (this.#sequence + 1) & 0xffff);
    const token = this.#options.randomBytes(TOKEN_BYTES);
    this.#asked.set(sequence, { peer, reach, target, token, sentAtMs: nowMs });
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
      const { peer, reach } = asked;
      reach.noteLost();
      if (peer.reach === reach && reach.isInDoubt && this.#peers.get(peer.id) === peer) this.#soon.add(peer);
    }
  }
}
