#include "packet/icmp.h"

#include <algorithm>

#include "packet/hash.h"

namespace twill {

namespace {

constexpr size_t kIcmpHeader = 8;
constexpr uint8_t kErrorTtl = 64;
constexpr size_t kIcmpMtu = 4;  // the low half of this word is all that RFC 1191 has of it

struct TypeAndCode {
  uint8_t type;
  uint8_t code;
};
// By IcmpCause.
constexpr TypeAndCode kIcmpTypes[] = {{kIcmpUnreachable, kIcmpCodeNetwork},
                                      {kIcmpUnreachable, kIcmpCodeFragmentationNeeded},
                                      {kIcmpTimeExceeded, kIcmpCodeTtl}};
constexpr TypeAndCode kIcmpV6Types[] = {{kIcmpV6Unreachable, 0}, {kIcmpV6TooBig, 0}, {kIcmpV6TimeExceeded, 0}};

// RFC 1122 section 3.2.2: destination unreachable, source quench, redirect, time exceeded, parameter problem.
bool IsIcmpError(uint8_t type) noexcept { return type == 3 || type == 4 || type == 5 || type == 11 || type == 12; }

// RFC 4443 section 2.1, and redirect.
bool IsIcmpV6Error(uint8_t type) noexcept { return type < 128 || type == 137; }

// The first packet of a superpacket, as splitting makes it: it states its own length wherever it states one, and what
// TCP says of the end is the last packet's. `quoted` bytes of it are there.
void QuoteFirstPacket(uint8_t* quote, size_t quoted, size_t length, const InnerHeader& header) noexcept {
  WriteTotalLength(quote, header.IsV6(), static_cast<uint32_t>(length));
  if (!header.IsV6()) WriteIpChecksum(quote, header.header_length);
  uint8_t* transport = quote + header.header_length;
  if (header.protocol == kProtocolUdp && quoted >= header.header_length + kUdpHeader) {
    StoreBe16(transport + 4, static_cast<uint32_t>(length - header.header_length));
  } else if (header.protocol == kProtocolTcp && quoted >= header.header_length + 20u) {
    transport[13] &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
  }
}

}  // namespace

bool MayAnswer(const uint8_t* packet, size_t received, const InnerHeader& header, uint32_t broadcast,
               bool reserved) noexcept {
  if (header.IsLaterFragment()) return false;
  if (!SourceIsUnicast(packet, header, reserved) || !DestinationIsUnicast(packet, header, reserved)) return false;
  if (!header.IsV6() && (header.destination == broadcast || header.source == broadcast)) return false;
  if (header.protocol != (header.IsV6() ? kProtocolIcmpV6 : kProtocolIcmp)) return true;
  if (received <= header.header_length) return false;
  const uint8_t type = packet[header.header_length];
  return !(header.IsV6() ? IsIcmpV6Error(type) : IsIcmpError(type));
}

size_t BuildIcmpError(uint8_t* to, const IcmpError& error, const uint8_t* packet, size_t length,
                      const InnerHeader& header) noexcept {
  const bool is_v6 = header.IsV6();
  const size_t ip_length = is_v6 ? kIpv6Header : kMinIpHeader;
  const size_t most = std::min(error.most, is_v6 ? kMaxIcmpV6Error : kMaxIcmpError);
  const size_t quoted = std::min(length, most - ip_length - kIcmpHeader);
  const size_t icmp_length = kIcmpHeader + quoted;
  std::memset(to, 0, ip_length + kIcmpHeader);
  WriteTotalLength(to, is_v6, static_cast<uint32_t>(ip_length + icmp_length));
  if (is_v6) {
    to[0] = 0x60;
    to[kIpv6NextHeader] = kProtocolIcmpV6;
    to[kIpv6HopLimit] = kErrorTtl;
    StoreAddress(to + kIpv6Source, error.source, true);
    std::memcpy(to + kIpv6Destination, packet + kIpv6Source, 16);
  } else {
    to[0] = 0x45;
    to[8] = kErrorTtl;
    to[9] = kProtocolIcmp;
    StoreAddress(to + kIpv4Source, error.source, false);
    std::memcpy(to + kIpv4Source + 4, packet + kIpv4Source, 4);
    WriteIpChecksum(to, kMinIpHeader);
  }

  uint8_t* icmp = to + ip_length;
  const TypeAndCode& type = (is_v6 ? kIcmpV6Types : kIcmpTypes)[static_cast<size_t>(error.cause)];
  icmp[0] = type.type;
  icmp[1] = type.code;
  const bool is_below_least = is_v6 && error.cause == IcmpCause::kTooBig && error.mtu < kMinIpv6Mtu;
  StoreBe32(icmp + kIcmpMtu, is_below_least ? kMinIpv6Mtu : error.mtu);
  std::memcpy(icmp + kIcmpHeader, packet, quoted);
  if (header.total_length != length) QuoteFirstPacket(icmp + kIcmpHeader, quoted, length, header);
  uint64_t sum = Sum(icmp, icmp_length);
  if (is_v6) sum += PseudoSum(to, true, kProtocolIcmpV6) + Be16AsSum(static_cast<uint32_t>(icmp_length));
  StoreWord(icmp + 2, Finish(sum));
  return ip_length + icmp_length;
}

bool IcmpLimiter::Take(Bucket* bucket, uint32_t per_second, uint32_t burst, uint64_t now_ms) noexcept {
  const uint64_t elapsed = std::min<uint64_t>(now_ms - bucket->refilled_ms, 60'000);
  const uint64_t filled = bucket->millitokens + elapsed * per_second;
  bucket->millitokens = static_cast<uint32_t>(std::min<uint64_t>(filled, burst * 1000ull));
  bucket->refilled_ms = now_ms;
  if (bucket->millitokens < 1000) return false;
  bucket->millitokens -= 1000;
  return true;
}

bool IcmpLimiter::Allow(uint32_t to, uint64_t now_ms) noexcept {
  static constexpr uint32_t kHostRate = 20, kHostBurst = 5, kRate = 1000, kBurst = 50;
  Bucket& host = hosts_[Mix(to, 0) % kSlots];
  if (host.address != to) host = {to, 0, since_ms_};
  return Take(&host, kHostRate, kHostBurst, now_ms) && Take(&all_, kRate, kBurst, now_ms);
}

}  // namespace twill
