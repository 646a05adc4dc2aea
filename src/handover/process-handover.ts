// The handover of a process that has the addon: see handover.ts.

import { closeSync } from 'node:fs';
import { native } from '../native/native.js';
import {
  type Descriptors,
  descriptorsOf,
  isNameOf,
  isQueueName,
  type NamedDescriptor,
  namedDescriptors,
  stateName,
} from './descriptors.js';
import { CrashRecord } from './crash-record.js';
import type { Handover, Predecessor } from './handover.js';
import { SavedState, STATE_FILES } from './saved-state.js';
import { type DescriptorStore, NO_STORE } from './service-manager.js';

export interface HandoverParts {
  /** @default nobody keeps anything */
  readonly store?: DescriptorStore;
  /** @default nobody works with what was found */
  readonly predecessor?: Predecessor | undefined;
  /** @default none */
  readonly crashes?: CrashRecord;
}

export class ProcessHandover implements Handover {
  readonly #found: Map<string, number>;
  readonly #store: DescriptorStore;
  /** Names of queues and sockets that the store has. */
  readonly #kept: Set<string>;
  readonly #states = new Map<string, ReturnType<typeof SavedState.open>>();
  #hasGiven = false;
  readonly #crashes: CrashRecord;
  readonly predecessor: Predecessor | undefined;

  /** `found`, by name, is this object's to close. */
  constructor(
    found: Map<string, number>,
    { store = NO_STORE, predecessor, crashes = CrashRecord.none() }: HandoverParts = {},
  ) {
    this.#found = found;
    this.#store = store;
    this.#kept = new Set(store.isThere ? [...found.keys()].filter(isQueueName) : []);
    this.predecessor = predecessor;
    this.#crashes = crashes;
  }

  get recentCrashes(): number {
    return this.#crashes.recent;
  }

  get isUrgent(): boolean {
    return this.predecessor === undefined && [...this.#found.keys()].some(isQueueName);
  }

  ended(): void {
    this.#crashes.ended();
  }

  has(device: string): boolean {
    return descriptorsOf(device, this.#found) !== undefined;
  }

  take(device: string): Descriptors | undefined {
    const taken = descriptorsOf(device, this.#found);
    this.#hasGiven ||= taken !== undefined;
    const used = new Set(taken && namedDescriptors(device, taken).map(([, fd]) => fd));
    for (const [name, fd] of this.#found) {
      if (!isNameOf(device, name)) continue;
      this.#found.delete(name);
      if (!used.has(fd)) this.#drop(name, fd);
    }
    return taken;
  }

  discard({ tun, udp4, udp6, turns }: Descriptors): void {
    for (const fd of [...tun, ...udp4, ...udp6, ...turns]) closeSync(fd);
  }

  keep(device: string, descriptors: Descriptors): void {
    const named = namedDescriptors(device, descriptors);
    const names = new Set(named.map(([name]) => name));
    this.#forget([...this.#kept].filter((name) => isNameOf(device, name) && !names.has(name)));
    this.#store.keep(named);
    this.#store.beUrgent();
    for (const name of names) this.#kept.add(name);
  }

  forget(device: string, descriptors: Descriptors): void {
    this.#forget(namedDescriptors(device, descriptors).map(([name]) => name));
  }

  forgetAll(): void {
    this.#forget([...this.#kept]);
  }

  leave(successor: string | undefined): void {
    this.#store.leave(successor);
  }

  #forget(names: readonly string[]): void {
    this.#store.forget(names);
    for (const name of names) this.#kept.delete(name);
  }

  retain(device: string, descriptors: Descriptors): void {
    for (const [name, fd] of namedDescriptors(device, descriptors)) {
      const copy = native.ownDescriptor(fd, true);
      if (copy >= 0) this.#found.set(name, copy);
    }
  }

  async settle(): Promise<void> {
    this.close();
    if (!this.#hasGiven) await this.predecessor?.stop();
  }

  saved(device: string): unknown {
    return this.#stateOf(device)?.saved;
  }

  save(device: string, state: () => object): void {
    this.#stateOf(device)?.state?.save(state());
  }

  #stateOf(device: string): ReturnType<typeof SavedState.open> | undefined {
    if (!this.#store.isThere) return undefined;
    const known = this.#states.get(device);
    if (known !== undefined) return known;
    const names = Array.from({ length: STATE_FILES }, (_, i) => stateName(device, i));
    const found = names.map((name) => this.#found.get(name)).filter((fd) => fd !== undefined);
    for (const name of names) this.#found.delete(name);
    const opened = SavedState.open(found);
    const { state } = opened;
    if (found.length !== STATE_FILES && state !== undefined)
      this.#store.keep(state.fds.map((fd, i): NamedDescriptor => [names[i], fd]));
    this.#states.set(device, opened);
    return opened;
  }

  /** Closes what nobody has taken. */
  close(): void {
    for (const [name, fd] of this.#found) this.#drop(name, fd);
    this.#found.clear();
  }

  #drop(name: string, fd: number): void {
    this.#forget([name]);
    closeSync(fd);
  }
}
