// The UDP sockets between hosts: opening, offload probes, and what the kernel says about a path afterwards.
//
// None asks for errors (IP_RECVERR). An unconnected socket that does not ask ignores ICMP (udp(7), __udp4_lib_err), so
// that a message about one peer, forged or not, fails no call that concerns another: what a send returns is about the
// datagram it was given. The kernel still keeps what ICMP says of a path's MTU, and QueryInnerPathMtu asks for that.
#pragma once

#include <netinet/in.h>

#include <cstdint>

#include "kernel/failure.h"
#include "kernel/unique_fd.h"

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

struct UdpSocket {
  UniqueFd fd;
  bool gro = false;
  uint16_t segments = 1;   // datagrams one message may carry; 1 without UDP_SEGMENT
  int receive_bytes = 0;   // what the kernel granted (it reports the double of what is asked)
  int send_bytes = 0;
  int mtu_discovery = 0;   // IP_MTU_DISCOVER as the host sets it for new sockets (sysctl net.ipv4.ip_no_pmtu_disc)
};

Result<UdpSocket> OpenUdp(const UdpOptions& options) noexcept;

// A socket that sends for `queue` from a port of its own and receives nothing. The low byte of the port is the queue.
// Invalid when no such port is free; the queue sends from the shared port then.
UniqueFd OpenSendOnly(uint32_t address, uint8_t queue, int buffer_bytes) noexcept;

// Has the kernel give what queue k of a peer sends to queue k here, modulo `queues`: the low byte of the source port
// says which. A flow then has one queue at both ends in both directions. It must, because the TUN sends a flow's
// packets to the queue that wrote its last one: a flow that comes back on another queue moves there, and is reordered,
// at every round trip. What comes from `port` itself, a peer of one queue or flanneld, is spread by the peer's address.
// `fd` is one of the sockets that share `port`, bound in the order of their queues. Without effect on a kernel that
// refuses.
void SpreadByQueue(int fd, uint16_t port, uint32_t queues) noexcept;

inline sockaddr_in SocketAddress(uint32_t address, uint16_t port) noexcept {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(address);
  return name;
}

// Largest inner packet that reaches `peer` from `source` unfragmented: the kernel's path MTU less the outer headers;
// -errno. `source` decides as well: rules and routes may send another address of this host another way.
int32_t QueryInnerPathMtu(uint32_t source, uint32_t peer, uint16_t port) noexcept;

// Datagrams the kernel dropped because the receive buffer was full (SK_MEMINFO_DROPS).
uint32_t SocketDrops(int fd) noexcept;

}  // namespace twill
