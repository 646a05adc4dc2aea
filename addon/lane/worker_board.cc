#include "lane/worker_board.h"

#include <sys/mman.h>

#include "kernel/clock.h"
#include "lane/bpf_calls.h"

namespace twill {

WorkerBoard::WorkerBoard(size_t queues) : queues_(queues), ticks_(new Ticks[2 * queues]) {}

WorkerBoard::~WorkerBoard() {
  if (LaneWorkers* shared = shared_.load()) ::munmap(shared, sizeof(LaneWorkers));
}

std::optional<Failure> WorkerBoard::Make(bool follows) noexcept {
  if (is_made()) return std::nullopt;
  if (!map_.valid()) {
    map_ = bpf::CreateMap(
        {BPF_MAP_TYPE_ARRAY, sizeof(uint32_t), sizeof(LaneWorkers), 1, bpf::kMmapable, "twill_workers"});
    if (!map_.valid()) return Failure::Of("BPF_MAP_CREATE workers");
  }
  void* memory = ::mmap(nullptr, sizeof(LaneWorkers), PROT_READ | PROT_WRITE, MAP_SHARED, map_.get(), 0);
  if (memory == MAP_FAILED) return Failure::Of("mmap");
  auto* shared = static_cast<LaneWorkers*>(memory);
  if (follows) {
    const uint32_t now = TickOf(MonotonicNs());
    shared->passed = shared->senders_looked = shared->deliverers_looked = now;
    shared->sent = shared->delivered = now - kLateTicks - 1;
    for (size_t i = 0; i < 2 * queues_; i++) {
      ticks_[i].looked = now;
      ticks_[i].done = shared->sent;
    }
  }
  shared_.store(shared, std::memory_order_release);
  return std::nullopt;
}

void WorkerBoard::Follow() noexcept {
  constexpr uint32_t kFollowTicks = 200;  // attaching takes a few
  LaneWorkers* shared = shared_.load(std::memory_order_relaxed);
  __atomic_store_n(&shared->since, TickOf(MonotonicNs()) + kFollowTicks, __ATOMIC_RELAXED);
}

uint32_t WorkerBoard::Oldest(WorkerKind kind, size_t queue, std::atomic<uint32_t> Ticks::*which,
                             uint32_t tick) noexcept {
  Ticks* own = ticks_.get() + (kind == WorkerKind::kSends ? 0 : queues_);
  (own[queue].*which).store(tick, std::memory_order_relaxed);
  // Two workers that write at once may leave the older one's: the programs then wait a round longer.
  uint32_t oldest = tick;
  for (size_t i = 0; i < queues_; i++) {
    const uint32_t other = (own[i].*which).load(std::memory_order_relaxed);
    if (static_cast<int32_t>(other - oldest) < 0) oldest = other;
  }
  return oldest;
}

// HOT
void WorkerBoard::Look(WorkerKind kind, size_t queue, uint32_t tick) noexcept {
  LaneWorkers* shared = shared_.load(std::memory_order_acquire);
  if (shared == nullptr) return;
  uint32_t& word = kind == WorkerKind::kSends ? shared->senders_looked : shared->deliverers_looked;
  __atomic_store_n(&word, Oldest(kind, queue, &Ticks::looked, tick), __ATOMIC_RELAXED);
}

// HOT
void WorkerBoard::Note(WorkerKind kind, size_t queue, uint32_t tick) noexcept {
  LaneWorkers* shared = shared_.load(std::memory_order_acquire);
  if (shared == nullptr) return;
  const uint32_t oldest = Oldest(kind, queue, &Ticks::done, tick);
  if (kind == WorkerKind::kSends) {
    __atomic_store_n(&shared->sent, oldest, __ATOMIC_RELAXED);
    return;
  }
  __atomic_store_n(&shared->delivered, oldest, __ATOMIC_RELAXED);
  const uint32_t since = __atomic_load_n(&shared->since, __ATOMIC_RELAXED);
  if (since != 0 && static_cast<int32_t>(oldest - since) > 0) __atomic_store_n(&shared->since, 0, __ATOMIC_RELAXED);
}

}  // namespace twill
