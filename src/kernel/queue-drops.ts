// Packets that a device dropped because nobody took them from its queue in time. The kernel counts them as tx_dropped
// of the TUN device; the program that reads the device does not learn of them in any other way.
//
// The count belongs to the device: one that was there before us has a past that is not ours, and one that is made anew
// starts at 0. Devices are told apart by index, which the kernel does not assign twice.

import { readFileSync } from 'node:fs';
import { checkInterfaceName } from './interface-name.js';

export interface QueueReading {
  /** Of the device. */
  readonly index: number;
  readonly dropped: number;
}

/** Drops of the device of one name since start(), over every device that had the name meanwhile. */
export class QueueDrops {
  readonly #name: string;
  readonly #sysfs: string;
  #last: QueueReading | undefined;
  #total = 0;

  /** `sysfs` is where the kernel shows its network devices; tests have their own. */
  constructor(name: string, sysfs = '/sys/class/net') {
    this.#name = checkInterfaceName(name);
    this.#sysfs = sysfs;
  }

  /** Begins to count: what a device that exists already has dropped so far is left out. */
  start(): void {
    this.#last = this.#read();
  }

  /** Goes on from what somebody else has read, and counted up to then. */
  startFrom(reading: QueueReading): void {
    this.#last = reading;
    this.#total = 0;
  }

  /** What total() or a start read last. */
  get last(): QueueReading | undefined {
    return this.#last;
  }

  /** Drops since start(). Two small files are read; what a deleted device dropped after the last call is lost. */
  total(): number {
    const now = this.#read();
    if (now === undefined) return this.#total;
    const before = this.#last?.index === now.index ? this.#last.dropped : 0;
    this.#total += Math.max(0, now.dropped - before);
    this.#last = now;
    return this.#total;
  }

  #read(): QueueReading | undefined {
    const index = this.#number('ifindex');
    const dropped = this.#number('statistics/tx_dropped');
    return index === undefined || dropped === undefined ? undefined : { index, dropped };
  }

  #number(file: string): number | undefined {
    try {
      return Number(readFileSync(`${this.#sysfs}/${this.#name}/${file}`, 'utf8'));
    } catch {
      return undefined; // no such device now, or no sysfs in this container
    }
  }
}
