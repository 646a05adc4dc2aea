// Follows the external interface while the daemon runs: looks at it, chooses it anew when it is gone, and hands each
// change on until it is taken. underlay-watch.ts says what counts as a change.

import { type Condition, condition } from '../core/conditions.js';
import type { Logger } from '../core/log.js';
import { formatIpv4 } from '../net/ipv4.js';
import { type Link, listLinks } from './link.js';
import type { ExternalInterface } from './underlay.js';
import { UnderlayWatch } from './underlay-watch.js';

export interface UnderlayFollowerOptions {
  /** Chosen at the start. */
  readonly iface: ExternalInterface;
  /** Chooses anew. Rejects while there is none. */
  readonly choose: () => Promise<ExternalInterface>;
  /** Told of each change; told again by the next look when it rejects. */
  readonly onChange: (iface: ExternalInterface) => Promise<void>;
  /** Asks for a look: no event tells that time has passed. */
  readonly lookSoon: () => void;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** @default listLinks */
  readonly list?: (signal: AbortSignal) => Promise<readonly Link[]>;
  /** Milliseconds, monotonic. @default performance.now */
  readonly now?: () => number;
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

  /** Looks, and follows what it finds. Resolves with whether all of that succeeded; see `fault`. Never rejects. */
  async look(): Promise<boolean> {
    const { name } = this.#iface;
    let fault: string | undefined;
    try {
      const { list = listLinks, now = () => performance.now(), signal } = this.#options;
      const state = this.#watch.observe(this.#iface, await list(signal), now());
      if (state.kind === 'faulty' || state.kind === 'gone') fault = state.fault;
      if (state.kind === 'faulty' && state.goneInMs !== undefined)
        setTimeout(this.#options.lookSoon, state.goneInMs).unref();
      if (state.kind === 'changed') await this.#change(state.iface);
      else if (state.kind === 'same' && this.#isChangeDue) await this.#tell();
      if (state.kind === 'gone') {
        await this.#change(await this.#options.choose());
        fault = undefined;
      }
      this.#fault = fault === undefined ? undefined : condition('interface-down', fault);
      return true;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#fault = condition('interface-down', `${fault ?? `external interface ${name}`}: ${why}`);
      return false;
    }
  }

  async #change(iface: ExternalInterface): Promise<void> {
    const before = describeInterface(this.#iface);
    this.#options.log.warn({ before, now: describeInterface(iface) }, 'external interface changed');
    this.#iface = iface;
    this.#isChangeDue = true;
    await this.#tell();
  }

  async #tell(): Promise<void> {
    await this.#options.onChange(this.#iface);
    this.#isChangeDue = false;
  }
}

/** For the log and /status. */
export function describeInterface({ address, publicIp, name, index, mtuBytes }: ExternalInterface) {
  return { name, index, mtuBytes, address: formatIpv4(address), publicIp: formatIpv4(publicIp) };
}
