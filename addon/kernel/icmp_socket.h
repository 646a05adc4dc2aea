// The raw ICMP socket of the path probes: opened, told what probes wait for, written, and read in batches.
//
// What an echo is, and whose answer it is, TypeScript knows (src/probe). Nothing here waits: the socket does not block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/unique_fd.h"

namespace twill {

inline constexpr size_t kMaxIcmpBytes = 65535;  // with the IPv4 header, which a raw socket gives (RFC 791, raw(7))

// Opens it for echo replies and unreachables only, so that nobody's pings wake us. Packets leave with DF, whatever the
// kernel believes of the path. `error` gets 0 or -errno, -EPERM without CAP_NET_RAW; the descriptor is invalid then.
UniqueFd OpenIcmp(int32_t* error) noexcept;

// Sends one ICMP message, without its IPv4 header, to `to` (host order). 0 or -errno; -EMSGSIZE when the interface does
// not take the size.
int32_t SendIcmp(int fd, uint32_t to, const uint8_t* message, size_t length) noexcept;

// Packets received, one behind the other in `buffer`, at most `count`: the i-th ends at ends[i]. It stops where one of
// kMaxIcmpBytes might not fit, so `capacity` must be that at least. Returns how many, 0 for none, or -errno.
int32_t ReceiveIcmp(int fd, uint8_t* buffer, size_t capacity, uint32_t* ends, size_t count) noexcept;

}  // namespace twill
