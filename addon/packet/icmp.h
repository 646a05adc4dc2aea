// ICMP errors about inner packets: whether one may be sent at all, how often, and how it looks (RFC 792, RFC 1122
// section 3.2.2, RFC 1191, RFC 1812 section 4.3.2; for IPv6, RFC 4443).
#pragma once

#include <array>
#include <cstdint>

#include "packet/address.h"
#include "packet/inner.h"

namespace twill {

inline constexpr uint8_t kIcmpUnreachable = 3;
inline constexpr uint8_t kIcmpTimeExceeded = 11;
inline constexpr uint8_t kIcmpCodeNetwork = 0;
inline constexpr uint8_t kIcmpCodeFragmentationNeeded = 4;
inline constexpr uint8_t kIcmpCodeTtl = 0;

inline constexpr uint8_t kIcmpV6Unreachable = 1;
inline constexpr uint8_t kIcmpV6TooBig = 2;
inline constexpr uint8_t kIcmpV6TimeExceeded = 3;

enum class IcmpCause : uint8_t {
  kNoRoute,       // network unreachable; no route to destination
  kTooBig,        // fragmentation needed; packet too big
  kTimeExceeded,  // in transit
};

inline constexpr size_t kMaxIcmpError = 576;            // RFC 1812 section 4.3.2.3
inline constexpr size_t kMaxIcmpV6Error = kMinIpv6Mtu;  // RFC 4443 section 2.4 (c)
// Of an error that is sent into the tunnel: over IPv6 it fits every path, behind 48 bytes of headers outside.
inline constexpr size_t kMaxTunnelledError = kMinIpv6Mtu - 48;

struct IcmpError {
  IcmpCause cause;
  uint16_t mtu;    // next-hop MTU when too big, else 0. For IPv6 never told below kMinIpv6Mtu
  Address source;  // of the error
  size_t most = kMaxIcmpV6Error;  // bytes, where its family allows more
};

// Never about an ICMP error, an ICMPv6 redirect, a later fragment, or a packet that was not sent from one host to one
// host. `received` bytes of the packet are in the buffer.
bool MayAnswer(const uint8_t* packet, size_t received, const InnerHeader& header, uint32_t broadcast,
               bool reserved = false) noexcept;

// Writes the error to `to`, which has room for kMaxIcmpError or kMaxIcmpV6Error bytes, and returns its length. Quotes
// the packet as it was received, at most up to `length`. That is the length of the first packet when it is a
// superpacket, which is quoted as that packet; its transport checksum, not complete at that point, is not made up.
size_t BuildIcmpError(uint8_t* to, const IcmpError& error, const uint8_t* packet, size_t length,
                      const InnerHeader& header) noexcept;

// At most 1,000 errors a second, and 20 a second with a burst of 5 to one host. Owned by one thread. One that goes on
// for another, whose budgets are not known, begins empty: nobody is told more often for it.
class IcmpLimiter {
 public:
  explicit IcmpLimiter(bool begins_empty = false) noexcept : since_ms_(begins_empty ? kNotYet : 0) {}
  // With each batch: budgets that began empty fill from the first of these calls on.
  void Look(uint64_t now_ms) noexcept {
    if (since_ms_ != kNotYet) return;
    since_ms_ = now_ms;
    all_.refilled_ms = now_ms;
  }
  // `to` is the source of an InnerHeader. IPv6 hosts for which it is the same share their errors.
  bool Allow(uint32_t to, uint64_t now_ms) noexcept;

 private:
  struct Bucket {
    uint32_t address;
    uint32_t millitokens;
    uint64_t refilled_ms;
  };
  static bool Take(Bucket* bucket, uint32_t per_second, uint32_t burst, uint64_t now_ms) noexcept;

  static constexpr uint64_t kNotYet = ~0ull;
  static constexpr uint32_t kSlots = 1024;
  uint64_t since_ms_;
  std::array<Bucket, kSlots> hosts_{};
  Bucket all_{};
};

}  // namespace twill
