// Where the workers say how far they are, for the lane's programs: a packet that takes the lane must not overtake one
// of its flow that still waits for a worker.
//
// A flow is quiet for a while before it may come back to the lane, but a worker may be kept from the CPU for longer, or
// have a full queue before it. So each round of a worker begins with a look at the clock. What had come by then is done
// with when the queue was found empty, or when as much was taken since as it can hold.
//
//   Look ─► packets are taken ─► Empty, if there are no more ─► (sent, delivered) ─► Done
//
// A look is said, too: a worker may have more to do for a second and longer, which does not make it a dead one.
//
// What leaves a worker is not at its end yet: it may be queued for a CPU that has no time, and after a pause of the
// worker a packet of the lane may come right behind it. So what is done with is said a while later.
//
// The board is a map of BPF with one entry, LaneWorkers in layout.h: made with the first lane of an engine, mapped for
// as long as the engine is there. Until then a worker writes nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "kernel/failure.h"
#include "kernel/unique_fd.h"
#include "lane/layout.h"

namespace twill {

enum class WorkerKind { kSends, kDelivers };

class WorkerBoard {
 public:
  explicit WorkerBoard(size_t queues);
  ~WorkerBoard();
  WorkerBoard(const WorkerBoard&) = delete;
  WorkerBoard& operator=(const WorkerBoard&) = delete;

  // Makes it, once; on the main thread. `follows`: an earlier process may have left datagrams in the sockets, so that
  // the workers count as late ones until they say how far they are.
  std::optional<Failure> Make(bool follows) noexcept;
  // A lane is about to take the place of an earlier process's, which knew what waited: everything does for a moment.
  void Follow() noexcept;
  int map() const noexcept { return map_.get(); }
  bool is_made() const noexcept { return shared_.load(std::memory_order_relaxed) != nullptr; }

  // On the worker's own thread: it looks at its queue at `tick`; it is done with what came before `tick`.
  void Look(WorkerKind kind, size_t queue, uint32_t tick) noexcept;
  void Note(WorkerKind kind, size_t queue, uint32_t tick) noexcept;

 private:
  // Of one worker.
  struct alignas(64) Ticks {
    std::atomic<uint32_t> done{0};
    std::atomic<uint32_t> looked{0};
  };

  // The oldest of all workers of a kind, after one of them is at `tick`.
  uint32_t Oldest(WorkerKind kind, size_t queue, std::atomic<uint32_t> Ticks::*which, uint32_t tick) noexcept;

  size_t queues_;
  std::unique_ptr<Ticks[]> ticks_;  // of those that send, then of those that deliver
  UniqueFd map_;
  std::atomic<LaneWorkers*> shared_{nullptr};
};

// One worker's account of its rounds.
class WorkerProgress {
 public:
  // `room` is how much may wait for the worker, in what Took() counts: packets or bytes.
  WorkerProgress(WorkerBoard* board, WorkerKind kind, size_t queue, size_t room) noexcept
      : board_(board), kind_(kind), queue_(queue), room_(room), left_(room) {}

  // HOT
  // A round begins.
  void Look(uint64_t now_ms) noexcept {
    looked_ms_ = now_ms;
    is_empty_ = false;
    if (!board_->is_made() || now_ms - said_ms_ < kSayMs) return;
    said_ms_ = now_ms;
    board_->Look(kind_, queue_, TickOf(now_ms * kNsPerMs));
  }
  // HOT
  void Took(size_t amount) noexcept {
    took_ms_ = looked_ms_;
    left_ -= amount < left_ ? amount : left_;
  }
  // Nothing waits any more.
  void Empty() noexcept { is_empty_ = true; }
  // HOT
  // What was taken in the round is gone.
  void Done() noexcept {
    if (!board_->is_made() || (!is_empty_ && left_ > 0)) return;
    const uint64_t done_ms = is_empty_ ? looked_ms_ : mark_ms_;
    mark_ms_ = looked_ms_;
    left_ = room_;
    if (looked_ms_ - done_at_ms_ < (kind_ == WorkerKind::kSends ? kSentMs : kDeliveredMs)) return;
    if (done_ms_ != 0) board_->Note(kind_, queue_, TickOf(done_ms_ * kNsPerMs));
    done_ms_ = done_ms;
    done_at_ms_ = looked_ms_;
  }
  // How long the worker may sleep, `most_ms` at most: while there is something to do now and then, the lane goes by
  // when it looked last.
  int SleepMs(int most_ms) const noexcept {
    return board_->is_made() && looked_ms_ - took_ms_ < kBusyMs ? kBusySleepMs : most_ms;
  }

 private:
  static constexpr uint64_t kNsPerMs = 1'000'000;
  // To another host's socket, and to a container.
  static constexpr uint64_t kSentMs = 100;
  static constexpr uint64_t kDeliveredMs = 20;
  static constexpr uint64_t kBusyMs = 1000;
  static constexpr uint64_t kSayMs = 10;
  // With the time above below kLateTicks, less the 4 ms that the coarse clock may be behind (kernel/clock.h).
  static constexpr int kBusySleepMs = 10;

  WorkerBoard* board_;
  WorkerKind kind_;
  size_t queue_;
  size_t room_;
  size_t left_;               // to be taken until what had come at mark_ms_ is done with
  uint64_t mark_ms_ = 0;      // an earlier look
  uint64_t looked_ms_ = 0;
  uint64_t said_ms_ = 0;      // the look that was said last
  uint64_t took_ms_ = 0;
  uint64_t done_ms_ = 0;      // what had come by then was done with at done_at_ms_
  uint64_t done_at_ms_ = 0;
  bool is_empty_ = false;
};

}  // namespace twill
