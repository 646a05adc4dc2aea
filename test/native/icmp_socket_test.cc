// Reading the raw ICMP socket by batches; a pair of datagram sockets stands in for it.

#include "../../addon/kernel/icmp_socket.h"

#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "../support/check.h"

using namespace twill;

namespace {

struct Pair {
  UniqueFd from, to;
  std::vector<uint8_t> buffer = std::vector<uint8_t>(2 * 65536);
  std::vector<uint32_t> ends = std::vector<uint32_t>(8);

  Pair() {
    int fds[2];
    CHECK_EQUAL(::socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    from = UniqueFd(fds[0]);
    to = UniqueFd(fds[1]);
  }

  void Send(size_t length, uint8_t value) {
    const std::vector<uint8_t> packet(length, value);
    CHECK_EQUAL(::send(from.get(), packet.data(), length, 0), length);
  }

  int32_t Receive(size_t capacity) {
    return ReceiveIcmp(to.get(), buffer.data(), capacity, ends.data(), ends.size());
  }
};

}  // namespace

int main() {
  test::Case("packets lie one behind the other, each whole", [] {
    Pair pair;
    for (uint8_t i = 0; i < 5; i++) pair.Send(64 + i, i);
    CHECK_EQUAL(pair.Receive(pair.buffer.size()), 5);
    uint32_t at = 0;
    for (uint8_t i = 0; i < 5; i++) {
      CHECK_EQUAL(pair.ends[i], at + 64 + i);
      for (; at < pair.ends[i]; at++) CHECK_EQUAL(pair.buffer[at], i);
    }
    CHECK_EQUAL(pair.Receive(pair.buffer.size()), 0);
  });
  test::Case("a batch ends at its count, and the next one has the rest", [] {
    Pair pair;
    for (uint8_t i = 0; i < 9; i++) pair.Send(64, i);
    CHECK_EQUAL(pair.Receive(pair.buffer.size()), 8);
    CHECK_EQUAL(pair.Receive(pair.buffer.size()), 1);
    CHECK_EQUAL(pair.buffer[0], 8);
  });
  test::Case("a batch ends where the largest packet might not fit", [] {
    Pair pair;
    pair.Send(kMaxIcmpBytes, 1);
    pair.Send(kMaxIcmpBytes, 2);
    CHECK_EQUAL(pair.Receive(kMaxIcmpBytes), 1);
    CHECK_EQUAL(pair.ends[0], kMaxIcmpBytes);
    CHECK_EQUAL(pair.Receive(kMaxIcmpBytes + 1), 1);
    CHECK_EQUAL(pair.buffer[kMaxIcmpBytes - 1], 2);
  });
  test::Case("of ICMPv6, the source stands before each packet", [] {
    Pair pair;
    pair.Send(24, 7);
    CHECK_EQUAL(ReceiveIcmp(pair.to.get(), pair.buffer.data(), kMaxIcmpBytes, pair.ends.data(), 8, true), 1);
    CHECK_EQUAL(pair.ends[0], 16 + 24);
    for (uint32_t i = 0; i < 16; i++) CHECK_EQUAL(pair.buffer[i], 0);  // a pair of sockets has no addresses
    for (uint32_t i = 16; i < pair.ends[0]; i++) CHECK_EQUAL(pair.buffer[i], 7);
  });
  test::Case("errors are -errno", [] {
    uint32_t end = 0;
    uint8_t byte = 0;
    CHECK_EQUAL(ReceiveIcmp(-1, &byte, kMaxIcmpBytes, &end, 1), -EBADF);
  });
  return test::Finish();
}
