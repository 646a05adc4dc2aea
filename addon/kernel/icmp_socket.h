// The raw ICMP socket of the path probes: opened, told what probes wait for, written, and read in batches.
//
// What an echo is, and whose answer it is, TypeScript knows (src/probe). Nothing here waits: the socket does not block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/unique_fd.h"

namespace twill {

inline constexpr size_t kMaxIcmpBytes = 65535;  // with the IPv4 header, which a raw socket gives (RFC 791, raw(7))

// Opens it, for ICMPv6 when `wide`: for echo replies, unreachables and "packet too big" only, so that nobody's pings
// wake us. Packets leave with DF, or are not cut here, whatever the kernel believes of the path. `error` gets 0 or
// -errno, -EPERM without CAP_NET_RAW; the descriptor is invalid then.
UniqueFd OpenIcmp(bool wide, int32_t* error) noexcept;

// Sends one ICMP message, without its IPv4 header, to `to` (host order). 0 or -errno; -EMSGSIZE when the interface does
// not take the size.
int32_t SendIcmp(int fd, uint32_t to, const uint8_t* message, size_t length) noexcept;

// As SendIcmp(), one ICMPv6 message, whose checksum the kernel fills in, to an address of four words (host order).
int32_t SendIcmp6(int fd, const uint32_t (&to)[4], const uint8_t* message, size_t length) noexcept;

// Packets received, one behind the other in `buffer`, at most `count`: the i-th ends at ends[i]. It stops where one of
// kMaxIcmpBytes might not fit, so `capacity` must be that at least. Returns how many, 0 for none, or -errno.
//
// Of IPv6 the kernel gives no header (RFC 3542 section 3), and has verified the checksum: when `wide`, the 16 bytes of
// the source stand before each message.
int32_t ReceiveIcmp(int fd, uint8_t* buffer, size_t capacity, uint32_t* ends, size_t count,
                    bool wide = false) noexcept;

}  // namespace twill
