// Follows the external interface while the daemon runs: looks at it, chooses it anew when it is gone, and hands each
// change on until it is taken. underlay-watch.ts says what counts as a change.

import { messageOf } from '../core/errors.js';
import { type Condition, condition } from '../core/conditions.js';
import type { Logger } from '../core/log.js';
import { mapDual } from '../net/dual.js';
import { formatAddress, formatAddresses } from '../net/prefix.js';
import { type Link, listLinks } from './link.js';
import type { ExternalInterface } from './underlay.js';
import { UnderlayWatch } from './underlay-watch.js';

export interface UnderlayFollowerOptions {
  /** Chosen at the start. */
  readonly iface: ExternalInterface;
  /** Chooses anew. Rejects while there is none. */
  readonly choose: () => Promise<ExternalInterface>;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** @default listLinks */
  readonly list?: (signal: AbortSignal) => Promise<readonly Link[]>;
  /** Milliseconds, monotonic. @default performance.now */
  readonly now?: () => number;
}

export interface Look {
  /** All that was to be done has succeeded; see `fault` otherwise. */
  readonly isDone: boolean;
  /** When to look again, since no event tells that time has passed. */
  readonly againInMs: number | undefined;
}

export class UnderlayFollower {
  readonly #options: UnderlayFollowerOptions;
  readonly #watch = new UnderlayWatch();
  #iface: ExternalInterface;
  #fault: Condition | undefined;
  /** The last change has not been taken yet. */
  #isChangeDue = false;

  constructor(options: UnderlayFollowerOptions) {
    this.#options = options;
    this.#iface = options.iface;
  }

  get iface(): ExternalInterface {
    return this.#iface;
  }

  /** What was wrong with the interface at the last look. */
  get fault(): Condition | undefined {
    return this.#fault;
  }

  /** Looks, and hands each change to `onChange`, again with each look until that resolves. Never rejects. */
  async look(onChange: (iface: ExternalInterface) => Promise<void>): Promise<Look> {
    const { name } = this.#iface;
    let fault: string | undefined;
    let againInMs: number | undefined;
    try {
      const { list = listLinks, now = () => performance.now(), signal } = this.#options;
      const state = this.#watch.observe(this.#iface, await list(signal), now());
      if (state.kind === 'faulty' || state.kind === 'gone') fault = state.fault;
      if (state.kind === 'faulty') againInMs = state.goneInMs;
      if (state.kind === 'changed') this.#change(state.iface);
      if (state.kind === 'gone') {
        this.#change(await this.#options.choose());
      }
      if (this.#isChangeDue && state.kind !== 'faulty') {
        await onChange(this.#iface);
        this.#isChangeDue = false;
        fault = undefined;
      }
      this.#fault = fault === undefined ? undefined : condition('interface-down', fault);
      return { isDone: true, againInMs };
    } catch (error) {
      const why = messageOf(error);
      this.#fault = condition('interface-down', `${fault ?? `external interface ${name}`}: ${why}`);
      return { isDone: false, againInMs };
    }
  }

  #change(iface: ExternalInterface): void {
    const before = describeInterface(this.#iface);
    this.#options.log.warn({ before, now: describeInterface(iface) }, 'external interface changed');
    this.#iface = iface;
    this.#isChangeDue = true;
  }
}

/** For the log and /status. */
export function describeInterface({ address, publicIp, name, index, mtuBytes }: ExternalInterface) {
  return {
    name,
    index,
    mtuBytes,
    address: formatAddresses(address),
    addresses: mapDual(address, formatAddress),
    publicIp: formatAddresses(publicIp),
    publicIps: mapDual(publicIp, formatAddress),
  };
}
