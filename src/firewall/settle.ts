// Compare and repair where other programs change the same chain at the same time.

/** Tries: a daemon that starts at the same moment spoils one, and two that repair the same flush spoil another. */
const TRIES = 4;

export interface Settling<Found> {
  readonly list: () => Promise<Found>;
  readonly isRight: (found: Found) => boolean;
  /** One transaction, made from what was listed; rejects when it did not apply. */
  readonly repair: (found: Found) => Promise<void>;
  /** Whether a repair brought what it should. */
  readonly isDone: (found: Found) => boolean;
  /** The error when a repair was carried out, and what it made is not there. */
  readonly unseen: (failure: unknown) => Error;
}

/**
 * Lists what is there and repairs it; resolves with whether anything had to be changed. A repair that was refused or
 * overtaken is made again from a new list, if that differs. Rejects with the error of the last try.
 */
export async function settle<Found>(settling: Settling<Found>): Promise<boolean> {
  const { list, isRight, repair, isDone, unseen } = settling;
  let found = await list();
  if (isRight(found)) return false;
  for (let tries = 1; ; tries++) {
    const failure: unknown = await repair(found).then(
      () => undefined,
      (error: unknown) => error,
    );
    const now = await list();
    if (failure === undefined && isDone(now)) return true;
    const isUnchanged = JSON.stringify(now) === JSON.stringify(found);
    if (tries === TRIES || isUnchanged) throw unseen(failure);
    found = now;
  }
}
