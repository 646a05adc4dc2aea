// The descriptor arena: what crosses between C++ and TypeScript, one array of int32 words per direction.
//
// Structure of arrays: field f of descriptor i is word f * capacity + i; the control words follow the last field. The
// arena is a plain ArrayBuffer owned by the worker that attached it, so no lock guards it: both sides run on one
// thread. Addresses are in host order. src/native/arena.ts is the twin; test/boundary compares the two.
#pragma once

#include <cstddef>
#include <cstdint>

#include "packet/inner.h"

namespace twill {

inline constexpr int32_t kOutboundCapacity = 256;  // TUN reads per batch
inline constexpr int32_t kInboundCapacity = 2048;  // runs per batch; one run per datagram at worst
inline constexpr int32_t kMaxRows = 1 << 16;       // peer rows, as in route-table.ts

// Of an address of IPv6, behind the first word.
inline constexpr int32_t kRestWords = 3;

// The fields of the two addresses of an inner packet.
struct EndFields {
  int32_t wide;
  int32_t source;
  int32_t source_rest;
  int32_t destination;
  int32_t destination_rest;
};

namespace outbound_field {
enum : int32_t {
  kSource,       // in: inner source
  kDestination,  // in: inner destination
  kLength,       // in: bytes of the largest packet after splitting
  kSegments,     // in: packets after splitting
  kVerdict,      // out: 0 to send, else the Outbound counter of the drop
  kPeerAddress,  // out: outer destination
  kPeerPort,     // out
  kPeerMtu,      // out: largest inner packet that fits the path to this peer
  kPeerId,       // out: row of the peer
  kReplySource,  // out: source address of an ICMP error about this packet
  kWide,         // in: 0 for IPv4; 1 for IPv6, whose addresses have three more words each
  kSourceRest,   // in: 3
  kDestinationRest = kSourceRest + kRestWords,       // in: 3
  kReplySourceRest = kDestinationRest + kRestWords,  // out: 3
  kOuterWide = kReplySourceRest + kRestWords,        // out: as kWide, of the outer destination; 0 without one
  kPeerAddressRest,                                  // out: 3
  kCount = kPeerAddressRest + kRestWords,
};
inline constexpr EndFields kEnds = {kWide, kSource, kSourceRest, kDestination, kDestinationRest};
}  // namespace outbound_field

namespace inbound_field {
enum : int32_t {
  kOuterSource,  // in
  kOuterPort,    // in
  kInnerSource,  // in
  kInnerDestination,  // in
  kLength,       // in: bytes of the first packet of the run
  kSegments,     // in: packets in the run
  kVerdict,      // out: 0 to deliver, else the Inbound counter of the drop
  kPeerId,       // out: row of the peer, -1 when there is none
  kAudit,        // out: 1 when strict would have dropped the run
  kWide,         // in: as outbound
  kInnerSourceRest,  // in: 3
  kInnerDestinationRest = kInnerSourceRest + kRestWords,  // in: 3
  kOuterWide = kInnerDestinationRest + kRestWords,        // in: as kWide, of the outer source
  kOuterSourceRest,                                       // in: 3
  kCount = kOuterSourceRest + kRestWords,
};
inline constexpr EndFields kEnds = {kWide, kInnerSource, kInnerSourceRest, kInnerDestination, kInnerDestinationRest};
}  // namespace inbound_field

// Control words, outbound only: path MTU events, each of six words: whether the peer is of IPv6, the four words of its
// address, the inner MTU. The worker reads and zeroes the count.
namespace control {
inline constexpr int32_t kMaxEvents = 16;
inline constexpr int32_t kEventWords = 6;
enum : int32_t { kEventCount = 0, kEvents = 1, kWords = 1 + kEventWords * kMaxEvents };
}  // namespace control

inline constexpr size_t kOutboundArenaWords = outbound_field::kCount * kOutboundCapacity + control::kWords;
inline constexpr size_t kInboundArenaWords = inbound_field::kCount * kInboundCapacity;

class ArenaView {
 public:
  ArenaView(int32_t* words, int32_t capacity, int32_t fields) noexcept
      : words_(words), capacity_(capacity), control_(words + static_cast<size_t>(fields) * capacity) {}
  int32_t& At(int32_t field, int32_t index) const noexcept {
    return words_[static_cast<size_t>(field) * capacity_ + index];
  }
  // All words of an address whose first is in field `first`.
  void SetAddress(int32_t first, int32_t rest, int32_t index, const Address& address) const noexcept {
    At(first, index) = static_cast<int32_t>(address.words[0]);
    for (int32_t i = 0; i < kRestWords; i++) {
      At(rest + i, index) = static_cast<int32_t>(address.words[static_cast<size_t>(i) + 1]);
    }
  }
  Address GetAddress(int32_t first, int32_t rest, int32_t index) const noexcept {
    Address address = Address::V4(static_cast<uint32_t>(At(first, index)));
    for (int32_t i = 0; i < kRestWords; i++) {
      address.words[static_cast<size_t>(i) + 1] = static_cast<uint32_t>(At(rest + i, index));
    }
    return address;
  }
  void PushPathMtu(const HostAddress& peer, int32_t inner_mtu) const noexcept {
    int32_t& count = control_[control::kEventCount];
    if (count >= control::kMaxEvents) return;  // the next packet of that peer raises it again
    int32_t* event = control_ + control::kEvents + control::kEventWords * count;
    event[0] = peer.is_v6;
    for (int i = 0; i < 4; i++) event[1 + i] = static_cast<int32_t>(peer.address.words[i]);
    event[5] = inner_mtu;
    count++;
  }

 private:
  int32_t* words_;
  int32_t capacity_;
  int32_t* control_;
};

// HOT
// `packet` was parsed into `header`.
inline void DescribeEnds(const ArenaView& arena, const EndFields& fields, int32_t index, const uint8_t* packet,
                         const InnerHeader& header) noexcept {
  arena.At(fields.wide, index) = header.IsV6();
  if (header.IsV6()) {
    arena.SetAddress(fields.source, fields.source_rest, index, SourceOf(packet, header));
    arena.SetAddress(fields.destination, fields.destination_rest, index, DestinationOf(packet, header));
    return;
  }
  arena.At(fields.source, index) = static_cast<int32_t>(header.source);
  arena.At(fields.destination, index) = static_cast<int32_t>(header.destination);
}

}  // namespace twill
