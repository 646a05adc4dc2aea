// Trains: datagrams to one peer, all of one length (the last may be shorter), sent as one UDP_SEGMENT message.
//
// A trip through the IP stack costs some 60 times what a datagram inside a train costs, so as many datagrams as
// possible must share one, whatever packet they came from: segments of one superpacket go on in the train that the one
// before it left open, and lone packets of many flows (acknowledgements above all) gather by peer and length.
//
// Order: trains leave in the order in which they were opened, and nothing is held beyond one batch. A packet may
// therefore join an open train only if no earlier packet of its flow sits in a train opened later. FlowOrder keeps, by
// hash, the youngest train a flow has used; two flows that share a slot only lose a chance to merge, never their order.
// A fragment must not pass any packet of its address pair, nor be passed by one. Keys are FlowKeyOf()'s.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "packet/address.h"
#include "packet/epoch_table.h"
#include "packet/flow.h"

namespace twill {

inline constexpr uint32_t kMaxTrains = 64;           // messages per sendmmsg call
inline constexpr uint32_t kMaxTrainBytes = 65507;    // 65535 - 20 - 8: one UDP payload

struct Destination {
  HostAddress host;
  uint16_t port;
  uint16_t limit;    // datagrams per message: 1 when this peer or this length takes no UDP_SEGMENT
  int32_t peer_id;
  bool may_fragment = false;  // larger than the path and without DF: the kernel cuts it. Then the limit is 1
  Address reply_source = {};  // of an ICMP error about a packet to this peer
  uint32_t flow_label = 0;    // of IPv6 outside (RFC 6437): a train has one, so that its flows stay on one path
  uint16_t path_mtu = 0;      // inner, of what may be fragmented: the last piece of a superpacket may fit

  bool SameWay(const Destination& other) const noexcept {
    return host == other.host && port == other.port && flow_label == other.flow_label;
  }
};

struct Train {
  Destination to;
  uint16_t size;   // length of every datagram but the last
  uint16_t count;
  uint32_t bytes;
  bool open;
  uint8_t* data;
};

class TrainSet {
 public:
  TrainSet();

  // Room for one datagram of `length` bytes, in the train `*order` or a later one, and its order in `*order`.
  // `follow` lets it end the train `*order` as a shorter last datagram: only for pieces of one superpacket.
  // nullptr when all trains are in use: send them, Clear, and call again.
  uint8_t* Reserve(const Destination& to, uint16_t length, bool follow, uint32_t* order) noexcept;

  uint32_t size() const noexcept { return used_; }
  const Train& operator[](uint32_t index) const noexcept { return trains_[index]; }
  void Clear() noexcept;

 private:
  // Not a multiple of 4096, or the starts of all trains would fall into the same cache sets.
  static constexpr size_t kStride = 65536 + 17 * 64;

  uint8_t* Append(uint32_t index, uint16_t length) noexcept;

  std::unique_ptr<uint8_t[]> memory_;
  std::array<Train, kMaxTrains> trains_{};
  EpochTable<uint32_t, 256> youngest_;  // train, by destination and length
  uint32_t used_ = 0;
};

// Which train a flow may join at the earliest.
class FlowOrder {
 public:
  uint32_t Earliest(const FlowKey& key) const noexcept;
  void Note(const FlowKey& key, uint32_t order) noexcept;
  void Clear() noexcept;

 private:
  struct Pair {
    uint32_t any;        // youngest train of any packet
    uint32_t fragments;  // youngest train of a fragment
  };
  EpochTable<uint32_t, 1024> flows_;  // youngest train
  EpochTable<Pair, 1024> pairs_;
};

}  // namespace twill
