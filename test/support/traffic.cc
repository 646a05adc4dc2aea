// The load of the benchmarks where Debian's tools stop: UDP at a chosen rate, request and response, connections.
//
//   traffic sink IP PORT                                counts datagrams by the step in them; prints on SIGTERM
//   traffic ramp IP PORT BYTES FLOWS STEP_MS LOW HIGH   sends LOW … HIGH packets/s, each step 15 % above the last
//   traffic echo IP PORT                                TCP: sends back what comes
//   traffic rr IP PORT BYTES MS                         one request at a time; round trips in nanoseconds
//   traffic connect IP PORT MS                          connect, one byte there and back, reset; again
//
// Results are one line of JSON each on stdout. The sender makes one datagram per packet with sendmmsg(2), never UDP
// segmentation offload, so that a path is not flattered by what real senders of small packets do not do.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "load_program.h"

namespace {

constexpr int kBatch = 64;
constexpr int kMaxSteps = 256;
constexpr double kStepFactor = 1.15;

void SetOption(int fd, int level, int option, int value) {
  if (setsockopt(fd, level, option, &value, sizeof value) != 0) Fail("setsockopt");
}

int Sink(char** arguments) {
  const Endpoint at = EndpointOf(arguments[0], arguments[1]);
  const int fd = socket(at.Family(), SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, &at.any, at.Length()) != 0) Fail("bind");
  GrowBuffers(fd);
  const timeval timeout{0, 100000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  printf("listening\n");
  fflush(stdout);
  static uint8_t buffers[kBatch][2048];
  static uint64_t received[kMaxSteps];
  mmsghdr messages[kBatch]{};
  iovec vectors[kBatch];
  for (int i = 0; i < kBatch; i++) {
    vectors[i] = {buffers[i], sizeof buffers[i]};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  while (!g_stopped) {
    const int count = recvmmsg(fd, messages, kBatch, MSG_WAITFORONE, nullptr);
    for (int i = 0; i < count; i++) {
      uint32_t step;
      memcpy(&step, buffers[i], sizeof step);
      if (messages[i].msg_len >= sizeof step && step < kMaxSteps) received[step]++;
    }
  }
  printf("{\"received\":[");
  for (int i = 0; i < kMaxSteps; i++) printf(i == 0 ? "%lu" : ",%lu", received[i]);
  printf("]}\n");
  return 0;
}

int Ramp(char** arguments) {
  const Endpoint to = EndpointOf(arguments[0], arguments[1]);
  const size_t bytes = Number(arguments[2], 4, 2048);
  const int flows = static_cast<int>(Number(arguments[3], 1, 1024));
  const int64_t step_ns = Number(arguments[4], 10, 10000) * 1000000;
  const double low = Number(arguments[5], 100, 100000000);
  const double high = Number(arguments[6], 100, 100000000);
  std::vector<int> sockets;
  for (int i = 0; i < flows; i++) {
    const int fd = socket(to.Family(), SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, &to.any, to.Length()) != 0) Fail("connect");
    GrowBuffers(fd);
    sockets.push_back(fd);
  }
  prctl(PR_SET_TIMERSLACK, 1);
  std::vector<uint8_t> payload(bytes);
  iovec vector{payload.data(), bytes};
  mmsghdr messages[kBatch]{};
  for (mmsghdr& message : messages) {
    message.msg_hdr.msg_iov = &vector;
    message.msg_hdr.msg_iovlen = 1;
  }
  size_t next = 0;
  printf("{\"steps\":[");
  uint32_t step = 0;
  for (double rate = low; rate <= high && step < kMaxSteps; rate *= kStepFactor, step++) {
    memcpy(payload.data(), &step, sizeof step);
    const int64_t started = NowNs();
    uint64_t sent = 0;
    int64_t now = started;
    while ((now = NowNs()) - started < step_ns) {
      const auto wanted = static_cast<int64_t>(rate * static_cast<double>(now - started) / 1e9);
      const int64_t due = wanted - static_cast<int64_t>(sent);
      if (due < 1) {
        const timespec nap{0, 50000};
        nanosleep(&nap, nullptr);
        continue;
      }
      // Many flows means many in each burst, as from many containers, not one flow after the other.
      const int each = flows == 1 ? kBatch : 4;
      const int count = sendmmsg(sockets[next], messages, static_cast<unsigned>(std::min<int64_t>(due, each)), 0);
      next = (next + 1) % sockets.size();
      if (count > 0) sent += static_cast<uint64_t>(count);
    }
    printf("%s{\"rate\":%.0f,\"sent\":%lu,\"ns\":%ld}", step == 0 ? "" : ",", rate, sent, now - started);
  }
  printf("]}\n");
  return 0;
}

int Listen(char** arguments) {
  const Endpoint at = EndpointOf(arguments[0], arguments[1]);
  const int fd = socket(at.Family(), SOCK_STREAM, 0);
  if (fd < 0) Fail("socket");
  SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (bind(fd, &at.any, at.Length()) != 0 || listen(fd, 1024) != 0) Fail("bind");
  return fd;
}

int Echo(char** arguments) {
  const int listener = Listen(arguments);
  const int poll = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = listener;
  if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) != 0) Fail("epoll");
  printf("listening\n");
  fflush(stdout);
  static uint8_t buffer[65536];
  epoll_event events[64];
  while (!g_stopped) {
    const int count = epoll_wait(poll, events, 64, 100);
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        const int accepted = accept(listener, nullptr, nullptr);
        if (accepted < 0) continue;
        SetOption(accepted, IPPROTO_TCP, TCP_NODELAY, 1);
        event.data.fd = accepted;
        if (epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &event) != 0) Fail("epoll");
        continue;
      }
      const ssize_t got = read(fd, buffer, sizeof buffer);
      if (got <= 0 || write(fd, buffer, static_cast<size_t>(got)) != got) close(fd);
    }
  }
  return 0;
}

