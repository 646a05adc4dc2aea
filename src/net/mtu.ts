// What each encapsulation costs of the external interface's MTU, in bytes.

/** 28 = 20 outer IPv4 + 8 UDP (RFC 791, RFC 768); no options are sent. */
export const UDP_OVERHEAD_BYTES = 28;

/** 50 = 20 outer IPv4 + 8 UDP + 8 VXLAN + 14 inner Ethernet (RFC 7348 section 5). */
export const VXLAN_OVERHEAD_BYTES = 50;
