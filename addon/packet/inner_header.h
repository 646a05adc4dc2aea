// The header of an inner packet of either family, read once, as everything behind the parsers sees it.
//
// Whatever decides by packet (splitting, merging, flows, ICMP errors) works on these fields and on the buffer; only
// where the two families write a thing in different places does it ask for the version.
#pragma once

#include <cstddef>
#include <cstdint>

#include "packet/wire.h"

namespace twill {

// Every field in host order.
struct InnerHeader {
  // What tells hosts apart: the IPv4 address, or a hash of the IPv6 address, which itself stays in the buffer. Two IPv6
  // hosts may have the same.
  uint32_t source;
  uint32_t destination;
  uint16_t total_length;   // of the packet, also where IPv6 states that of its payload alone
  uint16_t header_length;  // up to the transport header: with IPv4 options, IPv6 extension headers
  uint16_t id;             // 0 for IPv6
  uint16_t fragment;       // flags and offset as IPv4 has them. IPv6 never lets a router fragment: DF
  uint8_t tos;             // traffic class
  uint8_t ttl;             // hop limit
  uint8_t protocol;        // of the transport header; of a later fragment, what its fragment header says comes next
  uint8_t version;         // 4 or 6
  bool has_route;          // an IPv6 routing header, by which the checksum is over another destination than it shows

  bool IsFragment() const noexcept { return (fragment & (kMoreFragments | kFragmentOffset)) != 0; }
  bool IsLaterFragment() const noexcept { return (fragment & kFragmentOffset) != 0; }
  bool DontFragment() const noexcept { return (fragment & kDontFragment) != 0; }
  bool IsV6() const noexcept { return version == 6; }
  // Neither IPv4 options nor IPv6 extension headers.
  bool IsPlain() const noexcept { return header_length == (IsV6() ? kIpv6Header : kMinIpHeader); }
};

enum class HeaderFault : uint8_t {
  kNone,
  kShort,
  kVersion,
  kHeaderLength,  // of IPv6: extension headers that do not end in the packet, or more than are followed
  kTotalLength,
  kOptions,       // of IPv6: also of extension headers, and those that route
  kFragmentOverflow,
  kTtlZero,
  kMartianSource,
  kMartianDestination,
};

// What may be let in besides.
struct ReceivedRules {
  bool reserved = false;    // as in IsUnicast of ipv4.h
  bool any_option = false;  // also options that are not harmless
};

}  // namespace twill
