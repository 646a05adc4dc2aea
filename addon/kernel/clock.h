// The clock of everything that is timed: refusals that are remembered, ICMP rates, the looks at the TUN's queue.
#pragma once

#include <time.h>

#include <cstdint>

namespace twill {

// Milliseconds since some moment. Coarse (1 to 10 ms, man clock_gettime), for it is read once a batch and costs no
// system call.
inline uint64_t MonotonicMs() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

// The kernel's own clock for BPF programs and packets, exact.
inline uint64_t MonotonicNs() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace twill
