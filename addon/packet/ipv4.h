// IPv4 headers: reading, checking, and the changes a router makes in place.
//
// Nothing here trusts a length: ParseIpv4 is called before any other function looks at the bytes, and what it accepts
// (RFC 791 section 3.1) can be read without passing the end. The header checksum is only updated (RFC 1624), because
// the kernel verifies it for every packet written to the TUN; where it is computed anew instead, for a superpacket that
// is merged of several packets, theirs are verified first.
#pragma once

#include "packet/inner_header.h"

namespace twill {

inline constexpr size_t kIpv4TotalLength = 2;
inline constexpr size_t kIpv4Fragment = 6;  // flags and offset
inline constexpr size_t kIpv4Source = 12;

// Reads the header of a packet of `length` bytes. On kNone, total_length <= length and header_length <= total_length.
HeaderFault ParseIpv4(const uint8_t* packet, size_t length, InnerHeader* header) noexcept;

// The further conditions for a packet that came from another host, in the order of the members of HeaderFault.
HeaderFault CheckReceivedIpv4(const uint8_t* packet, const InnerHeader& header, ReceivedRules rules) noexcept;

// Whether no option of the header routes or records, and each ends inside it. Options that nobody knows are harmless:
// a router passes them on (RFC 1812 section 4.2.2.6), and hosts use some among themselves.
bool Ipv4OptionsAreHarmless(const uint8_t* packet, const InnerHeader& header) noexcept;

// Whether an address can be the source or destination of a unicast packet between hosts. The reserved range 240/4
// counts only with `reserved`, when the overlay Network lies there. The network config refuses the other ranges.
inline bool IsUnicast(uint32_t address, bool reserved = false) noexcept {
  const uint32_t first = address >> 24;
  return first != 0 && first != 127 && (first < 224 || (reserved && first >= 240 && address != 0xffffffff));
}

// One step of RFC 1624 for the high byte of the TTL and protocol word. The TTL must not be 0.
inline void DecrementIpv4Ttl(uint8_t* packet) noexcept {
  packet[8]--;
  const uint32_t sum = LoadBe16(packet + 10) + 0x0100u;
  StoreBe16(packet + 10, sum + (sum >= 0xffff ? 1 : 0));
}

inline void WriteIpChecksum(uint8_t* packet, size_t header_length) noexcept {
  StoreWord(packet + 10, 0);
  StoreWord(packet + 10, Finish(Sum(packet, header_length)));
}

}  // namespace twill
