// Probes the paths to all peers, within one limit for all of them together.
//
// A tick every 100 ms has a budget of a few packets, whatever the number of peers: each peer has its turn after a
// random part of the cycle and then once a cycle, which grows with the number of peers (10,000 peers: a turn every
// eight minutes). A peer whose path MTU is being looked for has its next turn after a second, if the budget allows.
//
// An answer counts when it comes from the peer it was asked for, with identifier, sequence number and token of a probe
// that is still waited for; everything else is counted and ignored.

import { ipv4 } from '../net/ipv4.js';
import type { Ipv6 } from '../net/ipv6.js';
import { type Address, addressKey } from '../net/prefix.js';
import { buildEchoTo, MIN_PROBE_BYTES, type Received, TOKEN_BYTES } from './icmp-echo.js';
import { FLOOR_BYTES, type PathReport, PeerPath } from './peer-path.js';
import type { HostAnswer } from './peer-reach.js';

const TICK_MS = 100;
/** Of all peers together; a turn is one packet or two: at most 40 packets a second. */
const TURNS_PER_TICK = 2;
const MIN_CYCLE_MS = 5_000;
const SEARCH_TURN_MS = 1_000;
const ANSWER_MS = 900;
/** Of the wheel: with 65,000 peers and a list for each tick, the lists would take as much as the peers. */
const TICKS_PER_SLOT = 16;
/** In place of a peer's tick: its turn has come. */
const DUE = -1;

/** Sends ICMP packets; answers come back through PathProber.receive(). */
export interface IcmpSender {
  /**
   * Queues one packet. A size that the interface does not take is reported by `onTooLong`, at once or later; any other
   * refusal of the kernel by `onRefused`.
   */
  send(to: Address, packet: Buffer, onTooLong: () => void, onRefused?: (reason: string) => void): void;
  close(): void;
}

export interface ProberOptions {
  readonly sender: IcmpSender;
  /** MTU of the interface the probes leave by. */
  readonly fullBytes: () => number;
  /** A path's MTU was found, found again, or changed. */
  readonly onPathMtu: (peer: Address, mtuBytes: number) => void;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly randomBytes: (count: number) => Buffer;
}

/** An address, of IPv4 as a signed number: V8 keeps that without an object of its own. */
export type PlainAddress = number | Ipv6;

export function plainOf(address: Address): PlainAddress {
  return typeof address === 'number' ? address | 0 : address;
}

export function addressOf(plain: PlainAddress): Address {
  return typeof plain === 'number' ? ipv4(plain >>> 0) : plain;
}

/** There may be 65,000 of these. */
interface Peer {
  readonly address: PlainAddress;
  /** How many peers have that address; none only for a moment. */
  leases: number;
  /** Undefined until it is asked. */
  path: PeerPath | undefined;
  /** Tick of its next turn, or DUE. */
  nextTick: number;
}

interface Outstanding {
  readonly peer: Peer;
  readonly path: PeerPath;
  readonly bytes: number;
  readonly sequence: number;
  readonly token: Buffer;
  readonly sentAtMs: number;
  readonly isMtuProbe: boolean;
}

export interface ProberCounts {
  readonly sent: number;
  readonly answered: number;
  /** Answers that belong to no probe that is waited for. */
  readonly unmatched: number;
}

