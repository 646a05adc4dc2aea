// IPv6 headers (RFC 8200): the base header, and the extension headers between it and the transport.
//
// Extension headers are walked up to the first that is none: transport, ESP, "no next header", or anything unknown. A
// later fragment ends the walk, since what follows is the middle of something. The walk is bounded in headers and in
// bytes, more than any sender of today needs (draft-ietf-6man-eh-limits has 8 headers and 64 bytes of options). A
// hop-by-hop header comes first or not at all (section 4.3).
//
// Never carried, in or out: multicast, ::, ::1, IPv4-mapped and link-local addresses. Router advertisements and
// redirects are from link-local addresses, or they are none (RFC 4861 sections 6.1.2 and 8.1). What else there is of
// neighbour discovery must have a hop limit of 255 (section 7.1), which nothing has any more behind a tunnel that
// lowers it. Global addresses, and unique local ones (RFC 4193), are alike here: whose they are the route table knows.
#pragma once

#include "packet/inner_header.h"

namespace twill {

inline constexpr size_t kIpv6PayloadLength = 4;
inline constexpr size_t kIpv6NextHeader = 6;
inline constexpr size_t kIpv6HopLimit = 7;
inline constexpr size_t kIpv6Source = 8;
inline constexpr size_t kIpv6Destination = 24;

inline constexpr uint32_t kMaxExtensions = 8;
inline constexpr size_t kMaxExtensionBytes = 512;

// Every link carries packets of this size (RFC 8200 section 5): no path is called narrower.
inline constexpr uint16_t kMinIpv6Mtu = 1280;

// As ParseIpv4. A jumbogram (RFC 2675) states no length and is refused: its options cannot end inside it.
HeaderFault ParseIpv6(const uint8_t* packet, size_t length, InnerHeader* header) noexcept;

// As CheckReceivedIpv4. A routing header of type 0 is refused even where any option may pass (RFC 5095).
HeaderFault CheckReceivedIpv6(const uint8_t* packet, const InnerHeader& header, ReceivedRules rules) noexcept;

// Whether there is no routing header, and no option that asks routers to write into it (RFC 8200 section 4.2, third bit
// of its type), makes the packet longer than it says or names another source. Others, and unknown ones, are harmless.
bool Ipv6OptionsAreHarmless(const uint8_t* packet, const InnerHeader& header) noexcept;

// Whether the 16 bytes at `address` can be the source or destination of a unicast packet between hosts.
bool IsUnicastIpv6(const uint8_t* address) noexcept;

}  // namespace twill
