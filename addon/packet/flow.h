// Which flow a packet belongs to: the one answer for the order of what is sent, for coalescing and for queueing.
//
// The flow label of IPv6 is no part of it: Linux gives a flow another one after a timeout, to find another way, and
// what was sent before and after must still keep its order. RFC 6437 section 3 lets it change.
//
// Only the protocols below start with two ports (RFC 9293, 768, 3828, 9260, 4340). The first bytes of any other payload
// change from packet to packet: taken for ports they would tear one flow into many, and bring its packets out of order.
// Such a protocol is one flow for each address pair. Nor are ports read from a fragment, not even from the first one,
// because the others could not be told to belong to it: it may be of any flow of its pair.
#pragma once

#include <cstdint>

#include "packet/hash.h"
#include "packet/inner_header.h"

namespace twill {

struct FlowKey {
  uint32_t flow;  // hash of addresses, protocol and, where there are any, ports
  uint32_t pair;  // hash of the addresses
  bool is_fragment;
};

inline bool HasPorts(uint8_t protocol) noexcept {
  return protocol == kProtocolTcp || protocol == kProtocolUdp || protocol == kProtocolUdpLite ||
         protocol == kProtocolSctp || protocol == kProtocolDccp;
}

// HOT
// `header` was parsed from `packet`.
inline FlowKey FlowKeyOf(const uint8_t* packet, const InnerHeader& header) noexcept {
  const uint32_t pair = Mix(header.source, header.destination);
  const bool is_fragment = header.IsFragment();
  uint32_t rest = header.protocol;
  if (HasPorts(header.protocol) && !is_fragment && header.total_length >= header.header_length + 4u) {
    rest ^= LoadBe32(packet + header.header_length);
  }
  return {Mix(pair, rest), pair, is_fragment};
}

}  // namespace twill
