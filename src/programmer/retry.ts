// How soon the kernel is asked again for what it refused: a run as a whole, or one peer of it.

import { Backoff } from '../core/waiting.js';

const MIN_MS = 200;
const MAX_MS = 30_000;

export function retryBackoff(random: () => number): Backoff {
  return new Backoff(MIN_MS, MAX_MS, random);
}
