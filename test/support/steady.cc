// A steady stream of datagrams with numbers: how many were lost, came twice or out of order, and the longest gap.
//
//   steady sink PORT                     prints what arrived on SIGTERM
//   steady send IP PORT RATE SECONDS     RATE datagrams a second, of 200 bytes
//
// Results are one line of JSON.

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "load_program.h"

namespace {

constexpr size_t kBytes = 200;
constexpr long kMaxRate = 100'000;
constexpr long kMaxSeconds = 3'600;

int Sink(const char* port) {
  // Of IPv6, which takes IPv4 as well.
  const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
  GrowBuffers(fd);
  const Endpoint own = EndpointOf("::", port);
  if (bind(fd, &own.any, own.Length()) != 0) Fail("bind");
  printf("listening\n");
  fflush(stdout);
  std::vector<bool> seen;
  uint64_t received = 0, twice = 0, overtaken = 0, next = 0;
  int64_t last_ns = 0, longest_ns = 0;
  uint8_t buffer[kBytes + 1];
  while (g_stopped == 0) {
    const ssize_t length = recv(fd, buffer, sizeof buffer, 0);
    if (length != static_cast<ssize_t>(kBytes)) continue;
    uint64_t number;
    memcpy(&number, buffer, sizeof number);
    if (number >= static_cast<uint64_t>(kMaxRate * kMaxSeconds)) continue;
    const int64_t now_ns = NowNs();
    if (last_ns != 0) longest_ns = std::max(longest_ns, now_ns - last_ns);
    last_ns = now_ns;
    if (seen.size() <= number) seen.resize(number + 1);
    received++;
    if (seen[number]) twice++;
    seen[number] = true;
    if (number < next) {
      overtaken++;
    } else {
      next = number + 1;
    }
  }
  printf("{\"received\":%llu,\"twice\":%llu,\"overtaken\":%llu,\"longestGapMs\":%.3f}\n",
         static_cast<unsigned long long>(received), static_cast<unsigned long long>(twice),
         static_cast<unsigned long long>(overtaken), static_cast<double>(longest_ns) / 1e6);
  return 0;
}

int Send(char** argv) {
  const Endpoint to = EndpointOf(argv[0], argv[1]);
  const auto rate = Number(argv[2], 1, kMaxRate);
  const auto packets = static_cast<uint64_t>(rate * Number(argv[3], 1, kMaxSeconds));
  const int fd = socket(to.Family(), SOCK_DGRAM, 0);
  if (fd < 0) Fail("socket");
  if (connect(fd, &to.any, to.Length()) != 0) Fail("connect");
  uint8_t buffer[kBytes] = {};
  const int64_t began_ns = NowNs();
  for (uint64_t number = 0; number < packets && g_stopped == 0; number++) {
    const int64_t due_ns = began_ns + static_cast<int64_t>(number * 1'000'000'000ull / static_cast<uint64_t>(rate));
    const timespec due = {due_ns / 1'000'000'000, due_ns % 1'000'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr);
    memcpy(buffer, &number, sizeof number);
    if (send(fd, buffer, sizeof buffer, 0) < 0) Fail("send");
  }
  printf("{\"sent\":%llu}\n", static_cast<unsigned long long>(packets));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StopOnTerm();
  if (argc == 3 && strcmp(argv[1], "sink") == 0) return Sink(argv[2]);
  if (argc == 6 && strcmp(argv[1], "send") == 0) return Send(argv + 2);
  fprintf(stderr, "steady: expected sink PORT, or send IP PORT RATE SECONDS\n");
  return 2;
}
