// What the load generators of tests and benchmarks share: arguments, the clock, sockets with room, a clear end.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cstdint>

inline constexpr int kSocketBufferBytes = 8 << 20;

[[noreturn]] inline void Fail(const char* what) {
  fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
  exit(1);
}

// Set by SIGTERM after StopOnTerm(), which also interrupts what blocks.
inline volatile sig_atomic_t g_stopped = 0;

inline void StopOnTerm() {
  struct sigaction stop {};
  stop.sa_handler = [](int) { g_stopped = 1; };
  sigaction(SIGTERM, &stop, nullptr);
}

inline int64_t NowNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

inline long Number(const char* text, long low, long high) {
  char* end;
  const long value = strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < low || value > high) {
    fprintf(stderr, "%s: \"%s\": expected a whole number from %ld to %ld\n", program_invocation_short_name, text, low,
            high);
    exit(2);
  }
  return value;
}

// Where a socket is bound or connected, of either family.
union Endpoint {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;

  int Family() const { return any.sa_family; }
  socklen_t Length() const { return Family() == AF_INET6 ? sizeof v6 : sizeof v4; }
};

inline Endpoint EndpointOf(const char* ip, const char* port) {
  Endpoint endpoint{};
  const uint16_t number = htons(static_cast<uint16_t>(Number(port, 1, 65535)));
  if (inet_pton(AF_INET, ip, &endpoint.v4.sin_addr) == 1) {
    endpoint.v4.sin_family = AF_INET;
    endpoint.v4.sin_port = number;
    return endpoint;
  }
  endpoint = {};
  if (inet_pton(AF_INET6, ip, &endpoint.v6.sin6_addr) == 1) {
    endpoint.v6.sin6_family = AF_INET6;
    endpoint.v6.sin6_port = number;
    return endpoint;
  }
  fprintf(stderr, "%s: \"%s\": expected an address of IPv4 or IPv6\n", program_invocation_short_name, ip);
  exit(2);
}

inline void GrowBuffers(int fd) {
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kSocketBufferBytes, sizeof kSocketBufferBytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBufferBytes, sizeof kSocketBufferBytes);
}
