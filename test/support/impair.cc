// A bad link between two interfaces: `impair IF1 IF2 LOSS REORDER DOUBLE SEED`, probabilities in parts of 10,000.
//
// Every frame is copied from one interface to the other by AF_PACKET, whatever it carries; some are lost, some are held
// back until up to eight later ones have passed, some are sent twice. The generator is seeded, so a run can be
// repeated. Offloads of the links around it must be off, so that frames are what a wire would carry. SIGTERM ends it,
// and it says what it did.

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <random>
#include <vector>

namespace {

volatile sig_atomic_t g_stopped = 0;

struct Held {
  std::vector<uint8_t> frame;
  int after;  // frames that still pass before it
};

int Open(const char* name) {
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(::if_nametoindex(name));
  const int size = 32 << 20;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  const int on = 1;
  // Only what comes in: not what this program sends.
  ::setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  if (fd < 0 || address.sll_ifindex == 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    std::perror(name);
    std::exit(1);
  }
  return fd;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 7) {
    std::fprintf(stderr, "usage: impair IF1 IF2 LOSS REORDER DOUBLE SEED\n");
    return 2;
  }
  struct sigaction stop {};
  stop.sa_handler = [](int) { g_stopped = 1; };
  ::sigaction(SIGTERM, &stop, nullptr);
  const int fds[2] = {Open(arguments[1]), Open(arguments[2])};
  const auto loss = static_cast<uint32_t>(std::atoi(arguments[3]));
  const auto reorder = static_cast<uint32_t>(std::atoi(arguments[4]));
  const auto twice = static_cast<uint32_t>(std::atoi(arguments[5]));
  std::mt19937 random(static_cast<uint32_t>(std::atoi(arguments[6])));
  std::list<Held> held[2];
  uint64_t passed = 0, lost = 0, moved = 0, doubled = 0;
  std::vector<uint8_t> buffer(65536);
  std::printf("impairing\n");
  std::fflush(stdout);
  while (!g_stopped) {
    pollfd wait[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
    // A held frame leaves after 5 ms at the latest, so that the last one of a stream is not held for ever.
    const int ready = ::poll(wait, 2, held[0].empty() && held[1].empty() ? -1 : 5);
    for (int from = 0; from < 2; from++) {
      const int to = fds[1 - from];
      for (int n = 0; n < 64; n++) {
        const ssize_t length = ::recv(fds[from], buffer.data(), buffer.size(), 0);
        if (length <= 0) break;
        const uint32_t dice = random() % 10000;
        if (dice < loss) {
          lost++;
          continue;
        }
        if (dice < loss + reorder) {
          held[from].push_back({{buffer.data(), buffer.data() + length}, static_cast<int>(1 + random() % 8)});
          moved++;
          continue;
        }
        ::send(to, buffer.data(), static_cast<size_t>(length), 0);
        passed++;
        if (dice < loss + reorder + twice) {
          ::send(to, buffer.data(), static_cast<size_t>(length), 0);
          doubled++;
        }
        for (auto it = held[from].begin(); it != held[from].end();) {
          if (--it->after > 0) {
            ++it;
            continue;
          }
          ::send(to, it->frame.data(), it->frame.size(), 0);
          it = held[from].erase(it);
        }
      }
      if (ready == 0) {
        for (const Held& item : held[from]) ::send(to, item.frame.data(), item.frame.size(), 0);
        held[from].clear();
      }
    }
  }
  std::printf("passed %llu lost %llu moved %llu doubled %llu\n", static_cast<unsigned long long>(passed),
              static_cast<unsigned long long>(lost), static_cast<unsigned long long>(moved),
              static_cast<unsigned long long>(doubled));
  return 0;
}
