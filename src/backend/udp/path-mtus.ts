// What is known of paths that are narrower than our own link, by the public IP at their end.
//
// An entry is forgotten after as long as the kernel remembers one itself, and the full size is tried again then: a path
// may become wide again, and nothing tells so.

import type { Address } from '../../net/prefix.js';

/** How long the kernel remembers a path MTU (net.ipv4.route.mtu_expires). */
export const PATH_MTU_TTL_MS = 600_000;

export class PathMtus {
  readonly #known = new Map<Address, { readonly mtuBytes: number; readonly expiresAtMs: number }>();

  /** The largest inner packet that reaches `peer`; undefined while none is known to be too large. */
  of(peer: Address): number | undefined {
    return this.#known.get(peer)?.mtuBytes;
  }

  /** Remembers it from now on anew. Whether it was another before. */
  note(peer: Address, mtuBytes: number, nowMs: number): boolean {
    const before = this.of(peer);
    this.#known.set(peer, { mtuBytes, expiresAtMs: nowMs + PATH_MTU_TTL_MS });
    return before !== mtuBytes;
  }

  /** Whether there was something to forget. */
  forget(peer: Address): boolean {
    return this.#known.delete(peer);
  }

  /** Every path that is narrower, with the largest inner packet. */
  list(): (readonly [Address, number])[] {
    return Array.from(this.#known, ([peer, { mtuBytes }]) => [peer, mtuBytes] as const);
  }

  clear(): void {
    this.#known.clear();
  }

  /** Peers whose full size is to be tried again. */
  expired(nowMs: number): Address[] {
    return [...this.#known].filter(([, { expiresAtMs }]) => expiresAtMs <= nowMs).map(([peer]) => peer);
  }
}
