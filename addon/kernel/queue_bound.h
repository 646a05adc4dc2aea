// A bound in bytes for the queue of the TUN device.
//
// The device bounds its queue in packets and never pushes back, and a packet may be a superpacket: 2,000 of them are
// 128 MB, or 100 ms. So a small program runs in the kernel for every packet before it is queued (TUNSETFILTEREBPF,
// drivers/net/tun.c, since 4.16). It shares two sums for each queue with the worker: bytes queued, which the program
// adds to, and bytes read, which the worker adds to. A packet that finds more than kQueueBytes between the two, less
// a reserve if it is a superpacket, is dropped, and the device counts it in tx_dropped, as when its queue is full.
//
//   - A single packet weighs kLeastCharge, whatever its length, and a superpacket that at least. So single packets
//     reach the bound just before the queue is full, at an MTU of 9000 as well, where 5 MiB are 600 of them: what the
//     queue itself drops is in the sum of queued bytes already. A worker that finds the queue empty makes the sums
//     equal again, so no such error lasts.
//   - Without a worker that has looked at the queue within a second, everything passes, though it is added up: the
//     device outlives the daemon, and whoever reads it then knows nothing of sums.
//
// The program is assembled here, some 30 instructions, so that no compiler for BPF is needed. Where the kernel refuses
// it (no CAP_BPF, a sysctl, a kernel without BPF), there is no bound in bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernel/unique_fd.h"

namespace twill {

inline constexpr uint32_t kQueueBytes = 5 << 20;
// The part of it that is kept for single packets. What is left are 64 superpackets, 4 ms at 8 Gbit/s: bulk fills the
// queue to its bound, and without a reserve it would be lone packets, echoes and handshakes, that find it full.
inline constexpr uint32_t kReserveBytes = 1 << 20;
// 1,984 packets are kQueueBytes; the queue takes 2,000 (TX_QUEUE_LENGTH in src/backend/udp/device.ts).
inline constexpr uint32_t kLeastCharge = kQueueBytes / 1984;

// The sums of one queue: one element of the map. Each half has a cache line of its own.
struct alignas(64) QueueLoad {
  std::atomic<uint64_t> queued;                        // by the program
  alignas(64) std::atomic<uint64_t> read;              // by the outbound worker
  std::atomic<uint64_t> looked_ns;                     // CLOCK_MONOTONIC, by the outbound worker
};
static_assert(sizeof(QueueLoad) == 128 && sizeof(std::atomic<uint64_t>) == 8);

class QueueBound {
 public:
  // Attaches the program to the device that `tun` is a queue of. nullptr where the kernel does not let us. `tun` stays
  // open longer than the result.
  static std::unique_ptr<QueueBound> Attach(int tun, uint32_t queues) noexcept;
  // Takes away whatever program the device has.
  static void Detach(int tun) noexcept;
  ~QueueBound();
  QueueBound(const QueueBound&) = delete;
  QueueBound& operator=(const QueueBound&) = delete;

  QueueLoad* load(uint32_t queue) const noexcept { return loads_ + queue; }
  // The device is another process's from now on, and so is its program: it is not detached at the end.
  void Leave() noexcept { is_left_ = true; }

 private:
  QueueBound(int tun, QueueLoad* loads, size_t mapped) noexcept : tun_(tun), loads_(loads), mapped_(mapped) {}

  int tun_;
  QueueLoad* loads_;
  size_t mapped_;
  bool is_left_ = false;
};

// The worker's side of one queue. Does nothing without a bound.
class QueueReader {
 public:
  explicit QueueReader(QueueLoad* load) noexcept : load_(load) {}

  // Before a round of reads. What was queued before the first counts as read: an earlier reader may have had it, while
  // this one waited for its turn. What really waits makes the bound looser until the queue is empty.
  void Look(uint64_t now_ns) noexcept {
    if (load_ == nullptr) return;
    if (!has_looked_) {
      Note();
      Empty();
      has_looked_ = true;
    }
    load_->looked_ns.store(now_ns, std::memory_order_relaxed);
  }
  // Before each read: what Empty() takes as read. A packet that is counted but not queued yet is then read for nothing,
  // which makes the bound looser by it until the next time.
  void Note() noexcept {
    if (load_ != nullptr) queued_ = load_->queued.load(std::memory_order_relaxed);
  }
  // A superpacket of so many bytes, or a single packet: 0.
  void Read(size_t bytes) noexcept {
    if (load_ == nullptr) return;
    const uint64_t charge = bytes < kLeastCharge ? kLeastCharge : bytes;
    load_->read.store(load_->read.load(std::memory_order_relaxed) + charge, std::memory_order_relaxed);
  }
  // The queue had nothing.
  void Empty() noexcept {
    if (load_ != nullptr) load_->read.store(queued_, std::memory_order_relaxed);
  }

 private:
  QueueLoad* load_;
  uint64_t queued_ = 0;
  bool has_looked_ = false;
};

}  // namespace twill
