// Whether packets of a flow overtake one another: datagrams with the number of their flow and their place in it.
//
//   sequence sink PORT FLOWS                      prints what arrived on SIGTERM
//   sequence send IP PORT FLOWS PACKETS SEED      sends PACKETS in all, over FLOWS flows
//
// A flow sends by fits: one to three datagrams, or a few hundred, or a superpacket of UDP_SEGMENT, of any size; then it
// is quiet for a while, which may be shorter or longer than what makes a flow sparse. Results are one line of JSON.

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
#include <random>
#include <vector>

#include "load_program.h"

namespace {

constexpr int kMaxBytes = 1400;
constexpr long kMaxFlows = 10'000;
constexpr int kUdpSegment = 103;
constexpr int64_t kMaxQuietNs = 150'000'000;

struct Mark {
  uint32_t flow;
  uint32_t place;
};

int Sink(const char* port, size_t flows) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  GrowBuffers(fd);
  const Endpoint own = EndpointOf("0.0.0.0", port);
  if (bind(fd, &own.any, own.Length()) != 0) Fail("bind");
  printf("listening\n");
  fflush(stdout);
  std::vector<uint32_t> next(flows, 0);
  uint64_t received = 0;
  uint64_t overtaken = 0;
  uint64_t strange = 0;
  uint8_t buffer[65536];
  while (g_stopped == 0) {
    const ssize_t length = recv(fd, buffer, sizeof buffer, 0);
    if (length < 0) continue;
    Mark mark;
    if (length < static_cast<ssize_t>(sizeof mark)) {
      strange++;
      continue;
    }
    memcpy(&mark, buffer, sizeof mark);
    if (mark.flow >= flows) {
      strange++;
      continue;
    }
    received++;
    if (mark.place < next[mark.flow]) {
      overtaken++;
    } else {
      next[mark.flow] = mark.place + 1;
    }
  }
  printf("{\"received\":%llu,\"overtaken\":%llu,\"strange\":%llu}\n", static_cast<unsigned long long>(received),
         static_cast<unsigned long long>(overtaken), static_cast<unsigned long long>(strange));
  return 0;
}

struct Flow {
  int fd;
  uint32_t place = 0;
  int64_t quiet_until_ns = 0;
};

int Send(char** argv) {
  const Endpoint to = EndpointOf(argv[0], argv[1]);
  std::vector<Flow> flows(static_cast<size_t>(Number(argv[2], 1, kMaxFlows)));
  const auto packets = static_cast<uint64_t>(Number(argv[3], 1, INT64_MAX));
  std::mt19937 random(static_cast<uint32_t>(Number(argv[4], 0, UINT32_MAX)));
  const auto below = [&](uint32_t bound) { return static_cast<uint32_t>(random() % bound); };
  for (Flow& flow : flows) {
    flow.fd = socket(to.Family(), SOCK_DGRAM, 0);
    if (flow.fd < 0) Fail("socket");
    if (connect(flow.fd, &to.any, to.Length()) != 0) Fail("connect");
  }
  uint8_t buffer[65536] = {};
  uint64_t sent = 0;
  while (sent < packets) {
    const uint32_t index = below(static_cast<uint32_t>(flows.size()));
    Flow& flow = flows[index];
    const int64_t now_ns = NowNs();
    if (now_ns < flow.quiet_until_ns) {
      const timespec moment = {0, 20'000};
      nanosleep(&moment, nullptr);
      continue;
    }
    const uint32_t kind = below(8);
    const uint32_t count = kind < 5 ? 1 + below(3) : 1 + below(400);
    const int size = static_cast<int>(sizeof(Mark) + below(kMaxBytes - sizeof(Mark)));
    const int most = std::min(60, 60'000 / size);
    const int pieces = kind == 7 ? 1 + static_cast<int>(below(static_cast<uint32_t>(most))) : 1;
    const int segment = pieces > 1 ? size : 0;
    setsockopt(flow.fd, IPPROTO_UDP, kUdpSegment, &segment, sizeof segment);
    for (uint32_t i = 0; i < count && sent < packets; i += static_cast<uint32_t>(pieces)) {
      for (int piece = 0; piece < pieces; piece++) {
        const Mark mark = {index, flow.place++};
        memcpy(buffer + piece * size, &mark, sizeof mark);
      }
      // A full queue is a loss, and none of this program's business.
      if (send(flow.fd, buffer, static_cast<size_t>(size * pieces), 0) < 0 && errno != ENOBUFS) Fail("send");
      sent += static_cast<uint64_t>(pieces);
    }
    flow.quiet_until_ns = NowNs() + static_cast<int64_t>(below(1 + below(static_cast<uint32_t>(kMaxQuietNs))));
  }
  printf("{\"sent\":%llu}\n", static_cast<unsigned long long>(sent));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StopOnTerm();
  if (argc == 4 && strcmp(argv[1], "sink") == 0) {
    return Sink(argv[2], static_cast<size_t>(Number(argv[3], 1, kMaxFlows)));
  }
  if (argc == 7 && strcmp(argv[1], "send") == 0) return Send(argv + 2);
  fprintf(stderr, "sequence: expected sink PORT FLOWS, or send IP PORT FLOWS PACKETS SEED\n");
  return 2;
}
