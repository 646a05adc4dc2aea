#include "kernel/turn.h"

#include <poll.h>

namespace twill {

int AwaitTurn(int fd, int most_ms) noexcept {
  for (;;) {
    pollfd wait = {fd, 0, 0};  // POLLHUP needs no asking
    const int ready = ::poll(&wait, 1, most_ms);
    if (ready > 0) return (wait.revents & POLLNVAL) != 0 ? -EBADF : 0;
    if (ready == 0) return -ETIMEDOUT;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace twill
