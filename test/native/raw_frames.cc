// Frames to and from one device as lines of hexadecimal digits: `raw_frames DEVICE`.
//
// A line in is sent, a line out was received: the letter of its kind (h for us, b broadcast, m multicast, o for
// another, s sent by this host) and the frame. Each has a virtio_net_hdr of 10 bytes before it, so that superpackets
// and checksums that are not filled in pass as they are. A device without a link layer has none in its frames. Each
// line in is answered by "sent", or by "refused" and the errno.

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int kVnetHeader = 10;

int g_socket = -1;

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

// True when the device has no link layer.
bool Open(const char* name) {
  g_socket = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
  if (g_socket < 0) Fail("socket");
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(::if_nametoindex(name));
  const int on = 1;
  if (::setsockopt(g_socket, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0) Fail("PACKET_VNET_HDR");
  if (::bind(g_socket, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) Fail("bind");
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (::ioctl(g_socket, SIOCGIFHWADDR, &request) < 0) Fail("SIOCGIFHWADDR");
  return request.ifr_hwaddr.sa_family != ARPHRD_ETHER;
}

int Digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

void Send(const std::string& line, const char* name, bool is_bare) {
  std::vector<uint8_t> bytes(line.size() / 2);
  for (size_t i = 0; i < bytes.size(); i++) {
    bytes[i] = static_cast<uint8_t>(Digit(line[2 * i]) << 4 | Digit(line[2 * i + 1]));
  }
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(::if_nametoindex(name));
  const bool is_ipv6 = is_bare && bytes.size() > kVnetHeader && bytes[kVnetHeader] >> 4 == 6;
  to.sll_protocol = htons(is_ipv6 ? ETH_P_IPV6 : ETH_P_IP);
  if (::sendto(g_socket, bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) {
    std::printf("refused %d\n", errno);
  } else {
    std::printf("sent\n");
  }
}

void Receive() {
  static uint8_t bytes[70'000];
  sockaddr_ll from{};
  socklen_t size = sizeof from;
  auto* address = reinterpret_cast<sockaddr*>(&from);
  const ssize_t length = ::recvfrom(g_socket, bytes, sizeof bytes, MSG_DONTWAIT, address, &size);
  if (length < 0) return;
  std::putchar("hbmos"[from.sll_pkttype > 4 ? 0 : from.sll_pkttype]);
  std::putchar(' ');
  for (ssize_t i = 0; i < length; i++) std::printf("%02x", bytes[i]);
  std::putchar('\n');
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const bool is_bare = Open(arguments[1]);
  std::printf("ready\n");
  std::fflush(stdout);
  std::string pending;
  char input[65'536];
  for (;;) {
    pollfd wait[2] = {{STDIN_FILENO, POLLIN, 0}, {g_socket, POLLIN, 0}};
    if (::poll(wait, 2, -1) < 0) return 1;
    if ((wait[1].revents & POLLIN) != 0) Receive();
    if ((wait[0].revents & (POLLIN | POLLHUP)) != 0) {
      const ssize_t length = ::read(STDIN_FILENO, input, sizeof input);
      if (length <= 0) return 0;
      pending.append(input, static_cast<size_t>(length));
      for (size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
        Send(pending.substr(0, end), arguments[1], is_bare);
        pending.erase(0, end + 1);
      }
    }
    std::fflush(stdout);
  }
}
