// IPv4, TCP and UDP headers as they lie in a buffer: reading, checking, and the two in-place changes a router makes.
//
// Nothing here trusts a length: ParseIpv4 is called before any other function looks at the bytes, and what it accepts
// (RFC 791 section 3.1) can be read without passing the end. The header checksum is only updated (RFC 1624), because
// the kernel verifies it for every packet written to the TUN; where it is computed anew instead, for a superpacket that
// is merged of several packets, theirs are verified first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "packet/checksum.h"

namespace twill {

// struct virtio_net_hdr, 10 bytes, host byte order (virtio 1.2 section 5.1.6). Defined here because
// linux/virtio_net.h does not compile as C++ with recent headers, and older ones lack the UDP_L4 type.
struct VnetHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};
static_assert(sizeof(VnetHeader) == 10);

inline constexpr uint8_t kVnetNeedsCsum = 1;
inline constexpr uint8_t kVnetGsoNone = 0;
inline constexpr uint8_t kVnetGsoTcpV4 = 1;
inline constexpr uint8_t kVnetGsoUdpL4 = 5;
inline constexpr uint8_t kVnetGsoEcn = 0x80;

inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolDccp = 33;
inline constexpr uint8_t kProtocolSctp = 132;
inline constexpr uint8_t kProtocolUdpLite = 136;

inline constexpr size_t kMaxPacket = 65535;   // IPv4 total length is 16 bits
inline constexpr size_t kMinIpHeader = 20;
inline constexpr size_t kUdpHeader = 8;
inline constexpr size_t kTcpCsumOffset = 16;
inline constexpr size_t kUdpCsumOffset = 6;

inline constexpr uint8_t kTcpFin = 0x01;
inline constexpr uint8_t kTcpSyn = 0x02;
inline constexpr uint8_t kTcpRst = 0x04;
inline constexpr uint8_t kTcpPsh = 0x08;
inline constexpr uint8_t kTcpAck = 0x10;
inline constexpr uint8_t kTcpUrg = 0x20;
inline constexpr uint8_t kTcpEce = 0x40;
inline constexpr uint8_t kTcpCwr = 0x80;

inline constexpr uint16_t kDontFragment = 0x4000;
inline constexpr uint16_t kMoreFragments = 0x2000;
inline constexpr uint16_t kFragmentOffset = 0x1fff;

