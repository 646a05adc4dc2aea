#include "kernel/udp_socket.h"

#include <linux/filter.h>
#include <linux/in6.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace twill {

namespace {

// The *FORCE variants need CAP_NET_ADMIN and pass the sysctl limits; without it, as much as the limits allow.
void SetBuffer(int fd, int force, int plain, int bytes) noexcept {
  if (::setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) < 0) {
    ::setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
  }
}

int GetInt(int fd, int level, int name) noexcept {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, level, name, &value, &length) == 0 ? value : 0;
}

int DomainOf(const HostAddress& address) noexcept { return address.is_v6 ? AF_INET6 : AF_INET; }

// Takes the flow label from the name that a datagram is sent to. A kernel that has labels reserved for somebody's
// exclusive use refuses others (ip6_flowlabel.c): the sender goes without then.
void SendFlowLabels(int fd) noexcept {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_IPV6, IPV6_FLOWINFO_SEND, &on, sizeof on);
}

struct SegmentControl {
  alignas(cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
};

// Whether one message may carry `segments` datagrams: sent for real, by a socket of its own to itself, because the
// limit (64, or 128 since 6.9 and in some stable kernels) is checked nowhere else.
bool SegmentsAccepted(const HostAddress& address, uint16_t segments) noexcept {
  UniqueFd fd(::socket(DomainOf(address), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  SocketName name = NameOf(address, 0);
  socklen_t length = name.Length();
  if (!fd.valid() || ::bind(fd.get(), &name.any, length) < 0 || ::getsockname(fd.get(), &name.any, &length) < 0) {
    return false;
  }
  uint8_t payload[256] = {};
  iovec part = {payload, segments};
  SegmentControl control{};
  msghdr message{};
  message.msg_name = &name;
  message.msg_namelen = length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_UDP;
  header->cmsg_type = kUdpSegment;
  header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  const uint16_t one = 1;
  std::memcpy(CMSG_DATA(header), &one, sizeof one);
  return ::sendmsg(fd.get(), &message, 0) == segments;
}

int MtuDiscovery(int fd, bool is_v6) noexcept {
  return is_v6 ? GetInt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER) : GetInt(fd, IPPROTO_IP, IP_MTU_DISCOVER);
}

// As a new socket is: whoever had it before may have been in the middle of a datagram for a narrow path.
void ForgetFragmenting(int fd, bool is_v6) noexcept {
  const UniqueFd fresh(::socket(is_v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fresh.valid()) return;
  const int discovery = MtuDiscovery(fresh.get(), is_v6), off = 0;
  if (is_v6) {
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discovery, sizeof discovery);
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_DONTFRAG, &off, sizeof off);
  } else {
    ::setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery, sizeof discovery);
  }
}

bool IsSocketOf(int fd, const UdpOptions& options) noexcept {
  SocketName name{};
  socklen_t length = sizeof name;
  if (::getsockname(fd, &name.any, &length) < 0 || length < sizeof(sockaddr_in)) return false;
  if (name.any.sa_family != DomainOf(options.address)) return false;
  const HostAddress host = HostOf(name);
  return GetInt(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM && name.Port() == options.port &&
         host.address == options.address.address &&
         (GetInt(fd, SOL_SOCKET, SO_REUSEPORT) != 0) == options.reuse_port;
}

}  // namespace

Result<UdpSocket> OpenUdp(const UdpOptions& options) noexcept {
  UdpSocket socket;
  const bool is_v6 = options.address.is_v6;
  const bool is_adopted = options.adopted >= 0;
  if (is_adopted && !IsSocketOf(options.adopted, options)) return Failure{ESTALE, "getsockname"};
  socket.fd = is_adopted ? UniqueFd(::fcntl(options.adopted, F_DUPFD_CLOEXEC, 0))
                         : UniqueFd(::socket(DomainOf(options.address), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.fd.valid()) return Failure::Of("socket");
  const int fd = socket.fd.get();
  const int on = 1;
  if (options.reuse_port && !is_adopted && ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) {
    return Failure::Of("SO_REUSEPORT");
  }
  SetBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.buffer_bytes);
  SetBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options.buffer_bytes);
  socket.receive_bytes = GetInt(fd, SOL_SOCKET, SO_RCVBUF);
  socket.send_bytes = GetInt(fd, SOL_SOCKET, SO_SNDBUF);
  if (is_adopted) ForgetFragmenting(fd, is_v6);
  socket.mtu_discovery = MtuDiscovery(fd, is_v6);
  if (is_v6) {
    if (!is_adopted && ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) {
      return Failure::Of("IPV6_V6ONLY");
    }
    SendFlowLabels(fd);
  }
  const SocketName name = NameOf(options.address, options.port);
  if (!is_adopted && ::bind(fd, &name.any, name.Length()) < 0) return Failure::Of("bind");
  const int gro = options.gro;
  const bool has_gro = ::setsockopt(fd, SOL_UDP, kUdpGro, &gro, sizeof gro) == 0;
  socket.gro = has_gro && options.gro;
  if (options.segment) {
    const int none = 0;
    if (::setsockopt(fd, SOL_UDP, kUdpSegment, &none, sizeof none) == 0) {
      socket.segments = SegmentsAccepted(options.address, 128) ? 128 : 64;
    }
  }
  return socket;
}

