#include "kernel/udp_socket.h"

#include <linux/filter.h>
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

struct SegmentControl {
  alignas(cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
};

// Whether one message may carry `segments` datagrams: sent for real, by a socket of its own to itself, because the
// limit (64, or 128 since 6.9 and in some stable kernels) is checked nowhere else.
bool SegmentsAccepted(uint32_t address, uint16_t segments) noexcept {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in name = SocketAddress(address, 0);
  socklen_t length = sizeof name;
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) < 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &length) < 0) {
    return false;
  }
  uint8_t payload[256] = {};
  iovec part = {payload, segments};
  SegmentControl control{};
  msghdr message{};
  message.msg_name = &name;
  message.msg_namelen = sizeof name;
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

}  // namespace

Result<UdpSocket> OpenUdp(const UdpOptions& options) noexcept {
  UdpSocket socket;
  socket.fd = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.fd.valid()) return Failure::Of("socket");
  const int fd = socket.fd.get();
  const int on = 1;
  if (options.reuse_port && ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) {
    return Failure::Of("SO_REUSEPORT");
  }
  SetBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.buffer_bytes);
  SetBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options.buffer_bytes);
  socket.receive_bytes = GetInt(fd, SOL_SOCKET, SO_RCVBUF);
  socket.send_bytes = GetInt(fd, SOL_SOCKET, SO_SNDBUF);
  socket.mtu_discovery = GetInt(fd, IPPROTO_IP, IP_MTU_DISCOVER);
  const sockaddr_in name = SocketAddress(options.address, options.port);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) < 0) return Failure::Of("bind");
  if (options.gro) socket.gro = ::setsockopt(fd, SOL_UDP, kUdpGro, &on, sizeof on) == 0;
  if (options.segment) {
    const int none = 0;
    if (::setsockopt(fd, SOL_UDP, kUdpSegment, &none, sizeof none) == 0) {
      socket.segments = SegmentsAccepted(options.address, 128) ? 128 : 64;
    }
  }
  return socket;
}

UniqueFd OpenSendOnly(uint32_t address, uint8_t queue, int buffer_bytes) noexcept {
  // Another process may have the port: so many neighbourhoods of it are tried.
  static constexpr int kMaxTries = 64;
  const auto open = [address, buffer_bytes](uint32_t port) {
    UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return fd;
    // Nobody reads it, so what is sent to that port must not pile up: a filter that takes nothing.
    sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog program = {1, &nothing};
    const sockaddr_in name = SocketAddress(address, static_cast<uint16_t>(port));
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) < 0) {
      return UniqueFd();
    }
    SetBuffer(fd.get(), SO_SNDBUFFORCE, SO_SNDBUF, buffer_bytes);
    return fd;
  };
  for (int i = 0; i < kMaxTries; i++) {
    // The kernel picks a free port where this host wants such ports to be; the one wanted is in the same 256.
    UniqueFd fd = open(0);
    sockaddr_in name{};
    socklen_t length = sizeof name;
    if (!fd.valid() || ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &length) < 0) break;
    const uint32_t wanted = (ntohs(name.sin_port) & 0xff00u) | queue;
    if (wanted != ntohs(name.sin_port)) fd = open(wanted);
    if (fd.valid()) return fd;
  }
  return UniqueFd();
}

void SpreadByQueue(int fd, uint16_t port, uint32_t queues) noexcept {
  // Offsets from the IPv4 header. With IP options, which no host of an overlay sends, they hit other bytes: any queue.
  static constexpr uint32_t kSourceAddress = static_cast<uint32_t>(SKF_NET_OFF) + 12;
  static constexpr uint32_t kSourcePort = static_cast<uint32_t>(SKF_NET_OFF) + 20;
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kSourcePort),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kSourceAddress),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff),
      BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, queues),
      BPF_STMT(BPF_RET | BPF_A, 0),
  };
  const sock_fprog program = {sizeof steps / sizeof steps[0], steps};
  ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
}

int32_t QueryInnerPathMtu(uint32_t source, uint32_t peer, uint16_t port) noexcept {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return -errno;
  const sockaddr_in own = SocketAddress(source, 0);
  const sockaddr_in name = SocketAddress(peer, port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) < 0 ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) < 0) {
    return -errno;
  }
  const int mtu = GetInt(fd.get(), IPPROTO_IP, IP_MTU);
  return mtu > kOuterHeaders ? mtu - kOuterHeaders : -EINVAL;
}

uint32_t SocketDrops(int fd) noexcept {
  uint32_t info[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof info;
  if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) < 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

}  // namespace twill
