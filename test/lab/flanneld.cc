// What a flanneld of the udp mode holds while it runs, and loses with its end: the UDP port and a TUN device that is
// not persistent. In the kernel modes it holds nothing. It carries no packet. Names of the device and port: TUN and
// PORT in the environment; every flag is taken.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main() {
  const char* tun = getenv("TUN");
  const char* port = getenv("PORT");
  if (tun != nullptr && port != nullptr) {
    int device = open("/dev/net/tun", O_RDWR);
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    strncpy(request.ifr_name, tun, IFNAMSIZ - 1);
    if (device < 0 || ioctl(device, TUNSETIFF, &request) < 0) return perror(tun), 1;
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(atoi(port)));
    if (bind(udp, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return perror(port), 1;
  }
  puts("holding");
  fflush(stdout);
  pause();
}