inline uint16_t LoadBe16(const uint8_t* at) noexcept { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
inline uint32_t LoadBe32(const uint8_t* at) noexcept {
  return static_cast<uint32_t>(at[0]) << 24 | static_cast<uint32_t>(at[1]) << 16 | static_cast<uint32_t>(at[2]) << 8 |
         at[3];
}
inline void StoreBe16(uint8_t* at, uint32_t value) noexcept {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
inline void StoreBe32(uint8_t* at, uint32_t value) noexcept {
  StoreBe16(at, value >> 16);
  StoreBe16(at + 2, value);
}

// A header that was read; every field in host order.
struct Ipv4Header {
  uint32_t source;
  uint32_t destination;
  uint16_t total_length;
  uint16_t header_length;
  uint16_t id;
  uint16_t fragment;  // flags and offset
  uint8_t tos;
  uint8_t ttl;
  uint8_t protocol;

  bool IsFragment() const noexcept { return (fragment & (kMoreFragments | kFragmentOffset)) != 0; }
  bool IsLaterFragment() const noexcept { return (fragment & kFragmentOffset) != 0; }
  bool DontFragment() const noexcept { return (fragment & kDontFragment) != 0; }
};

enum class HeaderFault : uint8_t {
  kNone,
  kShort,
  kVersion,
  kHeaderLength,
  kTotalLength,
  kOptions,
  kFragmentOverflow,
  kTtlZero,
  kMartianSource,
  kMartianDestination,
};

// Reads the header of a packet of `length` bytes. On kNone, total_length <= length and header_length <= total_length.
HeaderFault ParseIpv4(const uint8_t* packet, size_t length, Ipv4Header* header) noexcept;

// What may be let in besides.
struct ReceivedRules {
  bool reserved = false;     // as in IsUnicast
  bool any_option = false;   // also options that are not harmless
};

// The further conditions for a packet that came from another host, in the order of the members of HeaderFault.
HeaderFault CheckReceived(const uint8_t* packet, const Ipv4Header& header, ReceivedRules rules = {}) noexcept;

// Whether no option of the header routes or records, and each ends inside it. Options that nobody knows are harmless:
// a router passes them on (RFC 1812 section 4.2.2.6), and hosts use some among themselves.
bool OptionsAreHarmless(const uint8_t* packet, const Ipv4Header& header) noexcept;

// Whether an address can be the source or destination of a unicast packet between hosts. The reserved range 240/4
// counts only with `reserved`, when the overlay Network lies there. The network config refuses the other ranges.
inline bool IsUnicast(uint32_t address, bool reserved = false) noexcept {
  const uint32_t first = address >> 24;
  return first != 0 && first != 127 && (first < 224 || (reserved && first >= 240 && address != 0xffffffff));
}

// One step of RFC 1624 for the high byte of the TTL and protocol word. The TTL must not be 0.
inline void DecrementTtl(uint8_t* packet) noexcept {
  packet[8]--;
  const uint32_t sum = LoadBe16(packet + 10) + 0x0100u;
  StoreBe16(packet + 10, sum + (sum >= 0xffff ? 1 : 0));
}

inline void WriteIpChecksum(uint8_t* packet, size_t header_length) noexcept {
  StoreWord(packet + 10, 0);
  StoreWord(packet + 10, Finish(Sum(packet, header_length)));
}

// Pseudo header of TCP and UDP without its length (RFC 9293 section 3.1, RFC 768).
inline uint64_t PseudoSum(const uint8_t* packet, uint8_t protocol) noexcept {
  uint8_t word[2] = {0, protocol};
  return Sum(packet + 12, 8) + LoadWord(word);
}

inline uint64_t Be16AsSum(uint32_t value) noexcept {
  uint8_t word[2];
  StoreBe16(word, value);
  return LoadWord(word);
}

// Whether the checksum of the IPv4 header is right.
inline bool HeaderChecksumValid(const uint8_t* packet, const Ipv4Header& header) noexcept {
  return Fold(Sum(packet, header.header_length)) == 0xffff;
}

// Where the checksum of an unfragmented TCP or UDP packet is, from the transport header on; 0 when there is none.
inline size_t TransportChecksumOffset(const Ipv4Header& header) noexcept {
  const size_t length = header.total_length - size_t{header.header_length};
  if (header.IsFragment()) return 0;
  if (header.protocol == kProtocolTcp) return length < 20 ? 0 : kTcpCsumOffset;
  return header.protocol == kProtocolUdp && length >= kUdpHeader ? kUdpCsumOffset : 0;
}

// Whether that checksum is the sum of the pseudo header alone, not inverted: the kernel left the rest to a card, and a
// lane brought the packet here without one (CHECKSUM_PARTIAL of linux/skbuff.h). A whole checksum looks like that once
// in 65,536 times, and is the same when it is computed anew.
inline bool IsChecksumPartial(const uint8_t* packet, const Ipv4Header& header) noexcept {
  const size_t offset = TransportChecksumOffset(header);
  if (offset == 0) return false;
  const uint32_t length = header.total_length - uint32_t{header.header_length};
  return LoadWord(packet + header.header_length + offset) ==
         Fold(PseudoSum(packet, header.protocol) + Be16AsSum(length));
}

// Whether the TCP or UDP checksum of an unfragmented packet is right. `header` was parsed from `packet`.
bool TransportChecksumValid(const uint8_t* packet, const Ipv4Header& header) noexcept;

}  // namespace twill
