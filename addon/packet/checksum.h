// The Internet checksum (RFC 1071): sums of 16-bit words in memory order, whose folding does not depend on endianness.
//
// A sum is carried as an unfolded uint64_t and folded once at the end. `Sum` and `CopyAndSum` pick an AVX2 version at
// run time on x86-64; both versions give the same folded result for the same bytes. A range with an odd length counts
// its last byte as the first byte of a word, so partial sums may only be added when every part but the last is even.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace twill {

// Sum of `length` bytes.
uint64_t Sum(const uint8_t* data, size_t length) noexcept;

// Copies and sums in one pass; the ranges do not overlap.
uint64_t CopyAndSum(uint8_t* to, const uint8_t* from, size_t length) noexcept;

// The portable versions, exported for tests and for the benchmark.
uint64_t SumPortable(const uint8_t* data, size_t length) noexcept;
uint64_t CopyAndSumPortable(uint8_t* to, const uint8_t* from, size_t length) noexcept;

// "avx2" or "portable": what this machine uses.
const char* ChecksumVariant() noexcept;

inline uint16_t Fold(uint64_t sum) noexcept {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>((sum & 0xffff) + (sum >> 16));
}

// The value for a checksum field.
inline uint16_t Finish(uint64_t sum) noexcept { return static_cast<uint16_t>(~Fold(sum)); }

// One 16-bit word as it lies in memory.
inline uint16_t LoadWord(const uint8_t* at) noexcept {
  uint16_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}
inline void StoreWord(uint8_t* at, uint16_t word) noexcept { std::memcpy(at, &word, sizeof word); }

}  // namespace twill
