// What one data path owns in this process: TUN queues, UDP sockets, the stop eventfd, counters.
//
// Created on the main thread by OpenEngine, shared by the ports that workers attach, closed when the last of them lets
// go. The registry maps the number that crosses to JavaScript to the engine; its mutex guards only that map and is
// never taken while packets flow. Everything else in an engine is either constant after opening or atomic.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/counters.h"
#include "engine/layout.h"
#include "kernel/failure.h"
#include "kernel/queue_bound.h"
#include "kernel/turn.h"
#include "kernel/unique_fd.h"
#include "lane/lanes.h"
#include "packet/address.h"
#include "packet/inner.h"

namespace twill {

// A worker that finds nothing sleeps no longer than this. Bounded, because a thread that is to be terminated
// (process.exit) notices only when it returns to JavaScript.
inline constexpr int kMaxWaitMs = 100;

// What is used where the kernel grants it: OFFLOAD_FEATURES of src/config/options.ts.
struct OffloadSwitches {
  bool udp_segment;
  bool udp_gro;
  bool tun_tso;
  bool tun_uso;
  bool merge_tcp;
  bool merge_udp;
  bool tun_queue_bound;
};

struct EngineOptions {
  std::string device;
  std::optional<Address> listen[2];  // by family: where a socket of IPv4 is bound, and one of IPv6; one at least
  uint16_t port;
  int32_t queues;
  OffloadSwitches offload;
  Address reply_source[2];  // by family of inner packets: source of an ICMP error that belongs to no peer
  Address own_address[2];   // of the TUN: source of time-exceeded sent to a peer
  uint32_t broadcast;       // of the overlay Network: never answered by ICMP
  int32_t buffer_bytes;     // of the socket, each direction
  Families families = {};      // of inner packets
  ReceivedRules rules = {};    // for packets of other hosts
  bool audit_options = false;  // count packets that are let in only for rules.any_option
  // Descriptors of an earlier run, by queue, -1 where there is none. Their owner closes them.
  std::vector<int> adopted_tun = {};
  std::vector<int> adopted_udp[2] = {};  // by family
};

struct Granted {
  unsigned device_index = 0;  // of the TUN in this network namespace
  unsigned tun = 0;         // bits of TUNSETOFFLOAD
  bool udp_gro = false;
  uint16_t udp_segments = 1;
  int receive_bytes = 0;
  int send_bytes = 0;
  uint32_t queue_bytes = 0;  // bound of each queue of the TUN; 0 without
};

// Who was refused last, per counter: for the one log line per cause. What is not known is all zeros.
struct Offender {
  // Families, the outer host, the inner source, the inner destination.
  static constexpr size_t kWords = 13;
  static constexpr uint32_t kOuterV6 = 1, kInnerV6 = 2;

  std::atomic<uint32_t> words[kWords] = {};

