// Compare and repair where other programs change the same chain at the same time.

import { Backoff, MONOTONIC_CLOCK, nap } from '../core/waiting.js';

/** Tries: a daemon that starts at the same moment spoils one, and two that repair the same flush spoil another. */
const TRIES = 6;
/**
 * Tries in a row that change nothing. One is no proof: iptables-nft adds a chain that is there without a word, so two
 * that start together both add the jump, and one may append it again just as the other removes the double.
 */
const IDLE_TRIES = 2;
/** The pause before the next try. Two programs that repair in step would undo each other's work in each of them. */
const MIN_PAUSE_MS = 20;
const MAX_PAUSE_MS = 320;

export interface Settling<Found> {
  readonly list: () => Promise<Found>;
  readonly isRight: (found: Found) => boolean;
  /** One transaction, made from what was listed; rejects when it did not apply. */
  readonly repair: (found: Found) => Promise<void>;
  /** Whether a repair brought what it should. */
  readonly isDone: (found: Found) => boolean;
  /** The error when a repair was carried out, and what it made is not there. */
  readonly unseen: (failure: unknown) => Error;
  /** Ends the pauses; the calls above end with it by themselves. */
  readonly signal?: AbortSignal | undefined;
}

const NEVER = new AbortController().signal;

/**
 * Lists what is there and repairs it; resolves with whether anything had to be changed. A repair that was refused or
 * overtaken is made again from a new list, after a pause of random length. Rejects with the error of the last try.
 */
export async function settle<Found>(settling: Settling<Found>): Promise<boolean> {
  const { list, isRight, repair, isDone, unseen, signal = NEVER } = settling;
  const backoff = new Backoff(MIN_PAUSE_MS, MAX_PAUSE_MS, Math.random);
  for (let tries = 1, idleTries = 0; ; tries++) {
    const found = await list();
    if (isRight(found)) return tries > 1;
    const failure: unknown = await repair(found).then(
      () => undefined,
      (error: unknown) => error,
    );
    const now = await list();
    if (failure === undefined && isDone(now)) return true;
    idleTries = JSON.stringify(now) === JSON.stringify(found) ? idleTries + 1 : 0;
    if (tries === TRIES || idleTries === IDLE_TRIES || signal.aborted) throw unseen(failure);
    await nap(backoff.next(), signal, MONOTONIC_CLOCK);
  }
}
