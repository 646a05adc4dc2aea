// Which addresses of an interface a host can be reached under, the best first. Pure.
//
// A tentative IPv6 address cannot be sent from yet, and one that another host has, too, not at all; a deprecated one is
// about to go, a temporary one is changed every day, and a link-local one means nothing to peers: none is chosen.

import { isBogon, isLinkLocalIpv6 } from '../net/bogons.js';
import type { FamilyName } from '../net/dual.js';
import { type Address, bitsOf, familyNameOf, formatAddress } from '../net/prefix.js';
import type { Link, LinkAddress } from './link.js';

/** What keeps any packet from leaving with this address; undefined when nothing does. */
export function whyUnsendable({ isTentative, isDuplicate }: LinkAddress): string | undefined {
  if (isDuplicate) return 'another host’s as well (duplicate address detection failed)';
  return isTentative ? 'tentative' : undefined;
}

function isUsable(own: LinkAddress): boolean {
  const { address, scope, isDeprecated, isTemporary } = own;
  return (
    !isDeprecated &&
    whyUnsendable(own) === undefined &&
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

/**
 * What the addresses of an interface lack, in brackets; empty in IPv4, and where it has none. On those of `withoutIpv6`
 * the host has switched IPv6 off.
 */
export function whyNone(link: Link, family: FamilyName, withoutIpv6: readonly string[]): string {
  if (family === 'v4') return '';
  if (withoutIpv6.includes(link.name))
    return ` (net.ipv6.conf.${link.name.replaceAll('.', '/')}.disable_ipv6 is 1: set it to 0)`;
  const own = link.addresses.filter(({ address }) => familyNameOf(address) === family);
  const flawOf = (address: LinkAddress): string => {
    if (isLinkLocalIpv6(address.address)) return 'link-local';
    const unsendable = whyUnsendable(address);
    if (unsendable !== undefined) return unsendable;
    if (address.isDeprecated) return 'deprecated';
    return address.isTemporary ? 'temporary' : 'not unicast';
  };
  const said = own.map((address) => `${formatAddress(address.address)} is ${flawOf(address)}`);
  return said.length === 0 ? '' : ` (${said.join(', ')})`;
}

/** Interfaces with their addresses, for an error. */
export function describeLinks(links: readonly Link[], withoutIpv6: readonly string[]): string {
  const shown = links.map(({ name, addresses }) => {
    const off = withoutIpv6.includes(name) ? ' (disable_ipv6 is 1)' : '';
    return `${name} [${addresses.map(({ address }) => formatAddress(address)).join(' ')}]${off}`;
  });
  return shown.join(', ') || 'none';
}
