// Writes superpackets with a gso_size of our choosing, as a container with CAP_NET_RAW can: AF_PACKET with
// PACKET_VNET_HDR, TCP, one flow.
// Usage: superpackets DEVICE GATEWAY_MAC SOURCE DESTINATION GSO_SIZE PAYLOAD RATE SECONDS
// Prints "writing" before the first one, and at the end how many the kernel took and refused.

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

// struct virtio_net_hdr; linux/virtio_net.h does not compile as C++ everywhere.
struct VnetHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};

constexpr size_t kEthernet = 14;
constexpr size_t kHeaders = kEthernet + 20 + 20;

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

uint32_t Sum(const uint8_t* at, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < length; i += 2) sum += static_cast<uint32_t>(at[i] << 8 | at[i + 1]);
  return sum;
}

uint16_t Fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

void Store16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) return 2;
  const char* device = argv[1];
  const auto gso_size = static_cast<uint16_t>(std::atoi(argv[5]));
  const auto payload = static_cast<size_t>(std::atoi(argv[6]));
  const int64_t rate = std::atoll(argv[7]);
  const auto count = static_cast<int64_t>(static_cast<double>(rate) * std::atof(argv[8]));

  const int fd = ::socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP));
  if (fd < 0) Fail("socket");
  const int one = 1;
  if (::setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0) Fail("PACKET_VNET_HDR");
  sockaddr_ll name{};
  name.sll_family = AF_PACKET;
  name.sll_protocol = htons(ETH_P_IP);
  name.sll_ifindex = static_cast<int>(::if_nametoindex(device));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) < 0) Fail("bind");
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  if (::ioctl(fd, SIOCGIFHWADDR, &request) < 0) Fail("SIOCGIFHWADDR");

  std::vector<uint8_t> frame(sizeof(VnetHeader) + kHeaders + payload, 0x5a);
  const VnetHeader vnet = {1, 1, kHeaders, gso_size, kEthernet + 20, 16};
  std::memcpy(frame.data(), &vnet, sizeof vnet);
  uint8_t* ethernet = frame.data() + sizeof vnet;
  unsigned mac[6];
  if (std::sscanf(argv[2], "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) return 2;
  for (int i = 0; i < 6; i++) ethernet[i] = static_cast<uint8_t>(mac[i]);
  std::memcpy(ethernet + 6, request.ifr_hwaddr.sa_data, 6);
  Store16(ethernet + 12, ETH_P_IP);
  uint8_t* ip = ethernet + kEthernet;
  std::memset(ip, 0, kHeaders - kEthernet);
  ip[0] = 0x45;
  Store16(ip + 2, static_cast<uint16_t>(40 + payload));
  Store16(ip + 6, 0x4000);
  ip[8] = 64;
  ip[9] = IPPROTO_TCP;
  if (inet_pton(AF_INET, argv[3], ip + 12) != 1 || inet_pton(AF_INET, argv[4], ip + 16) != 1) return 2;
  Store16(ip + 10, static_cast<uint16_t>(~Fold(Sum(ip, 20))));
  uint8_t* tcp = ip + 20;
  Store16(tcp, 40000);
  Store16(tcp + 2, 9);  // discard
  tcp[12] = 5 << 4;
  tcp[13] = 0x10;
  // CHECKSUM_PARTIAL: the sum of the pseudo header, not inverted.
  Store16(tcp + 16, Fold(Sum(ip + 12, 8) + IPPROTO_TCP + static_cast<uint32_t>(20 + payload)));

  std::printf("writing\n");
  std::fflush(stdout);
  int64_t taken = 0;
  int64_t refused = 0;
  const int64_t start = NowNs();
  for (int64_t i = 0; i < count; i++) {
    const int64_t due = start + i * 1000000000LL / rate;
    const int64_t early = due - NowNs();
    if (early > 200000) {
      const timespec wait = {0, static_cast<long>(early)};
      nanosleep(&wait, nullptr);
    }
    (::write(fd, frame.data(), frame.size()) < 0 ? refused : taken)++;
  }
  std::printf("taken %lld refused %lld\n", static_cast<long long>(taken), static_cast<long long>(refused));
  return 0;
}
