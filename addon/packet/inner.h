// What is done to an inner packet of either family, by the version of its header.
//
// The version is asked once a packet, and a network of IPv4 alone takes the same turn every time.
#pragma once

#include "packet/address.h"
#include "packet/ipv4.h"
#include "packet/ipv6.h"

namespace twill {

// What the overlay network carries. A packet of another family is of a wrong version.
struct Families {
  bool v4 = true;
  bool v6 = false;
};

// HOT
// Reads the header of a packet of `length` bytes. On kNone, total_length <= length and header_length <= total_length.
inline HeaderFault ParseInner(const uint8_t* packet, size_t length, Families families, InnerHeader* header) noexcept {
  const bool is_v6 = families.v6 && (!families.v4 || (length > 0 && packet[0] >> 4 == 6));
  return is_v6 ? ParseIpv6(packet, length, header) : ParseIpv4(packet, length, header);
}

// HOT
// The further conditions for a packet that came from another host, in the order of the members of HeaderFault.
inline HeaderFault CheckReceived(const uint8_t* packet, const InnerHeader& header, ReceivedRules rules = {}) noexcept {
  return header.IsV6() ? CheckReceivedIpv6(packet, header, rules) : CheckReceivedIpv4(packet, header, rules);
}

inline bool OptionsAreHarmless(const uint8_t* packet, const InnerHeader& header) noexcept {
  return header.IsV6() ? Ipv6OptionsAreHarmless(packet, header) : Ipv4OptionsAreHarmless(packet, header);
}

// `packet` was parsed into `header`, or is a copy of it. The same of its sender and of its receiver.
inline bool SourceIsUnicast(const uint8_t* packet, const InnerHeader& header, bool reserved = false) noexcept {
  return header.IsV6() ? IsUnicastIpv6(packet + kIpv6Source) : IsUnicast(header.source, reserved);
}
inline bool DestinationIsUnicast(const uint8_t* packet, const InnerHeader& header, bool reserved = false) noexcept {
  return header.IsV6() ? IsUnicastIpv6(packet + kIpv6Destination) : IsUnicast(header.destination, reserved);
}

// HOT
// Whether two packets are between the same two hosts.
inline bool SameHosts(const uint8_t* a, const InnerHeader& of_a, const uint8_t* b, const InnerHeader& of_b) noexcept {
  if (of_a.source != of_b.source || of_a.destination != of_b.destination || of_a.version != of_b.version) return false;
  return !of_a.IsV6() || std::memcmp(a + kIpv6Source, b + kIpv6Source, 32) == 0;
}

// `packet` was parsed into `header`.
inline Address SourceOf(const uint8_t* packet, const InnerHeader& header) noexcept {
  return LoadAddress(packet + (header.IsV6() ? kIpv6Source : kIpv4Source), header.IsV6());
}
inline Address DestinationOf(const uint8_t* packet, const InnerHeader& header) noexcept {
  return LoadAddress(packet + (header.IsV6() ? kIpv6Destination : kIpv4Source + 4), header.IsV6());
}

// Whether a packet of `length` bytes that a path does not take is refused, and its sender told. An IPv6 packet that no
// path may refuse goes out in fragments of its datagram instead, as one of IPv4 without DF does.
inline bool RefusedWhenTooBig(const uint8_t* packet, uint32_t length) noexcept {
  if (packet[0] >> 4 == 6) return length > kMinIpv6Mtu;
  return (LoadBe16(packet + kIpv4Fragment) & kDontFragment) != 0;
}

// HOT
// Lowers TTL or hop limit by one. It must not be 0.
inline void DecrementTtl(uint8_t* packet) noexcept {
  if (packet[0] >> 4 == 6) {
    packet[kIpv6HopLimit]--;
  } else {
    DecrementIpv4Ttl(packet);
  }
}

// HOT
// Writes the length of the whole packet, without the checksum of an IPv4 header.
inline void WriteTotalLength(uint8_t* packet, bool is_v6, uint32_t total_length) noexcept {
  StoreBe16(packet + (is_v6 ? kIpv6PayloadLength : kIpv4TotalLength),
            is_v6 ? total_length - static_cast<uint32_t>(kIpv6Header) : total_length);
}

// HOT
// Pseudo header of TCP, UDP and ICMPv6 without its length (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1).
inline uint64_t PseudoSum(const uint8_t* packet, bool is_v6, uint8_t protocol) noexcept {
  uint8_t word[2] = {0, protocol};
  return (is_v6 ? Sum(packet + kIpv6Source, 32) : Sum(packet + kIpv4Source, 8)) + LoadWord(word);
}

// Whether the checksum of the header is right. IPv6 has none.
inline bool HeaderChecksumValid(const uint8_t* packet, const InnerHeader& header) noexcept {
  return header.IsV6() || Fold(Sum(packet, header.header_length)) == 0xffff;
}

// Where the checksum of an unfragmented TCP or UDP packet is, from the transport header on; 0 when there is none.
inline size_t TransportChecksumOffset(const InnerHeader& header) noexcept {
  const size_t length = header.total_length - size_t{header.header_length};
  if (header.IsFragment()) return 0;
  if (header.protocol == kProtocolTcp) return length < 20 ? 0 : kTcpCsumOffset;
  return header.protocol == kProtocolUdp && length >= kUdpHeader ? kUdpCsumOffset : 0;
}

// HOT
// Whether that checksum is the sum of the pseudo header alone, not inverted: the kernel left the rest to a card, and a
// lane brought the packet here without one (CHECKSUM_PARTIAL of linux/skbuff.h). A whole checksum looks like that once
// in 65,536 times, and is the same when it is computed anew.
inline bool IsChecksumPartial(const uint8_t* packet, const InnerHeader& header) noexcept {
  const size_t offset = TransportChecksumOffset(header);
  if (offset == 0 || header.has_route) return false;
  const uint32_t length = header.total_length - uint32_t{header.header_length};
  return LoadWord(packet + header.header_length + offset) ==
         Fold(PseudoSum(packet, header.IsV6(), header.protocol) + Be16AsSum(length));
}

// HOT
// Whether the TCP or UDP checksum of an unfragmented packet is right. `header` was parsed from `packet`.
inline bool TransportChecksumValid(const uint8_t* packet, const InnerHeader& header) noexcept {
  const size_t length = header.total_length - header.header_length;
  const uint64_t sum = PseudoSum(packet, header.IsV6(), header.protocol) + Be16AsSum(static_cast<uint32_t>(length)) +
                       Sum(packet + header.header_length, length);
  return Fold(sum) == 0xffff;
}

}  // namespace twill
