// Whether the external interface that was chosen at the start is still there.
//
// It stays as long as its link (by index) has its addresses, whatever else comes beside it: a second address, a second
// default route, a link that would be chosen today. Nor is it gone when an address becomes deprecated, or when the link
// is down, which takes its IPv6 addresses away. A new name or MTU of the same link is followed; so is a link that was
// made anew with the same name and address. An address that is away for GONE_MS, longer than a DHCP client or a network
// manager takes to put it back, or that another host turns out to have, too, is gone, and the interface is to be chosen
// again.

import type { ExternalInterface } from './underlay.js';
import type { Link } from './link.js';
import { familiesOf } from '../net/dual.js';
import { type Address, formatAddress } from '../net/prefix.js';
import { whyUnsendable } from './underlay-addresses.js';

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
    const own = familiesOf(chosen.address).map((family) => chosen.address[family]!);
    const missing = ({ isUp, addresses }: Link): Address[] =>
      own.filter((wanted) => {
        const isTakenAway = typeof wanted === 'bigint' && !isUp;
        return !isTakenAway && !addresses.some((own) => own.address === wanted && !own.isDuplicate);
      });
    const isWhole = (link: Link): boolean => missing(link).length === 0;
    const link =
      links.find((known) => known.index === chosen.index && isWhole(known)) ??
      links.find((known) => known.name === chosen.name && isWhole(known));
    if (link === undefined) {
      this.#awaySinceMs ??= nowMs;
      const bare = links.find(({ index }) => index === chosen.index);
      const fault =
        bare === undefined
          ? `external interface ${chosen.name} is gone`
          : `external interface ${chosen.name} has lost its address ${missing(bare)
              .map((address) => describeLoss(bare, address))
              .join(' and ')}`;
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

function describeLoss({ addresses }: Link, lost: Address): string {
  const held = addresses.find(({ address }) => address === lost);
  const why = held === undefined ? undefined : whyUnsendable(held);
  return `${formatAddress(lost)}${why === undefined ? '' : `, which is ${why}`}`;
}
