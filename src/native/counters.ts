// Where every packet ends, by name: the twin of addon/engine/counters.h, in the same order, compared by test/boundary.
//
// Unit: inner packets after splitting, unless the name says bytes, reads, writes, calls or messages. Once a worker is
// idle, packets_in equals packets_out plus all drop_* counters of its direction.

export const OUTBOUND_COUNTERS = [
  'packets_in',
  'bytes_in',
  'reads',
  'packets_out',
  'bytes_out',
  'messages',
  'trains',
  'send_calls',
  'gso_refused',
  'path_mtu_events',
  'fragmented',
  'icmp_sent',
  'icmp_limited',
  'icmp_failed',
  'drop_vnet_header',
  'drop_too_many_pieces',
  'drop_short',
  'drop_version',
  'drop_header_length',
  'drop_total_length',
  'drop_no_route',
  'drop_no_table',
  'drop_own_subnet',
  'drop_hairpin',
  'drop_recursion',
  'drop_not_unicast',
  'drop_ttl_expired',
  'drop_too_big',
  'drop_send_blocked',
  'drop_send_no_buffer',
  'drop_send_unreachable',
  'drop_send_denied',
  'drop_send_too_big',
  'drop_send_failed',
  'drop_stopped',
] as const;

export const INBOUND_COUNTERS = [
  'packets_in',
  'bytes_in',
  'messages',
  'receive_calls',
  'packets_out',
  'bytes_out',
  'writes',
  'superpackets',
  'gso_refused',
  'checksum_bad',
  'audit_would_drop',
  'icmp_sent',
  'icmp_limited',
  'icmp_failed',
  'drop_truncated',
  'drop_short',
  'drop_version',
  'drop_header_length',
  'drop_total_length',
  'drop_options',
  'drop_fragment_overflow',
  'drop_ttl_zero',
  'drop_ttl_expired',
  'drop_martian_source',
  'drop_martian_destination',
  'drop_own_outer',
  'drop_unknown_peer',
  'drop_no_table',
  'drop_own_source',
  'drop_spoofed_source',
  'drop_unowned_source',
  'drop_not_ours',
  'drop_tun_down',
  'drop_tun_refused',
  'drop_tun_blocked',
  'drop_tun_gone',
  'drop_tun_failed',
  'drop_stopped',
] as const;

/**
 * What the lane did: the twin of addon/lane/totals.h. Packets and bytes are inner ones after splitting. What was left
 * to the engine ends there in a counter of its own, so these say only why: a superpacket is one.
 */
export const LANE_TOTALS = [
  'out_packets', // sent by the lane
  'out_bytes',
  'in_packets', // delivered by the lane
  'in_bytes',
  'out_failed', // dropped: the kernel refused the second half of a change to the packet
  'in_failed',
  'out_left_unclean', // options, a fragment, TTL 1, no unicast, or a length that is not the packet's
  'out_left_no_route', // no lease, our own subnet, another host's source, our own datagrams
  'out_left_too_big', // larger than the path to the peer takes
  'out_left_unproven', // the peer has not been heard by a lane
  'out_left_flow', // the flow has been with the engine of late
  'out_left_superpacket', // in a sparse lane, not of TCP, or of too many pieces
  'out_left_rate', // above what one CPU may send by the lane
  'out_left_no_path', // the kernel knows no neighbour or no route, or is told not to forward
  'out_left_encapsulated', // a packet in a tunnel already, or there was no memory for the outer header
  'in_left_unclean', // sent by a lane, and not one clean packet
  'in_left_not_admitted', // sent by a lane, and not from the host that owns its source, or not to our subnet
  'in_left_too_big', // larger than the TUN device takes
  'in_left_behind', // not to overtake what waits in the socket for a worker that is late
] as const;

/** The kinds of a record for updateLane(), which may be added: a row that another lease has now is no longer proven. */
export const LANE_RECORD = { set: 0, delete: 1, anotherLease: 2 } as const;
/** Kind, network, prefix length, peer address, port, MTU, row. */
export const LANE_RECORD_WORDS = 7;

/**
 * Drops that the device counts, before a worker sees the packet: shown among the outbound ones, but no counter of the
 * addon's. Unit: packets of the device, so a superpacket is one.
 */
export const QUEUE_DROP = 'drop_tun_queue';

/** What the lane dropped, in either direction: among the engine's counters, but none of them. Unit: packets. */
export const LANE_DROP = 'drop_lane_failed';

/** The name of a counter of packets from the device to the peers. */
export type OutboundCounter = (typeof OUTBOUND_COUNTERS)[number];
/** The name of a counter of packets from the peers to the device. */
export type InboundCounter = (typeof INBOUND_COUNTERS)[number];
export type DropReason = Extract<
  typeof QUEUE_DROP | typeof LANE_DROP | OutboundCounter | InboundCounter,
  `drop_${string}`
>;

/** The name of a counter of the lane. */
export type LaneTotal = (typeof LANE_TOTALS)[number];

/** Words of who was refused last: families, and four each of the outer host, the inner source and destination. */
export const OFFENDER_WORDS = 13;

/** Index of an outbound counter: the verdict that drops a packet under that name. */
export function outboundIndex(name: OutboundCounter): number {
  return OUTBOUND_COUNTERS.indexOf(name);
}

