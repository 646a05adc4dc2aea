// A TUN and a socket without a kernel: the linker gives the ports these instead of the system calls (--wrap). A test
// scripts what is read and received and which errno comes next, and looks at what was written and sent.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "../../addon/engine/engine.h"
#include "../../addon/packet/ipv4.h"

namespace test {

using Bytes = std::vector<uint8_t>;

struct Message {
  uint32_t address = 0;  // outer source or destination
  uint16_t port = 8285;
  Bytes data;
  int segment = 0;       // UDP_GRO or UDP_SEGMENT size; 0 without
  bool truncated = false;
  bool dont_fragment = false;  // sent with IP_PMTUDISC_DO or IPV6_DONTFRAG
  std::optional<twill::Address> v6 = {};  // instead of `address`
  uint32_t flow_label = 0;
};

// What a socket remembers, as far as sending goes.
struct FakeSocket {
  uint32_t bound = 0;
  uint32_t connected = 0;      // of IPv6 the last word, as in path_mtu
  bool wants_errors = false;   // IP_RECVERR
  int mtu_discovery = 1;       // IP_PMTUDISC_WANT
  int error = 0;               // sk_err: fails the next call, whatever that is about
  std::deque<int> error_queue;
};

// What the code under test sees as the kernel. One at a time; all members may be changed between calls.
struct FakeKernel {
  std::deque<Bytes> tun_input;         // virtio_net_hdr and packet
  std::deque<Message> udp_input;
  std::vector<Bytes> tun_output;
  std::vector<Message> udp_output;
  std::deque<int> send_errors;         // for the next send calls; 0 lets one through
  std::deque<int> write_errors;
  std::deque<int> read_errors;
  int refuse_superpackets = 0;         // errno for each write of one
  int refuse_trains = 0;               // errno for each send of one
  int refuse_labels = 0;               // errno for each send with a flow label
  int send_at_most = 0;                // messages per sendmmsg; 0 is all
  int icmp_flood = 0;                  // errno of the ICMP message about another peer that comes before each send
  std::map<uint32_t, int> path_mtu;    // by peer, outer; from the listen address only. 65535 without
  std::map<int, FakeSocket> sockets;   // by descriptor
  uint64_t sends = 0;

  FakeKernel();
  ~FakeKernel();
};

inline constexpr uint32_t kListenAddress = 0x7f000001;  // real sockets are bound to it

// An engine on the fake kernel: offloads granted, merging on unless it is not to be probed. Own address 10.5.1.0,
// listening on kListenAddress.
// Of IPv6 it has fd00::a05:100, when it carries that, and listens on ::1 as well when `outer_v6` is set.
std::shared_ptr<twill::Engine> OpenFakeEngine(bool offload = true, bool probe = true, twill::Families families = {},
                                              bool outer_v6 = false);
std::shared_ptr<twill::Engine> OpenFakeEngine(const twill::OffloadSwitches& offload, bool probe = true,
                                              twill::Families families = {}, bool outer_v6 = false);

// virtio_net_hdr and packet, as a TUN gives them.
Bytes TunFrame(const Bytes& packet, const twill::VnetHeader& vnet = {});

template <typename Index>
uint64_t Drops(const twill::CounterBlock<Index>& block, Index first) {
  uint64_t sum = 0;
  for (size_t i = static_cast<size_t>(first); i < twill::CounterBlock<Index>::kSize; i++) sum += block.Get(i);
  return sum;
}

// Whether every packet has ended in one counter.
bool CountersAddUp(twill::Queue& queue);

inline uint64_t Count(twill::Queue& queue, twill::Outbound index) {
  return queue.outbound.Get(static_cast<size_t>(index));
}
inline uint64_t Count(twill::Queue& queue, twill::Inbound index) {
  return queue.inbound.Get(static_cast<size_t>(index));
}

}  // namespace test