UniqueFd OpenSendOnly(const HostAddress& address, uint8_t queue, int buffer_bytes) noexcept {
  // Another process may have the port: so many neighbourhoods of it are tried.
  static constexpr int kMaxTries = 64;
  const auto open = [&address, buffer_bytes](uint32_t port) {
    UniqueFd fd(::socket(DomainOf(address), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return fd;
    // Nobody reads it, so what is sent to that port must not pile up: a filter that takes nothing.
    sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog program = {1, &nothing};
    const SocketName name = NameOf(address, static_cast<uint16_t>(port));
    const int on = 1;
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ||
        (address.is_v6 && ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) ||
        ::bind(fd.get(), &name.any, name.Length()) < 0) {
      return UniqueFd();
    }
    if (address.is_v6) SendFlowLabels(fd.get());
    SetBuffer(fd.get(), SO_SNDBUFFORCE, SO_SNDBUF, buffer_bytes);
    return fd;
  };
  for (int i = 0; i < kMaxTries; i++) {
    // The kernel picks a free port where this host wants such ports to be; the one wanted is in the same 256.
    UniqueFd fd = open(0);
    SocketName name{};
    socklen_t length = sizeof name;
    if (!fd.valid() || ::getsockname(fd.get(), &name.any, &length) < 0) break;
    const uint32_t wanted = (name.Port() & 0xff00u) | queue;
    if (wanted != name.Port()) fd = open(wanted);
    if (fd.valid()) return fd;
  }
  return UniqueFd();
}

void SpreadByQueue(int fd, bool is_v6, uint16_t port, uint32_t queues) noexcept {
  // Offsets from the IP header; of an IPv6 address the last word. With IP options or extension headers, which no host
  // of an overlay sends, they hit other bytes: any queue.
  const uint32_t header = static_cast<uint32_t>(SKF_NET_OFF);
  const uint32_t source_address = header + (is_v6 ? 20 : 12);
  const uint32_t source_port = header + (is_v6 ? 40 : 20);
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, source_port),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, source_address),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff),
      BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, queues),
      BPF_STMT(BPF_RET | BPF_A, 0),
  };
  const sock_fprog program = {sizeof steps / sizeof steps[0], steps};
  ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
}

void SetDontFragment(int fd, bool is_v6, bool dont) noexcept {
  if (is_v6) {
    const int on = dont;
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_DONTFRAG, &on, sizeof on);
    return;
  }
  const int discovery = dont ? IP_PMTUDISC_DO : IP_PMTUDISC_WANT;
  ::setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery, sizeof discovery);
}

SocketName NameOf(const HostAddress& host, uint16_t port) noexcept {
  SocketName name{};
  if (!host.is_v6) {
    name.v4 = SocketAddress(host.address.words[0], port);
    return name;
  }
  name.v6.sin6_family = AF_INET6;
  name.v6.sin6_port = htons(port);
  StoreAddress(name.v6.sin6_addr.s6_addr, host.address, true);
  return name;
}

HostAddress HostOf(const SocketName& name) noexcept {
  if (!name.IsV6()) return HostAddress::V4(ntohl(name.v4.sin_addr.s_addr));
  return {LoadAddress(name.v6.sin6_addr.s6_addr, true), true};
}

int32_t QueryInnerPathMtu(const HostAddress& source, const HostAddress& peer, uint16_t port) noexcept {
  if (source.is_v6 != peer.is_v6) return -EAFNOSUPPORT;
  UniqueFd fd(::socket(DomainOf(peer), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return -errno;
  const SocketName own = NameOf(source, 0);
  const SocketName name = NameOf(peer, port);
  if (::bind(fd.get(), &own.any, own.Length()) < 0 || ::connect(fd.get(), &name.any, name.Length()) < 0) return -errno;
  const int mtu = peer.is_v6 ? GetInt(fd.get(), IPPROTO_IPV6, IPV6_MTU) : GetInt(fd.get(), IPPROTO_IP, IP_MTU);
  const int headers = peer.is_v6 ? kOuterHeadersV6 : kOuterHeaders;
  return mtu > headers ? mtu - headers : -EINVAL;
}

uint32_t SocketDrops(int fd) noexcept {
  uint32_t info[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof info;
  if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) < 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

}  // namespace twill
