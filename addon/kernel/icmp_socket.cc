#include "kernel/icmp_socket.h"

#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "kernel/udp_socket.h"

namespace twill {

namespace {

constexpr size_t kSourceBytes = sizeof(in6_addr);

bool Configure(int fd) noexcept {
  // A bit for each type that is not wanted.
  const icmp_filter unwanted = {~((1u << ICMP_ECHOREPLY) | (1u << ICMP_DEST_UNREACH))};
  const int discovery = IP_PMTUDISC_PROBE;
  return ::setsockopt(fd, SOL_RAW, ICMP_FILTER, &unwanted, sizeof unwanted) == 0 &&
         ::setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discovery, sizeof discovery) == 0;
}

bool ConfigureWide(int fd) noexcept {
  icmp6_filter wanted;
  ICMP6_FILTER_SETBLOCKALL(&wanted);
  for (const int type : {ICMP6_ECHO_REPLY, ICMP6_DST_UNREACH, ICMP6_PACKET_TOO_BIG})
    ICMP6_FILTER_SETPASS(type, &wanted);
  const int discovery = IPV6_PMTUDISC_PROBE;
  const int on = 1;
  return ::setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &wanted, sizeof wanted) == 0 &&
         ::setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discovery, sizeof discovery) == 0 &&
         ::setsockopt(fd, IPPROTO_IPV6, IPV6_DONTFRAG, &on, sizeof on) == 0;
}

}  // namespace

UniqueFd OpenIcmp(bool wide, int32_t* error) noexcept {
  const int family = wide ? AF_INET6 : AF_INET;
  const int protocol = wide ? static_cast<int>(IPPROTO_ICMPV6) : static_cast<int>(IPPROTO_ICMP);
  UniqueFd fd(::socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!fd.valid() || !(wide ? ConfigureWide(fd.get()) : Configure(fd.get()))) {
    *error = -errno;
    return UniqueFd();
  }
  *error = 0;
  return fd;
}

int32_t SendIcmp(int fd, uint32_t to, const uint8_t* message, size_t length) noexcept {
  const sockaddr_in name = SocketAddress(to, 0);
  const ssize_t sent =
      ::sendto(fd, message, length, MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&name), sizeof name);
  return sent < 0 ? -errno : 0;
}

int32_t SendIcmp6(int fd, const uint32_t (&to)[4], const uint8_t* message, size_t length) noexcept {
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  for (size_t i = 0; i < 4; i++) name.sin6_addr.s6_addr32[i] = htonl(to[i]);
  const ssize_t sent =
      ::sendto(fd, message, length, MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&name), sizeof name);
  return sent < 0 ? -errno : 0;
}

int32_t ReceiveIcmp(int fd, uint8_t* buffer, size_t capacity, uint32_t* ends, size_t count,
                    bool wide) noexcept {
  const size_t before = wide ? kSourceBytes : 0;
  size_t end = 0;
  size_t received = 0;
  while (received < count && capacity - end >= kMaxIcmpBytes) {
    sockaddr_in6 from{};
    socklen_t size = sizeof from;
    const ssize_t bytes = ::recvfrom(fd, buffer + end + before, kMaxIcmpBytes - before, MSG_DONTWAIT,
                                     wide ? reinterpret_cast<sockaddr*>(&from) : nullptr, wide ? &size : nullptr);
    if (bytes < 0 && received > 0) break;  // an error that stays is told by the next call
    if (bytes < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (wide) std::memcpy(buffer + end, &from.sin6_addr, kSourceBytes);
    end += before + static_cast<size_t>(bytes);
    ends[received++] = static_cast<uint32_t>(end);
  }
  return static_cast<int32_t>(received);
}

}  // namespace twill
