// Tells another process, or another engine, that a worker touches no packet any more: a pipe into which nobody writes,
// and whose end is closed then; by the kernel when this process dies.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "kernel/unique_fd.h"

namespace twill {

class Turn {
 public:
  Turn() = default;
  ~Turn() { Pass(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  // What the other one polls, which stays ours; -errno. On the main thread.
  int Open() noexcept {
    if (theirs_.valid()) return theirs_.get();
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) return -errno;
    theirs_ = UniqueFd(ends[0]);
    ours_ = ends[1];
    if (is_over_) Pass();
    return theirs_.get();
  }

  // On the worker's thread, when it has ended.
  void Pass() noexcept {
    is_over_ = true;
    const int fd = ours_.exchange(-1);
    if (fd >= 0) ::close(fd);
  }

 private:
  UniqueFd theirs_;
  std::atomic<int> ours_{-1};
  std::atomic<bool> is_over_{false};
};

// Waits until it has come, `most_ms` at most: 0, -ETIMEDOUT or -errno.
int AwaitTurn(int fd, int most_ms) noexcept;

}  // namespace twill
