// What one daemon of a host holds against the others: its subnet file, its network, its device. See host-lock.ts.

import { basename, dirname, join } from 'node:path';
import { messageOf, OverlayError } from '../core/errors.js';
import { realFolder } from '../core/files.js';
import type { Ipv6 } from '../net/ipv6.js';
import {
  type Address,
  type DualPrefix,
  formatPrefix,
  type Prefix,
  prefixEquals,
  prefixesOverlap,
} from '../net/prefix.js';
import { heldNetworks, type HostLock, holdOrRefuse } from './host-lock.js';

/**
 * Names that are held from the moment they are asked for until close(). To ask again for one that is held is no error.
 */
export class HeldNames {
  readonly #owner: string;
  readonly #warn: (text: string) => void;
  readonly #waits: AbortSignal | undefined;
  readonly #locks = new Map<string, HostLock>();
  #isClosed = false;

  /**
   * `owner` is what another daemon is told of us, one line; `warn` takes what keeps names from being held at all. With
   * `waits`, subnet file and network are waited for while another daemon has them, until that aborts.
   */
  constructor(owner: string, warn: (text: string) => void, waits?: AbortSignal) {
    this.#owner = owner;
    this.#warn = warn;
    this.#waits = waits;
  }

  /** Rejects with OverlayError E_RUNNING when another daemon of this host keeps this subnet file. */
  holdSubnetFile(path: string): Promise<void> {
    const file = join(realFolder(dirname(path)), basename(path));
    return this.#await(`file/${file}`, `the subnet file ${path}`, 'give each its own --subnet-file');
  }

  /**
   * Before anything of the network is acquired or touched: two daemons would take each other's lease, routes and rules.
   * Rejects with OverlayError E_RUNNING, or E_CONFIG when the networks of two daemons overlap.
   */
  async holdNetwork(network: Prefix<Address>): Promise<void> {
    const text = formatPrefix(network);
    await this.#await(`network/${text}`, `the network ${text}`, 'end it, or give this one another Network');
    for (const other of await heldNetworks()) {
      if (prefixEquals(other, network) || !prefixesOverlap(other, network)) continue;
      throw new OverlayError(
        'E_CONFIG',
        `Network ${text} overlaps ${formatPrefix(other)}, which another daemon on this host serves: ` +
          'their routes and rules could not be told apart',
      );
    }
  }

  /** False when another daemon has the device. */
  async holdDevice(name: string): Promise<boolean> {
    try {
      await this.#hold(`device/${name}`, `the device ${name}`, 'use another');
      return true;
    } catch (error) {
      if (error instanceof OverlayError && error.code === 'E_RUNNING') return false;
      throw error;
    }
  }

  /** Lets go of all names; none can be held afterwards. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const locks = [...this.#locks.values()];
    this.#locks.clear();
    await Promise.all(locks.map((lock) => lock.close()));
  }

  async #await(name: string, what: string, way: string): Promise<void> {
    for (let isTold = false; ; isTold = true) {
      try {
        return await this.#hold(name, what, way);
      } catch (error) {
        const isHeld = error instanceof OverlayError && error.code === 'E_RUNNING';
        if (!isHeld || this.#waits === undefined || this.#isClosed) throw error;
        this.#waits.throwIfAborted();
        if (!isTold) this.#warn(`${messageOf(error)}; waiting until it ends`);
      }
    }
  }

  async #hold(name: string, what: string, way: string): Promise<void> {
    if (this.#locks.has(name)) return;
    const lock = await holdOrRefuse(name, this.#owner, what, way, this.#warn);
    if (!this.#isClosed) {
      this.#locks.set(name, lock);
      return;
    }
    await lock.close();
    throw new OverlayError('E_RUNNING', `${what} is not held: the names of this program were let go of`);
  }
}

/** A network for each family, or none. */
export type FormerNetworks = { readonly v4?: Prefix | undefined; readonly v6?: Prefix<Ipv6> | undefined };

/** abandonedNetwork() of each family; one that the network has no more counts as another. */
export async function abandonedNetworks(
  previous: FormerNetworks | undefined,
  networks: DualPrefix,
): Promise<FormerNetworks> {
  return {
    v4: await abandonedNetwork(previous?.v4, networks.v4),
    v6: await abandonedNetwork(previous?.v6, networks.v6),
  };
}

/**
 * `previous`, the network of the last run, when it is another than today's and no daemon of this host serves it now.
 */
export async function abandonedNetwork<A extends Address>(
  previous: Prefix<A> | undefined,
  network: Prefix<A> | undefined,
): Promise<Prefix<A> | undefined> {
  const isOurs = (held: Prefix<Address>): boolean => network !== undefined && prefixEquals(held, network);
  if (previous === undefined || isOurs(previous)) return undefined;
  const others = (await heldNetworks()).filter((held) => !isOurs(held));
  return others.some((held) => prefixesOverlap(held, previous)) ? undefined : previous;
}