export class PathProber {
  readonly #options: ProberOptions;
  readonly #identifier: number;
  /** By addressKey(). */
  readonly #peers = new Map<number | bigint, Peer>();
  /** Peers by the slot of their next turn; an entry that its peer has left behind is skipped. */
  readonly #wheel = new Map<number, Peer[]>();
  /** Peers whose turn has come, in that order. */
  readonly #due: Peer[] = [];
  #tickNumber: number;
  readonly #outstanding = new Map<number, Outstanding>();
  #sequence = 0;
  #sent = 0;
  #answered = 0;
  #unmatched = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ProberOptions) {
    this.#options = options;
    this.#identifier = options.randomBytes(2).readUInt16BE();
    this.#tickNumber = tickOf(options.now());
  }

  /** Starts ticking. The timer does not keep the process alive. */
  start(): void {
    this.#timer ??= setInterval(() => this.tick(), TICK_MS).unref();
  }

  /** Idempotent. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#options.sender.close();
    this.#outstanding.clear();
  }

  /** The addresses of all peers from now on; what is known of those that stay is kept. O(peers). */
  setPeers(addresses: Iterable<Address>): void {
    for (const peer of this.#peers.values()) peer.leases = 0;
    this.#addPeers(addresses);
    for (const [key, peer] of this.#peers) if (peer.leases === 0) this.#peers.delete(key);
  }

  /** The same for those that left and came, each as often as it is the address of a peer. O(changes). */
  changePeers(left: Iterable<Address>, come: Iterable<Address>): void {
    this.#addPeers(come); // first: who comes back at once was never away
    for (const address of left) {
      const key = addressKey(address);
      const peer = this.#peers.get(key);
      if (peer !== undefined && --peer.leases === 0) this.#peers.delete(key);
    }
  }

  /** To be called when the interface's MTU has changed: forgets all sizes that were found. */
  restart(): void {
    for (const peer of this.#peers.values()) peer.path = undefined;
    this.#outstanding.clear();
  }

  report(address: Address): PathReport | undefined {
    const peer = this.#peers.get(addressKey(address));
    return peer && (peer.path?.report() ?? {});
  }

  hostAnswer(address: Address): HostAnswer {
    return this.#peers.get(addressKey(address))?.path?.hostAnswer ?? 'none';
  }

  /** All peers with their reports. */
  *reports(): Iterable<{ readonly address: Address; readonly report: PathReport }> {
    for (const { address, path } of this.#peers.values())
      yield { address: addressOf(address), report: path?.report() ?? {} };
  }

  get peerCount(): number {
    return this.#peers.size;
  }

  counts(): ProberCounts {
    return { sent: this.#sent, answered: this.#answered, unmatched: this.#unmatched };
  }

  /** One round of the timer: gives up on old probes, then sends for the peers whose turn it is. */
  tick(): void {
    const nowMs = this.#options.now();
    this.#expire(nowMs);
    for (; this.#tickNumber <= tickOf(nowMs); this.#tickNumber++) {
      const slot = slotOf(this.#tickNumber);
      for (const peer of this.#wheel.get(slot) ?? []) {
        if (peer.nextTick !== this.#tickNumber || !this.#isKnown(peer)) continue;
        peer.nextTick = DUE; // it may stand in the slot twice
        this.#due.push(peer);
      }
      if (slotOf(this.#tickNumber + 1) !== slot) this.#wheel.delete(slot);
    }
    const cycleMs = this.#cycleMs(this.#peers.size);
    for (const peer of this.#due.splice(0, TURNS_PER_TICK)) {
      if (!this.#isKnown(peer)) continue;
      const path = (peer.path ??= new PeerPath(
        this.#options.fullBytes(),
        typeof peer.address === 'number' ? FLOOR_BYTES.v4 : FLOOR_BYTES.v6,
      ));
      const size = path.nextSize(nowMs);
      this.#send(peer, path, MIN_PROBE_BYTES, false, nowMs);
      if (size !== undefined) this.#send(peer, path, size, true, nowMs);
      const jitter = 0.9 + 0.2 * this.#options.random();
      this.#schedule(peer, nowMs + (path.isSearching ? SEARCH_TURN_MS : cycleMs) * jitter);
    }
  }

  /** Takes what the socket received. */
  receive(received: Received): void {
    if (received.kind === 'unreachable') {
      // It comes seconds later, when nobody waits for this echo any more, and is believed only while none is answered.
      if (received.id === this.#identifier)
        this.#peers.get(addressKey(received.destination))?.path?.noteUnreachable();
      return;
    }
    const outstanding = this.#outstanding.get(
      received.kind === 'reply' ? received.echo.sequence : received.sequence,
    );
    const nowMs = this.#options.now();
    if (received.kind === 'reply') {
      const isOurs =
        outstanding !== undefined &&
        received.echo.id === this.#identifier &&
        received.from === addressOf(outstanding.peer.address) &&
        received.echo.token.equals(outstanding.token) &&
        received.bytes === outstanding.bytes;
      if (!isOurs) {
        // Other programs of this host ping, too.
        if (received.echo.id === this.#identifier) this.#unmatched++;
        return;
      }
      this.#outstanding.delete(outstanding.sequence);
      this.#answered++;
      const { peer, path, bytes, sentAtMs } = outstanding;
      if (outstanding.isMtuProbe) {
        this.#settle(peer, path.notePassed(bytes, nowMs));
        return;
      }
      path.noteEcho(nowMs - sentAtMs);
      if (path.nextSize(nowMs) !== undefined) this.#hasten(peer, nowMs);
      return;
    }
    const isOurs =
      outstanding?.isMtuProbe === true &&
      received.id === this.#identifier &&
      received.destination === addressOf(outstanding.peer.address);
    if (!isOurs) {
      if (received.id === this.#identifier) this.#unmatched++;
      return;
    }
    this.#outstanding.delete(outstanding.sequence);
    outstanding.path.noteTooBig(outstanding.bytes, received.mtuBytes);
    this.#hasten(outstanding.peer, nowMs);
  }

  #addPeers(addresses: Iterable<Address>): void {
    const strangers: Peer[] = [];
    for (const address of addresses) {
      const key = addressKey(address);
      let peer = this.#peers.get(key);
      if (peer === undefined) {
        peer = { address: plainOf(address), leases: 0, path: undefined, nextTick: 0 };
        this.#peers.set(key, peer);
        strangers.push(peer);
      }
      peer.leases++;
    }
    const nowMs = this.#options.now();
    const cycleMs = this.#cycleMs(this.#peers.size);
    for (const peer of strangers) this.#schedule(peer, nowMs + this.#options.random() * cycleMs);
  }

  #hasten(peer: Peer, nowMs: number): void {
    if (peer.nextTick > tickOf(nowMs + SEARCH_TURN_MS)) this.#schedule(peer, nowMs + SEARCH_TURN_MS);
  }

  #schedule(peer: Peer, atMs: number): void {
    peer.nextTick = Math.max(tickOf(atMs), this.#tickNumber);
    const slot = slotOf(peer.nextTick);
    const entries = this.#wheel.get(slot);
    if (entries === undefined) this.#wheel.set(slot, [peer]);
    else entries.push(peer);
  }

  #isKnown(peer: Peer): boolean {
    return this.#peers.get(addressKey(addressOf(peer.address))) === peer;
  }

  #cycleMs(peers: number): number {
    return Math.max(MIN_CYCLE_MS, (peers / TURNS_PER_TICK) * TICK_MS);
  }

  #send(peer: Peer, path: PeerPath, bytes: number, isMtuProbe: boolean, nowMs: number): void {
    const sequence = (this.#sequence = (this.#sequence + 1) & 0xffff);
    const token = this.#options.randomBytes(TOKEN_BYTES);
    const outstanding = { peer, path, bytes, sequence, token, sentAtMs: nowMs, isMtuProbe };
    this.#outstanding.set(sequence, outstanding);
    this.#sent++;
    const to = addressOf(peer.address);
    this.#options.sender.send(
      to,
      buildEchoTo(to, { id: this.#identifier, sequence, token }, bytes),
      () => {
        if (!this.#outstanding.delete(sequence)) return;
        path.noteTooBig(bytes, 0);
      },
      () => path.noteUnreachable(),
    );
  }

  #expire(nowMs: number): void {
    // Insertion order is the order of sending.
    for (const [sequence, { peer, path, bytes, sentAtMs, isMtuProbe }] of this.#outstanding) {
      if (nowMs - sentAtMs < ANSWER_MS) return;
      this.#outstanding.delete(sequence);
      if (!this.#isKnown(peer)) continue;
      if (!isMtuProbe) path.noteEcho(undefined);
      // A large probe without an answer says something only when the small one beside it had one.
      else if (path.nextSize(nowMs) !== undefined) this.#settle(peer, path.noteLost(bytes, nowMs));
    }
  }

  #settle(peer: Peer, mtuBytes: number | undefined): void {
    if (mtuBytes !== undefined) this.#options.onPathMtu(addressOf(peer.address), mtuBytes);
  }
}

function slotOf(tick: number): number {
  return Math.floor(tick / TICKS_PER_SLOT);
}

function tickOf(ms: number): number {
  return Math.floor(ms / TICK_MS);
}
