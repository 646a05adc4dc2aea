// What a data path has counted over all of its lives, those in a process before this one among them.
//
// A life that goes on with the sockets and the device of the one before finds the kernel's own counts as they are: what
// of them is counted already is left out.

import type { CounterSnapshot } from '../../dataplane/dataplane.js';
import type { LaneTotals } from '../../dataplane/lane.js';
import { addSnapshots, allCounters, withFormerLane } from './counters.js';
import type { UdpDevice } from './device.js';
import type { HandedState } from './handed-state.js';

/** What one process tells the next. */
export type FormerCounters = Omit<HandedState, 'peers' | 'paths'>;

export class LifetimeCounters {
  readonly #device: UdpDevice;
  /** Of lives that have ended. */
  #retired: CounterSnapshot | undefined;
  #formerQueueDrops = 0;
  /** Of the lane that was closed last, and may go on by its pins, what is counted. */
  #lastLane: LaneTotals | undefined;
  /** Drops of the sockets of this life that are counted in those before. */
  #countedSocketDrops = 0;
  /** The kernel's count when the last life ended. */
  #lastSocketDrops = 0;

  constructor(device: UdpDevice) {
    this.#device = device;
  }

  /** All of it; `current` is of the life that goes on, if there is one. Undefined before the first. */
  total(current: CounterSnapshot | undefined): CounterSnapshot | undefined {
    const both = this.#sum(current);
    return both && allCounters(both, this.#queueDrops());
  }

  /** As total(), for restore() of another process. */
  handOn(current: CounterSnapshot | undefined): FormerCounters | undefined {
    const counters = this.#sum(current);
    const queueDrops = this.#queueDrops();
    return (
      counters && {
        counters,
        queueDrops,
        queueSeen: this.#device.queueReading(),
        socketDropsSeen: current?.socketDrops ?? this.#lastSocketDrops,
        lastLane: current?.lane ?? this.#lastLane,
      }
    );
  }

  /** The life that begins goes on with the sockets of the one before. */
  adopt(): void {
    this.#countedSocketDrops = this.#lastSocketDrops;
  }

  /** A life has ended. */
  retire(last: CounterSnapshot): void {
    this.#retired = this.#sum(last);
    this.#lastLane = last.lane ?? this.#lastLane;
    this.#lastSocketDrops = last.socketDrops;
    this.#countedSocketDrops = 0;
  }

  /** Lives of another process, with whose sockets this one goes on or not. */
  restore(former: FormerCounters, isAdopted: boolean): void {
    const { counters, queueDrops, queueSeen, socketDropsSeen, lastLane } = former;
    this.#retired = this.#retired === undefined ? counters : addSnapshots(this.#retired, counters);
    this.#formerQueueDrops += queueDrops;
    if (queueSeen !== undefined) this.#device.countQueueFrom(queueSeen);
    this.#lastLane = lastLane;
    if (isAdopted) this.#countedSocketDrops = socketDropsSeen;
  }

  #queueDrops(): number {
    return this.#formerQueueDrops + this.#device.queueDrops();
  }

  #sum(current: CounterSnapshot | undefined): CounterSnapshot | undefined {
    if (current === undefined) return this.#retired;
    const socketDrops = current.socketDrops - this.#countedSocketDrops;
    const own = { ...withFormerLane(current, this.#lastLane), socketDrops };
    return this.#retired === undefined ? own : addSnapshots(this.#retired, own);
  }
}
