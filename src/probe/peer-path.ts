// What is known of the path to one peer: round trips, losses, and the largest packet that gets through. Pure: time
// comes in with every call.
//
//   round trip   smoothed as TCP does it (RFC 6298); loss over the last 20 small probes, once one was ever answered: a
//                host that answers no echo says nothing about its path
//   path MTU     full until a full-size probe is lost three times while small ones are answered, or a router says that
//                it does not fit; then a binary search between what passed and what did not (RFC 4821, section 7.3),
//                and another try with the full size after ten minutes (RFC 1191, section 6.3)
//
// A size that passed once is proof; a size that did not is believed only after repeated loss, because packets are lost
// for other reasons, too. Below FLOOR_BYTES of the family nothing is looked for.

import { bitCount, type HostAnswer } from './peer-reach.js';

/**
 * Every IPv4 host takes a packet of this size (RFC 791), and every link of IPv6 (RFC 8200 section 5); smaller path MTUs
 * are not believed.
 */
export const FLOOR_BYTES = { v4: 576, v6: 1280 } as const;
const PRECISION_BYTES = 4;
const LOST_BEFORE_BELIEVED = 3;
const WINDOW = 20;
const RETRY_FULL_MS = 600_000;
const CONFIRM_MS = 300_000;
const RTT_GAIN = 1 / 8;

export interface PathReport {
  /** Smoothed; undefined before the first answer. */
  readonly rttMs?: number;
  /** Share of the last small probes without an answer, 0 to 1. */
  readonly loss?: number;
  /** Largest packet that gets through; undefined before it is known. */
  readonly mtuBytes?: number;
}

export class PeerPath {
  readonly #fullBytes: number;
  readonly #floorBytes: number;
  #rttMs: number | undefined;
  /** The last small probes, newest in bit 0; set where lost. */
  #losses = 0;
  #echoes = 0;
  #mtuBytes: number | undefined;
  #search: Search | undefined;
  #isUnreachable = false;
  #nextFullMs = 0;
  #nextConfirmMs = 0;

  /** `fullBytes`: MTU of the interface the probes leave by; `floorBytes`: of FLOOR_BYTES. */
  constructor(fullBytes: number, floorBytes: number = FLOOR_BYTES.v4) {
    this.#fullBytes = Math.max(fullBytes, floorBytes);
    this.#floorBytes = floorBytes;
  }

  report(): PathReport {
    return {
      ...(this.#rttMs === undefined
        ? {}
        : { rttMs: this.#rttMs, loss: bitCount(this.#losses) / this.#echoes }),
      ...(this.#mtuBytes === undefined ? {} : { mtuBytes: this.#mtuBytes }),
    };
  }

  /** Whether a size is being looked for, so that the next probe should not wait for its turn. */
  get isSearching(): boolean {
    return this.#search !== undefined;
  }

  /** A small probe was answered after `rttMs`, or not at all. */
  noteEcho(rttMs: number | undefined): void {
    if (rttMs !== undefined) {
      this.#isUnreachable = false;
      this.#rttMs = this.#rttMs === undefined ? rttMs : this.#rttMs + RTT_GAIN * (rttMs - this.#rttMs);
    }
    if (this.#rttMs === undefined) return;
    this.#losses = ((this.#losses << 1) | Number(rttMs === undefined)) & ((1 << WINDOW) - 1);
    this.#echoes = Math.min(this.#echoes + 1, WINDOW);
  }

  /** Of the last small probe. What the network says holds until one is answered. */
  get hostAnswer(): HostAnswer {
    if (this.#isUnreachable) return 'gone';
    return this.#isAnswered ? 'answers' : 'none';
  }

  get #isAnswered(): boolean {
    return this.#echoes > 0 && (this.#losses & 1) === 0;
  }

  noteUnreachable(): void {
    this.#isUnreachable = true;
  }

  /** Size of the next MTU probe, or undefined when none is due. Only a peer that answers small ones is asked. */
  nextSize(nowMs: number): number | undefined {
    if (!this.#isAnswered) return undefined;
    const search = this.#search;
    if (search !== undefined) {
      if (search.hint !== undefined) return search.hint;
      if (search.failed > this.#fullBytes) return this.#fullBytes;
      return search.passed === undefined ? this.#floorBytes : (search.passed + search.failed) >> 1;
    }
    if (nowMs >= this.#nextFullMs) return this.#fullBytes;
    return nowMs >= this.#nextConfirmMs ? this.#mtuBytes : undefined;
  }

  /** A probe of `bytes` was answered. Returns the path MTU when that settles it. */
  notePassed(bytes: number, nowMs: number): number | undefined {
    if (bytes >= this.#fullBytes) return this.#settle(this.#fullBytes, nowMs);
    const search = this.#search;
    if (search === undefined) {
      if (bytes !== this.#mtuBytes) return undefined;
      this.#nextConfirmMs = nowMs + CONFIRM_MS;
      return bytes;
    }
    search.lostInRow = 0;
    if (bytes === search.hint) return this.#settle(bytes, nowMs);
    search.passed = Math.max(search.passed ?? 0, bytes);
    return this.#settleIfFound(search, nowMs);
  }

  /** A probe of `bytes` was not answered although a small one was. Returns the path MTU when that settles it. */
  noteLost(bytes: number, nowMs: number): number | undefined {
    const search = (this.#search ??= { failed: this.#fullBytes + 1, lostInRow: 0 });
    if (bytes >= search.failed || ++search.lostInRow < LOST_BEFORE_BELIEVED) return undefined;
    search.lostInRow = 0;
    search.failed = bytes;
    if (bytes === search.hint) delete search.hint;
    if (search.passed !== undefined && search.passed >= bytes) delete search.passed; // it became narrower meanwhile
    if (bytes <= this.#floorBytes) {
      // Large echoes are filtered, or the path is beyond belief: nothing can be said.
      this.#search = undefined;
      this.#mtuBytes = undefined;
      this.#nextFullMs = nowMs + RETRY_FULL_MS;
      this.#nextConfirmMs = this.#nextFullMs;
      return undefined;
    }
    return this.#settleIfFound(search, nowMs);
  }

  /** A router said that a probe of `bytes` does not fit, and what would: its word is tried next, not believed. */
  noteTooBig(bytes: number, mtuBytes: number): void {
    const search = (this.#search ??= { failed: this.#fullBytes + 1, lostInRow: 0 });
    search.lostInRow = 0;
    search.failed = Math.min(search.failed, bytes);
    delete search.hint;
    if (mtuBytes >= this.#floorBytes && mtuBytes < search.failed) search.hint = mtuBytes;
  }

  #settleIfFound({ passed, failed }: Search, nowMs: number): number | undefined {
    if (passed === undefined || failed - passed > PRECISION_BYTES) return undefined;
    return this.#settle(passed, nowMs);
  }

  #settle(bytes: number, nowMs: number): number {
    this.#search = undefined;
    this.#mtuBytes = bytes;
    this.#nextConfirmMs = nowMs + CONFIRM_MS;
    this.#nextFullMs = bytes >= this.#fullBytes ? this.#nextConfirmMs : nowMs + RETRY_FULL_MS;
    return bytes;
  }
}

interface Search {
  /** Largest size that passed. */
  passed?: number;
  /** Smallest size that did not. */
  failed: number;
  /** What a router said would fit, still to be tried. */
  hint?: number;
  lostInRow: number;
}
