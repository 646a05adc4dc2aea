// The UDP sockets between hosts: opening, offload probes, and what the kernel says about a path afterwards.
//
// Each is of one family (IPV6_V6ONLY), so that IPv4 has its usual form wherever it is read or written.
//
// None asks for errors (IP_RECVERR, IPV6_RECVERR). An unconnected socket that does not ask ignores ICMP (udp(7),
// __udp4_lib_err, __udp6_lib_err), so that a message about one peer, forged or not, fails no call that concerns
// another: what a send returns is about the datagram it was given. The kernel still keeps what ICMP says of a path's
// MTU, and QueryInnerPathMtu asks for that.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>

#include "kernel/failure.h"
#include "kernel/unique_fd.h"
#include "packet/address.h"

namespace twill {

inline constexpr int kUdpSegment = 103;  // UDP_SEGMENT, linux/udp.h since 4.18
inline constexpr int kUdpGro = 104;      // UDP_GRO, 5.0
// 20 IPv4 or 40 IPv6, and 8 UDP (RFC 791, RFC 8200, RFC 768); neither options nor extension headers are sent.
inline constexpr int32_t kOuterHeaders = 28;
inline constexpr int32_t kOuterHeadersV6 = 48;

struct UdpOptions {
  HostAddress address;
  uint16_t port;
  bool reuse_port;   // several queues share the address
  bool segment;      // UDP_SEGMENT
  bool gro;          // UDP_GRO
  int buffer_bytes;
  int adopted = -1;  // a socket that may be this one already: used when it is, under a number of its own
};

struct UdpSocket {
  UniqueFd fd;
  bool gro = false;
  uint16_t segments = 1;   // datagrams one message may carry; 1 without UDP_SEGMENT
  int receive_bytes = 0;   // what the kernel granted (it reports the double of what is asked)
  int send_bytes = 0;
  // IP_MTU_DISCOVER or IPV6_MTU_DISCOVER as the host sets it for new sockets (sysctl net.ipv4.ip_no_pmtu_disc)
  int mtu_discovery = 0;
};

// ESTALE when the adopted socket is another: of another name, or not shared in the same way.
Result<UdpSocket> OpenUdp(const UdpOptions& options) noexcept;

// A socket that sends for `queue` from a port of its own and receives nothing. The low byte of the port is the queue.
// Invalid when no such port is free; the queue sends from the shared port then.
UniqueFd OpenSendOnly(const HostAddress& address, uint8_t queue, int buffer_bytes) noexcept;

// Has the kernel give what queue k of a peer sends to queue k here, modulo `queues`: the low byte of the source port
// says which. A flow then has one queue at both ends in both directions. It must, because the TUN sends a flow's
// packets to the queue that wrote its last one: a flow that comes back on another queue moves there, and is reordered,
// at every round trip. What comes from `port` itself, a peer of one queue or flanneld, is spread by the peer's address.
// `fd` is one of the sockets that share `port`, bound in the order of their queues. Without effect on a kernel that
// refuses.
void SpreadByQueue(int fd, bool is_v6, uint16_t port, uint32_t queues) noexcept;

// Has what is sent to be refused with EMSGSIZE when it is longer than the path takes, or to be fragmented by the
// kernel.
void SetDontFragment(int fd, bool is_v6, bool dont) noexcept;

// A socket's name of either family.
union SocketName {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;

  bool IsV6() const noexcept { return any.sa_family == AF_INET6; }
  socklen_t Length() const noexcept { return IsV6() ? sizeof v6 : sizeof v4; }
  // The port is the same word of both.
  uint16_t Port() const noexcept { return ntohs(v4.sin_port); }
};
static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));

SocketName NameOf(const HostAddress& host, uint16_t port) noexcept;
HostAddress HostOf(const SocketName& name) noexcept;

inline sockaddr_in SocketAddress(uint32_t address, uint16_t port) noexcept {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(address);
  return name;
}

// Largest inner packet that reaches `peer` from `source` unfragmented: the kernel's path MTU less the outer headers;
// -errno. `source` decides as well: rules and routes may send another address of this host another way.
int32_t QueryInnerPathMtu(const HostAddress& source, const HostAddress& peer, uint16_t port) noexcept;

// Datagrams the kernel dropped because the receive buffer was full (SK_MEMINFO_DROPS).
uint32_t SocketDrops(int fd) noexcept;

}  // namespace twill
