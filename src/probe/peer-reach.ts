// Whether one peer can be reached inside the overlay, judged by echoes to its end of the overlay and by what the data
// path counts for it. Pure: time comes in with every call.
//
//   unknown        just begun, or not asked
//   ok             one of the last three echoes was answered
//   silent since   it was heard, and nothing has come since
//   unreachable    it was heard, and now the network says that it is not there, or its packets arrive while no echo is
//                  answered: the way there is closed, the way back is open
//   never heard    nothing ever came from it since this daemon began to ask
//
// Packets that arrive do not stand for an answer: with the way to a peer blocked, its own echoes keep arriving. The one
// exception is a peer that never answered any echo, as with a firewall that drops ICMP, while packets flow both ways in
// numbers that echoes of both sides do not make.

import type { ReachState } from '../ops/status.js';

/** Whether the peer's public IP answers, or the network says that no host has it, or neither is known. */
export type HostAnswer = 'answers' | 'gone' | 'none';

export interface Reach {
  readonly state: ReachState;
  /** Since when it is neither ok nor unknown. */
  readonly sinceMs?: number;
  /** Last answer, or packet that the data path counted. */
  readonly lastHeardMs?: number;
  /** Smoothed round trip inside the overlay; undefined before the first answer. */
  readonly rttMs?: number;
  /** Share of the last 20 echoes without an answer, 0 to 1; undefined before the first one. */
  readonly loss?: number;
  readonly reason?: string;
}

const LOST_BEFORE_BELIEVED = 3;
const WINDOW = 20;
const RTT_GAIN = 1 / 8; // as TCP smooths it: RFC 6298
/** Packets in each direction between two turns that prove traffic. The echoes of both sides are fewer than ten. */
const BUSY_PACKETS = 50;
/** Turns over which packets count as arriving: echoes of the other side may just miss one. */
const ARRIVAL_TURNS = 2;
const LONG_AGO = ARRIVAL_TURNS + 1;

/** There may be 65,000 of these, so times are whole milliseconds: V8 keeps an integer without an object of its own. */
export class PeerReach {
  readonly #bornMs: number;
  #lostInRow = 0;
  #rttMs: number | undefined;
  /** The last echoes, newest in bit 0; set where lost. */
  #losses = 0;
  #echoes = 0;
  #lastAnswerMs: number | undefined;
  #lastHeardMs: number | undefined;
  #packetsOut: number | undefined;
  #packetsIn = 0;
  /** Since packets came although an echo had been lost. */
  #turnsSinceArrival = LONG_AGO;
  #isBusy = false;
  #refusal: string | undefined;

  constructor(nowMs: number) {
    this.#bornMs = Math.round(nowMs);
  }

  noteAnswer(rttMs: number, nowMs: number): void {
    this.#rttMs = this.#rttMs === undefined ? rttMs : this.#rttMs + RTT_GAIN * (rttMs - this.#rttMs);
    this.#lastAnswerMs = this.#lastHeardMs = Math.round(nowMs);
    this.#lostInRow = 0;
    this.#turnsSinceArrival = LONG_AGO;
    this.#refusal = undefined;
    this.#noteEcho(0);
  }

  noteLost(): void {
    this.#lostInRow++;
    this.#noteEcho(1);
  }

  /** The kernel or a router says that an echo cannot get there. Believed only while echoes are lost. */
  noteRefusal(reason: string): void {
    this.#refusal = reason;
  }

  /** What the data path has counted for the peer so far; called once a turn. */
  noteTraffic(packetsOut: number, packetsIn: number, nowMs: number): void {
    const isFirst = this.#packetsOut === undefined;
    const out = packetsOut - (this.#packetsOut ?? 0);
    const arrived = packetsIn - this.#packetsIn;
    this.#packetsOut = packetsOut;
    this.#packetsIn = packetsIn;
    if (isFirst) return;
    this.#isBusy = out >= BUSY_PACKETS && arrived >= BUSY_PACKETS;
    this.#turnsSinceArrival++;
    if (arrived <= 0) return;
    this.#lastHeardMs = Math.round(nowMs);
    if (this.#lostInRow > 0) this.#turnsSinceArrival = 0;
  }

  /** Whether another echo should not wait for its turn: it may be just one that was lost. */
  get isInDoubt(): boolean {
    return this.#lostInRow > 0 && this.#lostInRow < LOST_BEFORE_BELIEVED;
  }

  get #isArriving(): boolean {
    return this.#turnsSinceArrival <= ARRIVAL_TURNS;
  }

  state(host: HostAnswer): ReachState {
    const wasAnswered = this.#lastAnswerMs !== undefined;
    if (this.#lostInRow < LOST_BEFORE_BELIEVED) return wasAnswered ? 'ok' : 'unknown';
    if (!wasAnswered && this.#isBusy) return 'ok';
    if (this.#lastHeardMs === undefined) return 'never heard';
    return host === 'gone' || this.#isArriving || this.#refusal !== undefined
      ? 'unreachable'
      : 'silent since';
  }

  report(host: HostAnswer): Reach {
    const state = this.state(host);
    const reason = this.#reason(state, host);
    return {
      state,
      ...(state === 'ok' || state === 'unknown' ? {} : { sinceMs: this.#sinceMs(state) }),
      ...(this.#lastHeardMs === undefined ? {} : { lastHeardMs: this.#lastHeardMs }),
      ...(this.#rttMs === undefined
        ? {}
        : { rttMs: this.#rttMs, loss: bitCount(this.#losses) / this.#echoes }),
      ...(reason === undefined ? {} : { reason }),
    };
  }

  #sinceMs(state: ReachState): number {
    const last = state === 'silent since' ? this.#lastHeardMs : this.#lastAnswerMs;
    return last ?? this.#bornMs;
  }

  #reason(state: ReachState, host: HostAnswer): string | undefined {
    if (state === 'ok') return undefined;
    if (state === 'unknown') return 'just asked';
    if (host === 'gone') return 'the network says that its host is not there';
    if (this.#refusal !== undefined) return this.#refusal;
    if (this.#isArriving) return 'its packets arrive, but it answers none of ours';
    return host === 'answers' ? 'its public IP answers: see its twilld, and its firewall' : undefined;
  }

  #noteEcho(lost: 0 | 1): void {
    this.#losses = ((this.#losses << 1) | lost) & ((1 << WINDOW) - 1);
    this.#echoes = Math.min(this.#echoes + 1, WINDOW);
  }
}

const BEST_FIRST: readonly ReachState[] = ['ok', 'unknown', 'never heard', 'silent since', 'unreachable'];

/** Whether a peer with a way in this state is worse off than with one in `other`. */
export function isWorse(state: ReachState, other: ReachState): boolean {
  return BEST_FIRST.indexOf(state) > BEST_FIRST.indexOf(other);
}

/** Of a peer to which two ways lead: that of the worse one, with a reason that says which it is where they differ. */
export function reachOfBoth(v4: Reach, v6: Reach): Reach {
  if (v4.state === v6.state) return v4;
  const [worse, text] = isWorse(v6.state, v4.state)
    ? [v6, `over IPv6 (IPv4: ${v4.state})`]
    : [v4, `over IPv4 (IPv6: ${v6.state})`];
  return { ...worse, reason: worse.reason === undefined ? text : `${text}: ${worse.reason}` };
}

export function bitCount(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++;
  return count;
}
