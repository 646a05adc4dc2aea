#include "packet/checksum.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace twill {

namespace {

// The tail of fewer than 8 bytes, shared by every version.
inline uint64_t SumTail(const uint8_t* data, size_t length) noexcept {
  uint64_t sum = 0;
  if (length & 4) {
    uint32_t word;
    std::memcpy(&word, data, 4);
    sum += word;
    data += 4;
  }
  if (length & 2) {
    sum += LoadWord(data);
    data += 2;
  }
  if (length & 1) {
    const uint8_t padded[2] = {*data, 0};
    sum += LoadWord(padded);
  }
  return sum;
}

#if defined(__x86_64__)

// Four 64-bit accumulators of zero-extended 32-bit words: 2^32 words fit before one can overflow.
__attribute__((target("avx2"))) inline uint64_t AddLanes(__m256i sum) noexcept {
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
  uint64_t total = 0;
  for (uint64_t lane : lanes) total += (lane & 0xffffffff) + (lane >> 32);
  return total;
}

template <bool kCopy>
__attribute__((target("avx2"))) inline uint64_t SumAvx2(uint8_t* to, const uint8_t* from, size_t length) noexcept {
  const __m256i low = _mm256_set1_epi64x(0xffffffff);
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  size_t at = 0;
  for (; at + 64 <= length; at += 64) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at));
    const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at + 32));
    if constexpr (kCopy) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), x);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at + 32), y);
    }
    a = _mm256_add_epi64(a, _mm256_and_si256(x, low));
    b = _mm256_add_epi64(b, _mm256_srli_epi64(x, 32));
    c = _mm256_add_epi64(c, _mm256_and_si256(y, low));
    d = _mm256_add_epi64(d, _mm256_srli_epi64(y, 32));
  }
  uint64_t sum = AddLanes(_mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d)));
  for (; at + 8 <= length; at += 8) {
    uint64_t word;
    std::memcpy(&word, from + at, 8);
    if constexpr (kCopy) std::memcpy(to + at, &word, 8);
    sum += (word & 0xffffffff) + (word >> 32);
  }
  if constexpr (kCopy) std::memcpy(to + at, from + at, length - at);
  return sum + SumTail(from + at, length - at);
}

__attribute__((target("avx2"))) uint64_t SumAvx2Only(const uint8_t* data, size_t length) noexcept {
  return SumAvx2<false>(nullptr, data, length);
}

__attribute__((target("avx2"))) uint64_t CopyAndSumAvx2(uint8_t* to, const uint8_t* from, size_t length) noexcept {
  return SumAvx2<true>(to, from, length);
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;

#endif

}  // namespace

uint64_t SumPortable(const uint8_t* data, size_t length) noexcept {
  uint64_t sum = 0;
  size_t at = 0;
  for (; at + 8 <= length; at += 8) {
    uint64_t word;
    std::memcpy(&word, data + at, 8);
    sum += (word & 0xffffffff) + (word >> 32);
  }
  return sum + SumTail(data + at, length - at);
}

uint64_t CopyAndSumPortable(uint8_t* to, const uint8_t* from, size_t length) noexcept {
  std::memcpy(to, from, length);
  return SumPortable(to, length);
}

uint64_t Sum(const uint8_t* data, size_t length) noexcept {
#if defined(__x86_64__)
  if (kHasAvx2) return SumAvx2Only(data, length);
#endif
  return SumPortable(data, length);
}

uint64_t CopyAndSum(uint8_t* to, const uint8_t* from, size_t length) noexcept {
#if defined(__x86_64__)
  if (kHasAvx2) return CopyAndSumAvx2(to, from, length);
#endif
  return CopyAndSumPortable(to, from, length);
}

const char* ChecksumVariant() noexcept {
#if defined(__x86_64__)
  if (kHasAvx2) return "avx2";
#endif
  return "portable";
}

}  // namespace twill
