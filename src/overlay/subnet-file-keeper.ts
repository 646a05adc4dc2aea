// Keeps subnet.env what it should be: without it no pod of this host gets a network, and nothing but this daemon knows
// what belongs there. A file that is deleted is written again at once; one that somebody else writes over, at most
// every ten seconds, so that two daemons on one file do not fight at full speed.

import { messageOf } from '../core/errors.js';
import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { type Condition, Conditions } from '../core/conditions.js';
import type { Logger } from '../core/log.js';
import type { MetricFamily } from '../core/metric.js';
import { formatSubnetFile, type SubnetFile, writeSubnetFile } from './subnet-file.js';

const DEBOUNCE_MS = 50;
const FOREIGN_MS = 10_000;

export class SubnetFileKeeper {
  readonly #path: string;
  readonly #log: Logger;
  #content: SubnetFile | undefined;
  readonly #conditions = new Conditions();
  #repairs = 0;
  #foreignAtMs = -Infinity;
  #watcher: FSWatcher | undefined;
  #debounce: NodeJS.Timeout | undefined;
  /** Writes one after the other. */
  #queue: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  get path(): string {
    return this.#path;
  }

  metrics(): readonly MetricFamily[] {
    return [
      {
        name: 'subnet_file_repairs_total',
        help: 'Times subnet.env was missing or changed and written again.',
        type: 'counter',
        values: [{ labels: {}, value: this.#repairs }],
      },
    ];
  }

  /**
   * From now on the file holds `content`. Never rejects: what fails is shown by conditions() and check() tries again.
   */
  write(content: SubnetFile): Promise<void> {
    this.#content = content;
    return this.#enqueue(() => this.#write());
  }

  /** Compares the file, and writes it again if it is not what it should be. Never rejects. */
  check(): Promise<void> {
    return this.#enqueue(() => this.#check());
  }

  conditions(): readonly Condition[] {
    return this.#conditions.list();
  }

  /** The file stays. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#debounce);
    this.#watcher?.close();
    await this.#queue;
  }

  get #isUnwritten(): boolean {
    return this.#conditions.textOf('subnet-file') !== undefined;
  }

  #enqueue(task: () => Promise<void>): Promise<void> {
    this.#queue = this.#queue.then(task);
    return this.#queue;
  }

  async #check(): Promise<void> {
    if (this.#isClosed || this.#content === undefined) return;
    if (this.#isUnwritten) return this.#write();
    const text = await readFile(this.#path, 'utf8').catch(() => undefined);
    if (text === formatSubnetFile(this.#content)) return;
    const nowMs = performance.now();
    if (text !== undefined) {
      if (nowMs - this.#foreignAtMs < FOREIGN_MS) return;
      this.#foreignAtMs = nowMs;
    }
    await this.#write();
    if (this.#isUnwritten) return;
    this.#repairs++;
    const what = text === undefined ? 'was gone' : 'had been changed';
    this.#log.warn({ path: this.#path }, `subnet file ${what}: written again`);
  }

  async #write(): Promise<void> {
    if (this.#isClosed) return;
    try {
      await writeSubnetFile(this.#path, this.#content!);
      this.#conditions.release('subnet-file');
      if (!this.#isClosed) this.#watch();
    } catch (error) {
      this.#conditions.hold('subnet-file', messageOf(error));
    }
  }

  /** The folder, because a replaced file is another one; anew after each write, because so is a folder made again. */
  #watch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    try {
      const name = basename(this.#path);
      const folder = dirname(this.#path);
      const watcher = watch(folder, (_event, changed) => {
        if (changed !== null && changed !== name && changed !== basename(folder)) return;
        clearTimeout(this.#debounce);
        this.#debounce = setTimeout(() => void this.check(), DEBOUNCE_MS);
      });
      watcher.on('error', () => watcher.close());
      this.#watcher = watcher;
    } catch {
      // Out of watches, as on hosts of many pods: the daemon's timer calls check() all the same.
    }
  }
}
