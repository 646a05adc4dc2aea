// Where the workers say how far they are, for the lane's programs: a packet that takes the lane must not overtake one
// of its flow that still waits for a worker.
//
// A worker that gets its share of the CPU has sent what it finds within milliseconds, however much that is, and a flow
// is quiet for longer before it may come back to the lane. One that was kept waiting itself may find older packets.
// So each round of a worker begins with a look at the clock, and everything from before is done when the round is; but
// after a look that came late, only once the queue was found empty.
//
//   Look ─► packets are taken ─► Empty, if there are no more ─► (sent, delivered) ─► Done
//
// What was sent late may still be on its way to the other host's container, so what a sender is done with is said 50 ms
// later.
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

  // Makes it, once; on the main thread.
  std::optional<Failure> Make() noexcept;
  int map() const noexcept { return map_.get(); }
  bool is_made() const noexcept { return shared_.load(std::memory_order_relaxed) != nullptr; }

  // A worker of a queue is done with what came before `tick`. On its own thread.
  void Note(WorkerKind kind, size_t queue, uint32_t tick) noexcept;

 private:
  // The ticks of one queue.
  struct Ticks {
    alignas(64) std::atomic<uint32_t> sent{0};
    alignas(64) std::atomic<uint32_t> delivered{0};
  };

  size_t queues_;
  std::unique_ptr<Ticks[]> ticks_;
  UniqueFd map_;
  std::atomic<LaneWorkers*> shared_{nullptr};
};

// One worker's account of its rounds.
class WorkerProgress {
 public:
  WorkerProgress(WorkerBoard* board, WorkerKind kind, size_t queue) noexcept
      : board_(board), kind_(kind), queue_(queue) {}

  // HOT
  // A round begins.
  void Look(uint64_t now_ms) noexcept {
    if (now_ms - looked_ms_ > kLateMs) is_late_ = true;
    looked_ms_ = now_ms;
  }
  // Something was taken in this round.
  void Took() noexcept { took_ms_ = looked_ms_; }
  // Nothing waits any more.
  void Empty() noexcept { is_late_ = false; }
  // HOT
  // What was taken in the round is gone.
  void Done() noexcept {
    if (is_late_ || !board_->is_made()) return;
    if (kind_ == WorkerKind::kSends) {
      if (looked_ms_ - done_ms_ < kOnTheWayMs) return;
      board_->Note(kind_, queue_, TickOf(done_ms_));
      done_ms_ = looked_ms_;
    } else {
      board_->Note(kind_, queue_, TickOf(looked_ms_));
    }
  }
  // How long the worker may sleep, `most_ms` at most: while there is something to do now and then, the lane goes by
  // when it looked last.
  int SleepMs(int most_ms) const noexcept {
    return board_->is_made() && looked_ms_ - took_ms_ < kBusyMs ? kBusySleepMs : most_ms;
  }

 private:
  static uint32_t TickOf(uint64_t ms) noexcept { return static_cast<uint32_t>((ms * 1'000'000) >> kTickShift); }

  // Longer than a round takes, and shorter than a flow has to be quiet.
  static constexpr uint64_t kLateMs = 20;
  // What was sent is given so long to be delivered by the other host before a packet may follow it by the lane.
  static constexpr uint64_t kOnTheWayMs = 50;
  static constexpr uint64_t kBusyMs = 1000;
  // Below kLateMs, less the 4 ms that the coarse clock may be behind (kernel/clock.h).
  static constexpr int kBusySleepMs = 10;

  WorkerBoard* board_;
  WorkerKind kind_;
  size_t queue_;
  uint64_t looked_ms_ = 0;
  uint64_t took_ms_ = 0;
  uint64_t done_ms_ = 0;  // look of a round that is done, and was so at the next one noted
  bool is_late_ = true;
};

}  // namespace twill
