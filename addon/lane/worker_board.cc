#include "lane/worker_board.h"

#include <sys/mman.h>

#include "kernel/clock.h"
#include "lane/bpf_calls.h"

namespace twill {

WorkerBoard::WorkerBoard(size_t queues) : queues_(queues), ticks_(new Ticks[queues]) {}

WorkerBoard::~WorkerBoard() {
  if (LaneWorkers* shared = shared_.load()) ::munmap(shared, sizeof(LaneWorkers));
}

std::optional<Failure> WorkerBoard::Make(bool is_late) noexcept {
  if (is_made()) return std::nullopt;
  if (!map_.valid()) {
    map_ = bpf::CreateMap(
        {BPF_MAP_TYPE_ARRAY, sizeof(uint32_t), sizeof(LaneWorkers), 1, bpf::kMmapable, "twill_workers"});
    if (!map_.valid()) return Failure::Of("BPF_MAP_CREATE workers");
  }
  void* memory = ::mmap(nullptr, sizeof(LaneWorkers), PROT_READ | PROT_WRITE, MAP_SHARED, map_.get(), 0);
  if (memory == MAP_FAILED) return Failure::Of("mmap");
  auto* shared = static_cast<LaneWorkers*>(memory);
  if (is_late) {
    shared->passed = static_cast<uint32_t>(MonotonicNs() >> kTickShift);
    shared->sent = shared->delivered = shared->passed - kLateTicks - 1;
  }
  shared_.store(shared, std::memory_order_release);
  return std::nullopt;
}

// HOT
void WorkerBoard::Note(WorkerKind kind, size_t queue, uint32_t tick) noexcept {
  LaneWorkers* shared = shared_.load(std::memory_order_acquire);
  if (shared == nullptr) return;
  const auto own = kind == WorkerKind::kSends ? &Ticks::sent : &Ticks::delivered;
  (ticks_[queue].*own).store(tick, std::memory_order_relaxed);
  // The oldest of all queues. Two workers that write at once may leave the older one's: the programs then wait a round
  // longer.
  uint32_t oldest = tick;
  for (size_t i = 0; i < queues_; i++) {
    const uint32_t other = (ticks_[i].*own).load(std::memory_order_relaxed);
    if (static_cast<int32_t>(other - oldest) < 0) oldest = other;
  }
  uint32_t& word = kind == WorkerKind::kSends ? shared->sent : shared->delivered;
  __atomic_store_n(&word, oldest, __ATOMIC_RELAXED);
}

}  // namespace twill
