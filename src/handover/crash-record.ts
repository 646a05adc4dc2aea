// How often processes before this one have died without a word of late: when each of them began, kept by who keeps the
// descriptors, since a process that crashes can write nothing any more.

import { native } from '../native/native.js';
import { readFileText, replaceFile } from './memory-file.js';
import type { DescriptorStore } from './service-manager.js';

const CRASH_RECORD_NAME = 'twill.starts';
const RECENT_MS = 60_000;
const MAX_BYTES = 4_096;

export class CrashRecord {
  /** Crashes within the last minute; 0 where nobody keeps descriptors. */
  readonly recent: number;
  readonly #fd: number | undefined;
  readonly #before: readonly number[];

  private constructor(fd: number | undefined, before: readonly number[]) {
    this.#fd = fd;
    this.#before = before;
    this.recent = before.length;
  }

  /** Where nobody keeps it. */
  static none(): CrashRecord {
    return new CrashRecord(undefined, []);
  }

  /** Takes its file out of what was kept, if it is there. `nowMs` is of the wall clock. */
  static open(found: Map<string, number>, store: DescriptorStore, nowMs = Date.now()): CrashRecord {
    const kept = found.get(CRASH_RECORD_NAME);
    found.delete(CRASH_RECORD_NAME);
    if (!store.isThere) return CrashRecord.none();
    const fd = kept ?? native.memoryFile('twill-starts');
    if (fd < 0) return CrashRecord.none();
    if (kept === undefined) store.keep([[CRASH_RECORD_NAME, fd]]);
    const before = readTimes(fd).filter((ms) => ms <= nowMs && nowMs - ms < RECENT_MS);
    writeTimes(fd, [...before, nowMs]);
    return new CrashRecord(fd, before);
  }

  /** This process ends of itself: the next one follows no crash of it. */
  ended(): void {
    if (this.#fd !== undefined) writeTimes(this.#fd, this.#before);
  }
}

function readTimes(fd: number): readonly number[] {
  return (readFileText(fd, MAX_BYTES) ?? '').split('\n').filter(Boolean).map(Number);
}

/** The last ones that there is room for. */
function writeTimes(fd: number, times: readonly number[]): void {
  const text = times.map((ms) => `${ms}\n`).join('');
  replaceFile(fd, Buffer.from(text.slice(-MAX_BYTES)));
}
