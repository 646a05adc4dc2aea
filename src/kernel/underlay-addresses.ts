// Which addresses of an interface a host can be reached under, the best first. Pure.
//
// A tentative IPv6 address cannot be sent from yet, a deprecated one is about to go, a temporary one is changed every
// day, and a link-local one means nothing to peers: none of these is chosen.

import { isBogon } from '../net/bogons.js';
import type { FamilyName } from '../net/dual.js';
import { type Address, bitsOf, familyNameOf, formatAddress } from '../net/prefix.js';
import type { Link, LinkAddress } from './link.js';

/** fe80::/10 (RFC 4291 section 2.5.6): of no use to peers without a zone, which no lease has. */
export function isLinkLocalIpv6(address: Address): boolean {
  return typeof address === 'bigint' && address >> 118n === 0x3fan;
}

function isUsable({ address, scope, isDeprecated, isTentative, isTemporary }: LinkAddress): boolean {
  return (
    !isDeprecated &&
    !isTentative &&
    !isTemporary &&
    !isBogon(address) &&
    scope !== 'host' &&
    !isLinkLocalIpv6(address)
  );
}

/**
 * Addresses a host can be reached under, the best first: that of the last run, global before link-local, one with a
 * prefix before one alone and the first of a network before those that came beside it (virtual addresses of keepalived
 * or kube-vip, which move between hosts), permanent before dynamic.
 */
export function usable({ addresses }: Link, family: FamilyName, former: Address | undefined): LinkAddress[] {
  const found = addresses.filter((own) => familyNameOf(own.address) === family && isUsable(own));
  const rank = ({ address, scope, length, isSecondary, isPermanent }: LinkAddress): number =>
    (address === former ? 0 : 16) +
    (scope === 'global' ? 0 : 8) +
    (length < bitsOf(address) ? 0 : 4) +
    (isSecondary ? 2 : 0) +
    (isPermanent ? 0 : 1);
  return found.sort((a, b) => rank(a) - rank(b));
}

/** What the addresses of an interface lack, in brackets; empty in IPv4, and where it has none. */
export function whyNone(link: Link, family: FamilyName): string {
  if (family === 'v4') return '';
  const own = link.addresses.filter(({ address }) => familyNameOf(address) === family);
  const flaws: readonly [string, (address: LinkAddress) => boolean][] = [
    ['link-local', ({ address }) => isLinkLocalIpv6(address)],
    ['tentative', ({ isTentative }) => isTentative],
    ['deprecated', ({ isDeprecated }) => isDeprecated],
    ['temporary', ({ isTemporary }) => isTemporary],
  ];
  const said = own.map((address) => {
    const flaw = flaws.find(([, isTrue]) => isTrue(address))?.[0] ?? 'not unicast';
    return `${formatAddress(address.address)} is ${flaw}`;
  });
  return said.length === 0 ? '' : ` (${said.join(', ')})`;
}
