// The way between two hosts: one outer address for each peer, whichever families its subnets have.
//
// IPv4 where both hosts have it, as flannel's udp mode knows nothing else; else IPv6. So a packet of either family goes
// over it, and what fits is counted from it.

import type { Address, DualAddress } from '../../net/prefix.js';
import { IPV6_MIN_MTU_BYTES, UDP_OVERHEAD_BYTES } from '../../net/mtu.js';
import type { ExternalInterface } from '../backend.js';

/** Where a peer is sent to; undefined when the two have no family in common. */
export function outerOf(own: DualAddress, peer: DualAddress): Address | undefined {
  if (own.v4 !== undefined && peer.v4 !== undefined) return peer.v4;
  return own.v6 === undefined ? undefined : peer.v6;
}

/** What datagrams to this address add to a packet. */
export function overheadTo(address: Address): number {
  return typeof address === 'number' ? UDP_OVERHEAD_BYTES.v4 : UDP_OVERHEAD_BYTES.v6;
}

/** The largest packet that the device takes: one that the way to most peers does. */
export function deviceMtuOf({ address, mtuBytes }: ExternalInterface, hasIpv6: boolean): number {
  const most = mtuBytes - (address.v4 === undefined ? UDP_OVERHEAD_BYTES.v6 : UDP_OVERHEAD_BYTES.v4);
  // With less the kernel would take IPv6 off the device; the datagrams are cut instead.
  return hasIpv6 ? Math.max(most, IPV6_MIN_MTU_BYTES) : most;
}
