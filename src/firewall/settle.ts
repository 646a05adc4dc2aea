// Compare and repair where other programs change the same chain at the same time.

/** Tries; a second daemon that starts at the same moment spoils one, two that repair the same flush another. */
const TRIES = 4;

export interface Settling<Found> {
  readonly list: () => Promise<Found>;
  readonly isRight: (found: Found) => boolean;
  /** One transaction on the ground of what was found; rejects when it did not apply. */
  readonly repair: (found: Found) => Promise<void>;
  /** Whether a repair brought what it should. */
  readonly isDone: (found: Found) => boolean;
  /** The error for a repair that was carried out and is not to be seen. */
  readonly unseen: (failure: unknown) => Error;
}

/**
 * Lists and repairs, and whether anything had to be changed. A repair that is refused, or overtaken, is made again on
 * the ground of a new list, if that differs. Rejects with the error of the last try.
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