int Connect(const Endpoint& to) {
  const int fd = socket(to.Family(), SOCK_STREAM, 0);
  if (fd < 0) Fail("socket");
  const timeval timeout{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (connect(fd, &to.any, to.Length()) != 0) Fail("connect");
  return fd;
}

/** Sends `bytes` and waits until as many are back. */
void RoundTrip(int fd, std::vector<uint8_t>& payload) {
  if (write(fd, payload.data(), payload.size()) != static_cast<ssize_t>(payload.size())) Fail("write");
  for (size_t got = 0; got < payload.size();) {
    const ssize_t count = read(fd, payload.data(), payload.size() - got);
    if (count <= 0) Fail("read");
    got += static_cast<size_t>(count);
  }
}

int RequestResponse(char** arguments) {
  const int fd = Connect(EndpointOf(arguments[0], arguments[1]));
  std::vector<uint8_t> payload(static_cast<size_t>(Number(arguments[2], 1, 65536)));
  const int64_t end = NowNs() + Number(arguments[3], 1, 3600000) * 1000000LL;
  std::vector<int64_t> times;
  for (int64_t started = NowNs(); started < end;) {
    RoundTrip(fd, payload);
    const int64_t now = NowNs();
    times.push_back(now - started);
    started = now;
  }
  std::sort(times.begin(), times.end());
  const auto at = [&](double q) {
    return times[std::min(times.size() - 1, static_cast<size_t>(q * static_cast<double>(times.size())))];
  };
  printf("{\"count\":%zu,\"p50\":%ld,\"p99\":%ld,\"p999\":%ld,\"max\":%ld}\n", times.size(), at(0.5), at(0.99),
         at(0.999), times.back());
  return 0;
}

int Connections(char** arguments) {
  const Endpoint to = EndpointOf(arguments[0], arguments[1]);
  const int64_t started = NowNs();
  const int64_t end = started + Number(arguments[2], 1, 3600000) * 1000000LL;
  std::vector<uint8_t> payload(1);
  uint64_t count = 0;
  for (; NowNs() < end; count++) {
    const int fd = Connect(to);
    RoundTrip(fd, payload);
    // A reset leaves no TIME_WAIT, which would run out of ports after 28,000 connections.
    const linger reset{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
  }
  printf("{\"count\":%lu,\"ns\":%ld}\n", count, NowNs() - started);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StopOnTerm();
  signal(SIGPIPE, SIG_IGN);
  const auto is = [&](const char* name, int count) { return argc == count + 2 && strcmp(argv[1], name) == 0; };
  if (is("sink", 2)) return Sink(argv + 2);
  if (is("ramp", 7)) return Ramp(argv + 2);
  if (is("echo", 2)) return Echo(argv + 2);
  if (is("rr", 4)) return RequestResponse(argv + 2);
  if (is("connect", 3)) return Connections(argv + 2);
  fprintf(stderr, "traffic: expected sink, ramp, echo, rr or connect with their arguments\n");
  return 2;
}
