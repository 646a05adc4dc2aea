// What the lane's maps hold: read and written by its programs and by lane.cc, each by offset.
//
//   config  one entry: how much the lane may take
//   routes  the leases, by longest prefix: where to, and which row of the table
//   peers   one entry a row, mapped into the process: packets, bytes, and when a lane was heard there
//   flows   one slot for the flows of one hash: when the engine had a packet of theirs
//   behind  the same for what comes in: when a packet of theirs, of a lane, was left to the socket
//   workers one entry, mapped into the process: how far the engine's workers are
//   totals  one entry for each CPU: what the lane did, and its rate
//
// Addresses and ports are in network order, as packets have them; the rest is in the host's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lane/totals.h"

namespace twill {

// Alone: there is no engine, so nothing is left to it for what flow it belongs to.
enum class LaneMode : uint32_t { kOff, kSparse, kAll, kAlone };

// The programs' time: CLOCK_MONOTONIC in units of 2^20 ns, 1.05 ms, for a shift is cheaper than a division.
inline constexpr int32_t kTickShift = 20;
inline constexpr uint32_t TickOf(uint64_t ns) noexcept { return static_cast<uint32_t>(ns >> kTickShift); }

struct LaneConfig {
  uint32_t mode;
  uint32_t quiet_ticks;       // how long a flow stays with the engine after the packet that took it there
  uint32_t packets_per_tick;  // on one CPU: not counting ICMP, and in a full lane TCP
  uint32_t since_tick;        // when the lane began to send: until it has been quiet_ticks, all flows are the engine's
};

struct LaneRouteKey {
  uint32_t length;   // of the prefix
  uint32_t network;
};

struct LaneRoute {
  uint32_t peer;
  uint16_t port;
  uint16_t mtu;  // largest inner packet, host order
  uint32_t row;
};

// A peer is proven for so long after a packet of its lane was heard. The overlay's echoes go every few seconds
// (src/probe/overlay-prober.ts), so two of them may be lost.
inline constexpr uint64_t kProofNs = 15'000'000'000;

struct alignas(64) LanePeer {
  uint64_t out_packets;
  uint64_t out_bytes;
  uint64_t in_packets;
  uint64_t in_bytes;
  uint64_t heard_ns;  // CLOCK_MONOTONIC; 0 for never
};
static_assert(sizeof(LanePeer) == 64);

// How far the workers are, in ticks: the oldest of all queues. The programs go by it when a worker was kept from the
// CPU, and what waits for it is older than the time that a flow has to be quiet (worker_board.h).
struct LaneWorkers {
  alignas(64) uint32_t sent;       // what came to the TUN device before it was sent 100 ms ago or earlier
  uint32_t senders_looked;         // each worker has looked at its queue since
  alignas(64) uint32_t delivered;  // what came to the socket before it was delivered 20 ms ago or earlier
  uint32_t deliverers_looked;
  alignas(64) uint32_t passed;     // by decap: when it last left a datagram to the socket
  uint32_t behind;                 // by decap: when it last did so with one of a lane that had to wait
  uint32_t since;                  // until `delivered` is later, all of lanes is left to the socket; 0 for never
};
static_assert(sizeof(LaneWorkers) == 192);

// A worker that has something to do looks every 10 ms at least, an idle one every 100 ms. When what it is through with
// is older than the first of these, it is behind. One that has not looked for the second is taken to be dead, so that a
// lane goes on without it. A time that is later than `delivered` by less than the third lies before something that
// waits; all others are long past.
inline constexpr int32_t kLateTicks = 76;          // 80 ms: less than a sender waits
inline constexpr int32_t kDeadTicks = 1 << 10;     // 1.07 s
inline constexpr int32_t kWaitingTicks = 1 << 16;  // 69 s

// Another CPU may have noted a time that is later than this one's last look at the clock.
inline constexpr int32_t kSkewTicks = 8;

inline constexpr uint32_t kLaneFlows = 1 << 16;  // the hash is 16 bits
inline constexpr int32_t kBehindBits = 12;  // and of this one

struct LaneCpu {
  uint64_t totals[kLaneTotals];
  uint32_t tick;   // the one that `count` belongs to
  uint32_t count;  // packets that the lane has taken in it, of those that have a rate
};

}  // namespace twill
