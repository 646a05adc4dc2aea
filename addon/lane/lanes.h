// The lane an engine has, and the one that is to take its place: opened and filled, not attached yet.
#pragma once

#include <memory>

#include "lane/lane.h"
#include "lane/worker_board.h"

namespace twill {

class Lanes {
 public:
  // `follows` a process that may have left datagrams in the sockets.
  Lanes(size_t queues, bool follows) : board_(queues), follows_(follows) {}

  // Where the workers say how far they are.
  WorkerBoard& board() noexcept { return board_; }

  // 0, or why not: what there is stays.
  std::optional<Failure> Open(LaneOptions options) noexcept {
    if (const auto failure = board_.Make(follows_)) return failure;
    Result<std::unique_ptr<Lane>> opened = Lane::Open(std::move(options), latest(), board_.map());
    if (!opened.ok()) return opened.failure();
    next_ = std::move(opened.value());
    return std::nullopt;
  }
  // 0 or -errno: -ENOENT when none was opened.
  int Attach() noexcept {
    if (!next_) return -ENOENT;
    if (follows_ && !current_) board_.Follow();
    const int error = next_->Attach(current_.get());
    if (error != 0) return error;
    current_ = std::move(next_);
    return 0;
  }
  // The one that was opened last, which shares its counters with the one before; nullptr without any.
  Lane* latest() const noexcept { return next_ ? next_.get() : current_.get(); }
  // Of both.
  int SetMode(LaneMode mode) noexcept {
    if (latest() == nullptr) return -ENOENT;
    const int error = current_ ? current_->SetMode(mode) : 0;
    return error != 0 || !next_ ? error : next_->SetMode(mode);
  }
  void Unpin() noexcept {
    if (latest() != nullptr) latest()->Unpin();
  }
  // What is not pinned carries nothing any more.
  void End() noexcept {
    if (current_) current_->End();
  }
  // What is not pinned ends.
  void Close() noexcept {
    next_.reset();
    current_.reset();
  }

 private:
  WorkerBoard board_;
  bool follows_;
  std::unique_ptr<Lane> current_;
  std::unique_ptr<Lane> next_;
};

}  // namespace twill
