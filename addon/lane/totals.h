// What the lane did, and why it left a packet to the engine: one value of a per-CPU map, added up when it is read.
//
// Packets and bytes are inner ones after splitting. What is left to the engine ends there in a counter of its own, so
// these say only why, and a superpacket is one. The names are the twins of LANE_TOTALS in src/native/counters.ts;
// test/boundary compares them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace twill {

// clang-format off
#define TWILL_LANE_TOTALS(X) \
  X(out_packets)           /* sent by the lane */ \
  X(out_bytes) \
  X(in_packets)            /* delivered by the lane */ \
  X(in_bytes) \
  X(out_failed)            /* dropped: the kernel refused the second half of a change to the packet */ \
  X(in_failed) \
  X(out_left_unclean)      /* options, a fragment, TTL 1, no unicast, or a length that is not the packet's */ \
  X(out_left_no_route)     /* no lease, our own subnet, another host's source, our own datagrams */ \
  X(out_left_too_big)      /* larger than the path to the peer takes */ \
  X(out_left_unproven)     /* the peer has not been heard by a lane */ \
  X(out_left_flow)         /* the flow has been with the engine of late */ \
  X(out_left_superpacket)  /* in a sparse lane, not of TCP, or of too many pieces */ \
  X(out_left_rate)         /* above what one CPU may send by the lane */ \
  X(out_left_no_path)      /* the kernel knows no neighbour or no route, or is told not to forward */ \
  X(out_left_encapsulated) /* a packet in a tunnel already, or there was no memory for the outer header */ \
  X(in_left_unclean)       /* sent by a lane, and not one clean packet */ \
  X(in_left_not_admitted)  /* sent by a lane, and not from the host that owns its source, or not to our subnet */ \
  X(in_left_too_big)       /* larger than the TUN device takes */ \
  X(in_left_behind)        /* not to overtake what waits in the socket for a worker that is late */
// clang-format on

#define TWILL_ENUM_MEMBER(name) k_##name,
enum class LaneTotal : uint32_t { TWILL_LANE_TOTALS(TWILL_ENUM_MEMBER) kCount };
#undef TWILL_ENUM_MEMBER

inline constexpr size_t kLaneTotals = static_cast<size_t>(LaneTotal::kCount);

}  // namespace twill
