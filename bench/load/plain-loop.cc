// plain-loop <device> <own address> <peer address> <port>: a tunnel that handles one packet at a time.
//
// What a udp overlay costs without trains, offloads or batches, as flanneld's has none: one thread, a read() and a
// sendto() for each packet from the TUN, a recv() and a write() for each datagram, the TTL lowered at both ends. It
// knows one peer and believes it; a yardstick, nothing to run elsewhere.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../../addon/packet/ipv4.h"

namespace {

constexpr size_t kMaxPacket = 65535;

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

int OpenTun(const char* name) {
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) Fail("/dev/net/tun");
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(fd, TUNSETIFF, &request) < 0) Fail("TUNSETIFF");
  return fd;
}

sockaddr_in NameOf(const char* address, const char* port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  if (inet_pton(AF_INET, address, &name.sin_addr) != 1) {
    std::fprintf(stderr, "not an IPv4 address: %s\n", address);
    std::exit(2);
  }
  return name;
}

// False when the packet must go no further.
bool LowerTtl(uint8_t* packet, ssize_t length) {
  if (length < 20 || packet[0] >> 4 != 4 || packet[8] <= 1) return false;
  twill::DecrementIpv4Ttl(packet);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: plain-loop <device> <own address> <peer address> <port>\n");
    return 2;
  }
  const int tun = OpenTun(argv[1]);
  const sockaddr_in own = NameOf(argv[2], argv[4]);
  const sockaddr_in peer = NameOf(argv[3], argv[4]);
  const int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (udp < 0 || bind(udp, reinterpret_cast<const sockaddr*>(&own), sizeof own) < 0) Fail("socket");
  static uint8_t packet[kMaxPacket];
  pollfd wait[2] = {{tun, POLLIN, 0}, {udp, POLLIN, 0}};
  for (;;) {
    if (poll(wait, 2, -1) < 0) Fail("poll");
    for (bool is_busy = true; is_busy;) {
      is_busy = false;
      const ssize_t out = read(tun, packet, sizeof packet);
      if (out > 0) {
        is_busy = true;
        // A datagram that the kernel does not take is lost, as on any wire.
        if (LowerTtl(packet, out)) {
          (void)!sendto(udp, packet, static_cast<size_t>(out), 0,
                       reinterpret_cast<const sockaddr*>(&peer), sizeof peer);
        }
      }
      const ssize_t in = recv(udp, packet, sizeof packet, 0);
      if (in > 0) {
        is_busy = true;
        if (LowerTtl(packet, in)) (void)!write(tun, packet, static_cast<size_t>(in));
      }
    }
  }
}
