// Whether the external interface that was chosen at the start is still there.
//
// It stays as long as its link (by index) has its address, whatever else comes beside it: a second address, a second
// default route, a link that would be chosen today. A new name or MTU of the same link is followed; so is a link that
// was made anew with the same name and address. An address that is away for GONE_MS, longer than a DHCP client or a
// network manager takes to put it back, is gone, and the interface is to be chosen again.

import type { ExternalInterface } from './underlay.js';
import type { Link } from './link.js';
import { formatAddresses } from '../net/prefix.js';

/** How long an address may be away before another one is taken. */
export const GONE_MS = 5_000;

export type UnderlayState =
  | { readonly kind: 'same' }
  /** The same link and address, with another name, index or MTU. */
  | { readonly kind: 'changed'; readonly iface: ExternalInterface }
  /** It exists but carries no packets now, or it is away and counts as gone in `goneInMs`, unless it comes back. */
  | { readonly kind: 'faulty'; readonly fault: string; readonly goneInMs?: number }
  /** Gone: an interface has to be chosen anew. */
  | { readonly kind: 'gone'; readonly fault: string };

export class UnderlayWatch {
  #awaySinceMs: number | undefined;

  /** Compares `chosen` with the links of this moment. `nowMs` is monotonic. */
  observe(chosen: ExternalInterface, links: readonly Link[], nowMs: number): UnderlayState {
    const hasAddress = (link: Link): boolean =>
      link.addresses.some(({ address }) => address === chosen.address.v4);
    const link =
      links.find((known) => known.index === chosen.index && hasAddress(known)) ??
      links.find((known) => known.name === chosen.name && hasAddress(known));
    if (link === undefined) {
      this.#awaySinceMs ??= nowMs;
      const isThere = links.some(({ index }) => index === chosen.index);
      const fault = isThere
        ? `external interface ${chosen.name} has lost its address ${formatAddresses(chosen.address)}`
        : `external interface ${chosen.name} is gone`;
      const goneInMs = this.#awaySinceMs + GONE_MS - nowMs;
      return goneInMs <= 0 ? { kind: 'gone', fault } : { kind: 'faulty', fault, goneInMs };
    }
    this.#awaySinceMs = undefined;
    if (!link.isUp) return { kind: 'faulty', fault: `external interface ${link.name} is down` };
    const { index, name, mtuBytes } = link;
    if (index === chosen.index && name === chosen.name && mtuBytes === chosen.mtuBytes)
      return { kind: 'same' };
    return { kind: 'changed', iface: { ...chosen, index, name, mtuBytes } };
  }
}