/** Index of an inbound counter: the verdict that drops a run under that name. */
export function inboundIndex(name: InboundCounter): number {
  return INBOUND_COUNTERS.indexOf(name);
}

/** What each drop means and what to do about it: for logs, `twill drops` and docs/operations.md. */
export const DROP_MEANINGS: Readonly<Record<DropReason, string>> = {
  drop_tun_queue:
    'the queue of the TUN device was full: TCP learns its rate so, and a few in a hundred are normal; counted by the ' +
    'device: a superpacket is one',
  drop_lane_failed: 'the kernel refused the second half of what the lane does to a packet: it had no memory',
  drop_vnet_header:
    'the kernel handed over a packet whose offload header contradicts it, or an IPv6 superpacket with a routing header',
  drop_too_many_pieces:
    'a superpacket cut into more than 1,024 pieces, as raw sockets can make; counted as one packet',
  drop_short: 'shorter than the header: 20 bytes of IPv4, 40 of IPv6',
  drop_version: 'neither IPv4 nor IPv6, or of a family that the Network has not',
  drop_header_length:
    'IPv4 header length below 20 or past the end of the packet; IPv6 extension headers that end past it, are out of ' +
    'order, or more than 8 or 512 bytes',
  drop_total_length: 'the length that the header states is past the end of the packet, or above 65,535',
  drop_no_route:
    'no lease covers the destination; the sender is told "network unreachable" (IPv6: "no route")',
  drop_no_table:
    'came before the leases were known, in the moments of a start; nothing is wrong unless it grows',
  drop_own_subnet: 'destination in this host’s own subnet: no container interface has that address',
  drop_hairpin:
    'source belongs to another host: a packet that came from the overlay is not sent into it again',
  drop_recursion: 'our own encapsulated traffic, routed into the overlay',
  drop_not_unicast:
    'multicast, broadcast or reserved destination; of IPv6, a source or destination that is multicast, link-local, ' +
    '::, ::1 or IPv4-mapped',
  drop_ttl_expired: 'TTL or hop limit used up; the sender is told "time exceeded"',
  drop_too_big:
    'larger than the path to that host takes, and IPv4 with DF or IPv6 above 1,280 bytes; the sender is told the MTU',
  drop_send_blocked:
    'the UDP send buffer stayed full: TCP learns its rate so, and a few in a hundred are normal',
  drop_send_no_buffer: 'the kernel had no memory for the datagram',
  drop_send_unreachable: 'the kernel has no way to the host that owns the destination',
  drop_send_denied: 'a firewall rule on this host refused the datagram',
  drop_send_too_big: 'the kernel refused the datagram as too long',
  drop_send_failed: 'the kernel refused the datagram for another reason',
  drop_truncated: 'longer than a datagram can be',
  drop_options:
    'an option that routes or records, or one of a wrong length; of IPv6, also a routing header, a jumbo payload or ' +
    'a home address',
  drop_fragment_overflow: 'a fragment that ends past 65,535 bytes',
  drop_ttl_zero: 'arrived with TTL or hop limit 0',
  drop_martian_source:
    'inner source in 0/8, 127/8, 224/4, or in 240/4 while the Network is not; of IPv6, multicast, link-local, ::, ' +
    '::1 or IPv4-mapped',
  drop_martian_destination:
    'inner destination in 0/8, 127/8, 224/4, or in 240/4 while the Network is not; of IPv6, multicast, link-local, ' +
    '::, ::1 or IPv4-mapped',
  drop_own_outer: 'sent from this host’s own address',
  drop_unknown_peer: 'sent from an address that is the public IP of no lease',
  drop_own_source: 'inner source in this host’s own subnet, or one of its addresses outside',
  drop_spoofed_source: 'inner source belongs to a host other than the sender',
  drop_unowned_source: 'inner source belongs to no lease, and is not the address that the datagram came from',
  drop_not_ours: 'inner destination outside this host’s subnet',
  drop_tun_down: 'the TUN device is down',
  drop_tun_refused: 'the TUN device refused the packet as malformed',
  drop_tun_blocked: 'the TUN device had no memory or queue space',
  drop_tun_gone: 'the TUN device was deleted',
  drop_tun_failed: 'the TUN device refused the packet for another reason',
  drop_stopped: 'read or received by a worker that failed before it could judge the packet',
};

/** The drop reasons as a Markdown table. */
export function countersMarkdown(): string {
  const directions = (name: DropReason): string => {
    const isLane = name === LANE_DROP;
    const isOutbound =
      isLane || name === QUEUE_DROP || (OUTBOUND_COUNTERS as readonly string[]).includes(name);
    const isInbound = isLane || (INBOUND_COUNTERS as readonly string[]).includes(name);
    return [isOutbound ? 'outbound' : '', isInbound ? 'inbound' : '']
      .filter((part) => part !== '')
      .join(', ');
  };
  const rows = (Object.keys(DROP_MEANINGS) as DropReason[]).map(
    (name) => `| \`${name.slice('drop_'.length)}\` | ${directions(name)} | ${DROP_MEANINGS[name]} |`,
  );
  return ['| reason | direction | meaning |', '| --- | --- | --- |', ...rows].join('\n');
}
