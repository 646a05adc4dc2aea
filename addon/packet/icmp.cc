#include "packet/icmp.h"

#include <algorithm>

#include "packet/hash.h"

namespace twill {

namespace {

constexpr size_t kIcmpHeader = 8;
constexpr uint8_t kErrorTtl = 64;

// RFC 1122 section 3.2.2: destination unreachable, source quench, redirect, time exceeded, parameter problem.
bool IsIcmpError(uint8_t type) noexcept { return type == 3 || type == 4 || type == 5 || type == 11 || type == 12; }

}  // namespace

bool MayAnswer(const uint8_t* packet, size_t received, const Ipv4Header& header, uint32_t broadcast,
               bool reserved) noexcept {
  if (header.IsLaterFragment()) return false;
  if (!IsUnicast(header.source, reserved) || !IsUnicast(header.destination, reserved)) return false;
  if (header.destination == broadcast || header.source == broadcast) return false;
  if (header.protocol != kProtocolIcmp) return true;
  return received > header.header_length && !IsIcmpError(packet[header.header_length]);
}

size_t BuildIcmpError(uint8_t* to, const IcmpError& error, const uint8_t* packet, size_t length,
                      const Ipv4Header& header) noexcept {
  const size_t quoted = std::min(length, kMaxIcmpError - kMinIpHeader - kIcmpHeader);
  const size_t total = kMinIpHeader + kIcmpHeader + quoted;
  std::memset(to, 0, kMinIpHeader + kIcmpHeader);
  to[0] = 0x45;
  StoreBe16(to + 2, static_cast<uint32_t>(total));
  to[8] = kErrorTtl;
  to[9] = kProtocolIcmp;
  StoreBe32(to + 12, error.source);
  StoreBe32(to + 16, header.source);
  WriteIpChecksum(to, kMinIpHeader);

  uint8_t* icmp = to + kMinIpHeader;
  icmp[0] = error.type;
  icmp[1] = error.code;
  StoreBe16(icmp + 6, error.mtu);
  uint8_t* quote = icmp + kIcmpHeader;
  std::memcpy(quote, packet, quoted);
  if (header.total_length != length) {
    // The first packet of a superpacket, as splitting makes it: it states its own length wherever it states one, and
    // what TCP says of the end is the last packet's.
    StoreBe16(quote + 2, static_cast<uint32_t>(length));
    WriteIpChecksum(quote, header.header_length);
    uint8_t* transport = quote + header.header_length;
    if (header.protocol == kProtocolUdp && quoted >= header.header_length + kUdpHeader) {
      StoreBe16(transport + 4, static_cast<uint32_t>(length - header.header_length));
    } else if (header.protocol == kProtocolTcp && quoted >= header.header_length + 20u) {
      transport[13] &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
    }
  }
  StoreWord(icmp + 2, Finish(Sum(icmp, kIcmpHeader + quoted)));
  return total;
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
  if (host.address != to) host = {to, kHostBurst * 1000, now_ms};
  return Take(&host, kHostRate, kHostBurst, now_ms) && Take(&all_, kRate, kBurst, now_ms);
}

}  // namespace twill