  // `packet` has a right IP header; nullptr when none was read.
  void Set(const HostAddress& outer, const uint8_t* packet) noexcept {
    const bool is_v6 = packet != nullptr && packet[0] >> 4 == 6;
    Address source{}, destination{};
    if (packet != nullptr) {
      const uint8_t* at = packet + (is_v6 ? kIpv6Source : kIpv4Source);
      source = LoadAddress(at, is_v6);
      destination = LoadAddress(at + (is_v6 ? 16 : 4), is_v6);
    }
    words[0].store((outer.is_v6 ? kOuterV6 : 0) | (is_v6 ? kInnerV6 : 0), std::memory_order_relaxed);
    for (size_t i = 0; i < 4; i++) {
      words[1 + i].store(outer.address.words[i], std::memory_order_relaxed);
      words[5 + i].store(source.words[i], std::memory_order_relaxed);
      words[9 + i].store(destination.words[i], std::memory_order_relaxed);
    }
  }
};

// One more beat: one writer, so no locked increment.
inline void Beat(std::atomic<uint32_t>& beats) noexcept {
  beats.store(beats.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// The sockets of a queue for one family of outer addresses; none when this host has no address of it.
struct OuterSockets {
  UniqueFd udp;        // on the shared port: receives, and sends when there is no other
  UniqueFd send_only;  // on a port of its own, when there are several queues
  int mtu_discovery = 0;  // as UdpSocket has it

  int send_fd() const noexcept { return send_only.valid() ? send_only.get() : udp.get(); }
};

// One queue. The outbound worker writes the outbound half, the inbound worker the other.
struct Queue {
  UniqueFd tun;
  OuterSockets outer[2];  // IPv4, IPv6

  CounterBlock<Outbound> outbound;
  CounterBlock<Inbound> inbound;
  // Each worker's heartbeat: it grows with every step, which a sleeping one makes every kMaxWaitMs at least.
  alignas(64) std::atomic<uint32_t> outbound_beats{0};
  alignas(64) std::atomic<uint32_t> inbound_beats{0};
  Offender outbound_offenders[CounterBlock<Outbound>::kSize];
  Offender inbound_offenders[CounterBlock<Inbound>::kSize];
  // kMaxRows each, 1 MiB.
  std::unique_ptr<PeerCounter[]> outbound_peers{new PeerCounter[kMaxRows]};
  std::unique_ptr<PeerCounter[]> inbound_peers{new PeerCounter[kMaxRows]};
  // For who goes on with the descriptors: each worker passes its own when its port closes.
  Turn outbound_turn;
  Turn inbound_turn;
};

class Engine {
 public:
  // Opens everything or nothing: after a failure no descriptor stays open.
  static Result<std::shared_ptr<Engine>> Open(EngineOptions options, int32_t id) noexcept;

  const EngineOptions& options() const noexcept { return options_; }
  const Granted& granted() const noexcept { return granted_; }
  int32_t id() const noexcept { return id_; }
  // nullptr without a bound.
  QueueLoad* load(size_t queue) const noexcept {
    return bound_ ? bound_->load(static_cast<uint32_t>(queue)) : nullptr;
  }
  size_t queue_count() const noexcept { return queues_.size(); }
  Queue& queue(size_t index) noexcept { return *queues_[index]; }
  // The main thread's, but for its board.
  Lanes& lanes() noexcept { return lanes_; }
  // Whether it goes on with descriptors of another one.
  bool is_adopted() const noexcept { return !options_.adopted_tun.empty(); }
  int stop_fd() const noexcept { return stop_.get(); }

  // Sleeps until there is something about `fd` or `other`, which may be -1, `most_ms` at most: what poll(2) says of
  // them, 0 for nothing. -ECANCELED when stopped, else -errno.
  int Wait(int fd, int other, int most_ms) const noexcept;

  // Another process has the descriptors: what is attached to the device is not taken off when this engine closes.
  void Leave() noexcept {
    if (bound_) bound_->Leave();
  }

  bool stopping() const noexcept { return stopping_.load(std::memory_order_relaxed); }
  // Wakes every worker at once and for good: the eventfd is never read again.
  void Stop() noexcept;

  // Whether superpackets of this kind may be written to the TUN.
  bool tcp_merge() const noexcept { return tcp_merge_.load(std::memory_order_relaxed); }
  bool udp_merge() const noexcept { return udp_merge_.load(std::memory_order_relaxed); }
  void RefuseTcpMerge() noexcept { tcp_merge_.store(false, std::memory_order_relaxed); }
  void RefuseUdpMerge() noexcept { udp_merge_.store(false, std::memory_order_relaxed); }

  // Writes a two-segment TCP and UDP superpacket that the stack throws away, and stops merging what the device refuses
  // (kernels with a stricter virtio_net_hdr check do). The device must be up. 0 once the answer is known, and then
  // nothing is written any more; -errno when it must be asked again. On the main thread only.
  int ProbeMerging() noexcept;

 private:
  Engine(EngineOptions options, int32_t id)
      : options_(std::move(options)),
        id_(id),
        lanes_(static_cast<size_t>(options_.queues), is_adopted()) {}
  std::optional<Failure> OpenQueue(int32_t index) noexcept;
  std::optional<Failure> OpenOuter(int32_t index, bool is_v6, OuterSockets* outer) noexcept;
  void JoinQueues() noexcept;

  EngineOptions options_;
  int32_t id_;
  Granted granted_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::unique_ptr<QueueBound> bound_;  // after queues_, so that it goes before they close
  Lanes lanes_;
  UniqueFd stop_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> tcp_merge_{false};
  std::atomic<bool> udp_merge_{false};
  // Whether the device has answered the probe; the main thread's.
  bool tcp_settled_ = false;
  bool udp_settled_ = false;
};

// As Engine::Open, and FindEngine knows it then.
Result<std::shared_ptr<Engine>> OpenEngine(EngineOptions options) noexcept;

std::shared_ptr<Engine> FindEngine(int32_t id) noexcept;

// Stops it and drops the registry's share. Idempotent.
void CloseEngine(int32_t id) noexcept;

}  // namespace twill
