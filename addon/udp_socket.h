// The UDP socket between hosts: opening, offload probes, and what the kernel says about a path afterwards.
#pragma once

#include <netinet/in.h>

#include <cstdint>

#include "layout.h"
#include "unique_fd.h"

namespace twill {

inline constexpr int kUdpSegment = 103;  // UDP_SEGMENT, linux/udp.h since 4.18
inline constexpr int kUdpGro = 104;      // UDP_GRO, 5.0
inline constexpr int32_t kOuterHeaders = 28;  // 20 IPv4 + 8 UDP (RFC 791, RFC 768); no options are sent

struct UdpOptions {
  uint32_t address;  // host order
  uint16_t port;
  bool reuse_port;   // several queues share the address
  bool segment;      // UDP_SEGMENT
  bool gro;          // UDP_GRO
  int buffer_bytes;
};

struct UdpResult {
  UniqueFd fd;
  bool gro = false;
  uint16_t segments = 1;   // datagrams one message may carry; 1 without UDP_SEGMENT
  int receive_bytes = 0;   // what the kernel granted (it reports the double of what is asked)
  int send_bytes = 0;
  int error = 0;
  const char* operation = "";
};

UdpResult OpenUdp(const UdpOptions& options) noexcept;

inline sockaddr_in SocketAddress(uint32_t address, uint16_t port) noexcept {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(address);
  return name;
}

// Largest inner packet that reaches `peer` unfragmented: the kernel's path MTU less the outer headers; -errno.
int32_t QueryInnerPathMtu(uint32_t peer, uint16_t port) noexcept;

// Reads pending errors off the socket, which IP_RECVERR made visible, and puts the path MTUs that fell into the arena's
// events; returns their number. Never blocks. Every other error is dropped: a datagram may be lost at any time.
int ReportPathMtus(int fd, uint16_t port, const ArenaView& arena) noexcept;

// Datagrams the kernel dropped because the receive buffer was full (SK_MEMINFO_DROPS).
uint32_t SocketDrops(int fd) noexcept;

}  // namespace twill
