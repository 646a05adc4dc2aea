#include "kernel/icmp_socket.h"

#include <linux/icmp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "kernel/udp_socket.h"

namespace twill {

UniqueFd OpenIcmp(int32_t* error) noexcept {
  // A bit for each type that is not wanted.
  const icmp_filter unwanted = {~((1u << ICMP_ECHOREPLY) | (1u << ICMP_DEST_UNREACH))};
  const int discovery = IP_PMTUDISC_PROBE;
  UniqueFd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP));
  if (!fd.valid() || ::setsockopt(fd.get(), SOL_RAW, ICMP_FILTER, &unwanted, sizeof unwanted) < 0 ||
      ::setsockopt(fd.get(), IPPROTO_IP, IP_MTU_DISCOVER, &discovery, sizeof discovery) < 0) {
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

int32_t ReceiveIcmp(int fd, uint8_t* buffer, size_t capacity, uint32_t* ends, size_t count) noexcept {
  size_t end = 0;
  size_t received = 0;
  while (received < count && capacity - end >= kMaxIcmpBytes) {
    const ssize_t bytes = ::recv(fd, buffer + end, kMaxIcmpBytes, MSG_DONTWAIT);
    if (bytes < 0 && received > 0) break;  // an error that stays is told by the next call
    if (bytes < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    end += static_cast<size_t>(bytes);
    ends[received++] = static_cast<uint32_t>(end);
  }
  return static_cast<int32_t>(received);
}

}  // namespace twill
