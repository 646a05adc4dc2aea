// The TUN device: opening its queues and asking the kernel for offloads (Linux Documentation/networking/tuntap.rst).
#pragma once

#include <cstdint>
#include <string>

#include "kernel/failure.h"
#include "kernel/unique_fd.h"

namespace twill {

// Bits of TUNSETOFFLOAD. USO needs Linux 6.2 and is missing from older headers.
inline constexpr unsigned kTunCsum = 0x01;
inline constexpr unsigned kTunTso4 = 0x02;
inline constexpr unsigned kTunTso6 = 0x04;
inline constexpr unsigned kTunTsoEcn = 0x08;
inline constexpr unsigned kTunUso4 = 0x20;
inline constexpr unsigned kTunUso6 = 0x40;

// Opens one queue of `name`, non-blocking, persistent, with a virtio_net_hdr of 10 bytes. Every queue of a device must
// be opened with the same `multi_queue`.
Result<UniqueFd> OpenTun(const std::string& name, bool multi_queue) noexcept;

// The queue that `fd` is, under a number of its own, when it is one as OpenTun(name, multi_queue) makes them, of this
// network namespace; else ESTALE. What waits in it is still there.
Result<UniqueFd> AdoptTun(int fd, const std::string& name, bool multi_queue) noexcept;

// The largest set of the wanted offload bits that the device takes, down to none; without any wanted it is asked for
// none, so that an adopted device forgets those of an earlier run.
unsigned GrantTunOffloads(int fd, bool tso, bool uso) noexcept;

// Removes the persistence, so that the device goes when its last queue closes. 0 or -errno.
int ForgetTun(int fd) noexcept;

}  // namespace twill
