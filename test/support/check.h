// The least a C++ test needs: numbered TAP lines, a seeded generator, and a checksum that is slow on purpose.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace test {

inline int failures = 0;
inline int cases = 0;

// Ends the case at once: what follows would only repeat the failure.
struct Failed {};

#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) {                                                          \
      std::printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #condition);    \
      throw test::Failed{};                                                      \
    }                                                                            \
  } while (false)

#define CHECK_EQUAL(actual, expected)                                                                   \
  do {                                                                                                  \
    const long long a_ = static_cast<long long>(actual), e_ = static_cast<long long>(expected);         \
    if (a_ != e_) {                                                                                     \
      std::printf("# %s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #actual, a_, e_);         \
      throw test::Failed{};                                                                             \
    }                                                                                                   \
  } while (false)

inline void Case(const char* name, const std::function<void()>& body) {
  cases++;
  bool good = true;
  try {
    body();
  } catch (const Failed&) {
    good = false;
    failures++;
  }
  std::printf("%sok %d - %s\n", good ? "" : "not ", cases, name);
  std::fflush(stdout);
}

inline int Finish() {
  std::printf("1..%d\n", cases);
  return failures == 0 ? 0 : 1;
}

// The seed is fixed, so that a failure can be repeated.
class Random {
 public:
  explicit Random(uint32_t seed = 1) : engine_(seed) {}
  // 0 to limit - 1.
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(engine_() % limit); }
  uint32_t Between(uint32_t low, uint32_t high) { return low + Below(high - low + 1); }
  bool OneIn(uint32_t n) { return Below(n) == 0; }
  uint32_t Word() { return static_cast<uint32_t>(engine_()); }
  void Fill(uint8_t* to, size_t length) {
    for (size_t i = 0; i < length; i++) to[i] = static_cast<uint8_t>(engine_());
  }

 private:
  std::mt19937_64 engine_;
};

// RFC 1071, one byte after the other: 0 when the range includes a right checksum.
inline uint16_t SlowChecksum(const uint8_t* data, size_t length, uint32_t start = 0) {
  uint64_t sum = start;
  for (size_t i = 0; i < length; i++) sum += i % 2 == 0 ? static_cast<uint32_t>(data[i]) << 8 : data[i];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

inline bool IsV6(const uint8_t* ip) { return ip[0] >> 4 == 6; }

// Where the transport header of a right packet begins, what it is of, and whether the packet is a fragment.
struct Transport {
  size_t at;
  uint8_t protocol;
  bool fragment;
};

inline Transport TransportOf(const uint8_t* ip) {
  if (!IsV6(ip)) return {(ip[0] & 15) * 4u, ip[9], ((ip[6] & 0x3f) | ip[7]) != 0};
  Transport transport = {40, ip[6], false};
  for (;;) {
    const uint8_t* header = ip + transport.at;
    const uint8_t type = transport.protocol;
    if (type != 0 && type != 43 && type != 44 && type != 51 && type != 60) return transport;
    transport.protocol = header[0];
    transport.at += type == 44 ? 8 : type == 51 ? (header[1] + 2u) * 4 : (header[1] + 1u) * 8;
    if (type != 44) continue;
    transport.fragment = (header[2] | (header[3] & 0xf9)) != 0;
    if ((header[2] | (header[3] & 0xf8)) != 0) return transport;
  }
}

inline uint32_t SlowPseudoSum(const uint8_t* ip, uint32_t transport_length) {
  uint32_t sum = TransportOf(ip).protocol + transport_length;
  const int begin = IsV6(ip) ? 8 : 12, end = IsV6(ip) ? 40 : 20;
  for (int i = begin; i < end; i += 2) sum += static_cast<uint32_t>(ip[i]) << 8 | ip[i + 1];
  return sum;
}

// Whether header and, for an unfragmented TCP or UDP packet, transport checksum are right.
inline bool ChecksumsRight(const uint8_t* ip, size_t length) {
  const auto [header, protocol, fragment] = TransportOf(ip);
  if (!IsV6(ip) && SlowChecksum(ip, header) != 0) return false;
  if (fragment || (protocol != 6 && protocol != 17)) return true;
  if (protocol == 17 && ip[header + 6] == 0 && ip[header + 7] == 0) return true;
  const uint32_t transport = static_cast<uint32_t>(length - header);
  return SlowChecksum(ip + header, transport, SlowPseudoSum(ip, transport)) == 0;
}

}  // namespace test
