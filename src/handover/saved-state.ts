// What a data path would tell the next one, kept for the case that it dies without a word: JSON in memory of the kernel
// (memfd_create(2)) that outlives the process with the descriptors.
//
// Two files are written in turns, each with the number of its writing in front, so that a process which is killed while
// it writes one leaves the other.

import { closeSync } from 'node:fs';
import { native } from '../native/native.js';
import { readFileText, replaceFile } from './memory-file.js';

/** As large as the counters of 65,536 leases are, and half as much again. */
const MAX_BYTES = 16 << 20;

export const STATE_FILES = 2;

export class SavedState {
  readonly fds: readonly number[];
  #number: number;

  private constructor(fds: readonly number[], number: number) {
    this.fds = fds;
    this.#number = number;
  }

  /** With these files, which become its own; without them with new ones, or none where the kernel has none to give. */
  static open(found: readonly number[]): { readonly state: SavedState | undefined; readonly saved: unknown } {
    if (found.length === STATE_FILES) {
      const read = found.map(readNumbered);
      const [a, b] = read;
      const latest = (a?.number ?? -1) > (b?.number ?? -1) ? a : b;
      return { state: new SavedState(found, (latest?.number ?? 0) + 1), saved: latest?.value };
    }
    for (const fd of found) closeSync(fd);
    const fds = Array.from({ length: STATE_FILES }, () => native.memoryFile('twill-state'));
    if (fds.every((fd) => fd >= 0)) return { state: new SavedState(fds, 0), saved: undefined };
    for (const fd of fds) if (fd >= 0) closeSync(fd);
    return { state: undefined, saved: undefined };
  }

  save(value: object): void {
    const number = this.#number++;
    const fd = this.fds[number % STATE_FILES];
    const bytes = Buffer.from(`${number} ${JSON.stringify(value)}\n`);
    if (bytes.length > MAX_BYTES) return;
    replaceFile(fd, bytes);
  }
}

/** What save() has written; undefined for what is not whole. */
function readNumbered(fd: number): { readonly number: number; readonly value: unknown } | undefined {
  const [, number, text] = /^(\d+) (.*)\n$/s.exec(readFileText(fd, MAX_BYTES) ?? '') ?? [];
  if (number === undefined || text === undefined) return undefined;
  try {
    return { number: Number(number), value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}
