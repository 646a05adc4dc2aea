// The hash of what packets are remembered by: flows, trains, peers, hosts that were answered.
#pragma once

#include <cstdint>

namespace twill {

// Mixes two words; the low bits of the result are as good as any. Fibonacci hashing: 2^64 divided by the golden ratio.
inline uint32_t Mix(uint32_t a, uint32_t b) noexcept {
  const uint64_t x = (static_cast<uint64_t>(a) << 32 | b) * 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>(x >> 32) ^ static_cast<uint32_t>(x >> 11);
}

}  // namespace twill
