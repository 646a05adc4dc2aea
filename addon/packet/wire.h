// What lies in a buffer of packets: words in network order, numbers of protocols, flags, the header of a TUN device.
#pragma once

#include <cstddef>
#include <cstdint>

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
inline constexpr uint8_t kVnetGsoTcpV6 = 4;
inline constexpr uint8_t kVnetGsoUdpL4 = 5;
inline constexpr uint8_t kVnetGsoEcn = 0x80;

inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolDccp = 33;
inline constexpr uint8_t kProtocolIcmpV6 = 58;
inline constexpr uint8_t kProtocolSctp = 132;
inline constexpr uint8_t kProtocolUdpLite = 136;

inline constexpr size_t kMaxPacket = 65535;  // IPv4 total length is 16 bits; no longer packet of IPv6 is carried either
inline constexpr size_t kMinIpHeader = 20;   // of IPv4
inline constexpr size_t kIpv6Header = 40;    // RFC 8200 section 3
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

inline uint64_t Be16AsSum(uint32_t value) noexcept {
  uint8_t word[2];
  StoreBe16(word, value);
  return LoadWord(word);
}

}  // namespace twill
