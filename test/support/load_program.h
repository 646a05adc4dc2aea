// What the load generators of tests and benchmarks share: arguments, the clock, sockets with room, a clear end.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
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

inline sockaddr_in Address(const char* ip, const char* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(Number(port, 1, 65535)));
  if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) {
    fprintf(stderr, "%s: \"%s\": expected an IPv4 address\n", program_invocation_short_name, ip);
    exit(2);
  }
  return address;
}

inline void GrowBuffers(int fd) {
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kSocketBufferBytes, sizeof kSocketBufferBytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBufferBytes, sizeof kSocketBufferBytes);
}
