// What each encapsulation costs of the external interface's MTU, in bytes.

/** 28 = 20 outer IPv4 + 8 UDP (RFC 791, RFC 768); the header of IPv6 has 20 more (RFC 8200). No options are sent. */
export const UDP_OVERHEAD_BYTES = { v4: 28, v6: 48 } as const;

/** 50 = 20 outer IPv4 + 8 UDP + 8 VXLAN + 14 inner Ethernet (RFC 7348 section 5); the header of IPv6 has 20 more. */
export const VXLAN_OVERHEAD_BYTES = { v4: 50, v6: 70 } as const;

/** The smallest MTU that IPv6 runs over (RFC 8200 section 5): the kernel takes it off an interface with less. */
export const IPV6_MIN_MTU_BYTES = 1280;
