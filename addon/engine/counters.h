// Where every packet ends: the counters of one direction of one queue.
//
// Each block is written by one thread only (the worker of that queue and direction) and read by the main thread at
// scrape time, so a relaxed load and store are enough; no increment is ever locked. Unit: inner packets, after
// splitting (a superpacket of 45 segments counts 45), unless the name says bytes, reads, writes, calls or messages.
//
// The sums that always hold once a worker is idle:
//   outbound: packets_in = packets_out + the sum of all reasons from kFirstOutboundDrop on
//   inbound:  packets_in = packets_out + the sum of all reasons from kFirstInboundDrop on
// The names are the twins of src/native/counters.ts; test/boundary compares them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace twill {

// clang-format off
#define TWILL_OUTBOUND_COUNTERS(X) \
  X(packets_in)          /* read from the TUN */ \
  X(bytes_in) \
  X(reads)               /* successful reads of the TUN: packets or superpackets */ \
  X(packets_out)         /* datagrams the kernel took */ \
  X(bytes_out) \
  X(messages)            /* sendmmsg entries the kernel took; a train is one */ \
  X(trains)              /* messages that carried two datagrams or more by UDP_SEGMENT */ \
  X(send_calls) \
  X(gso_refused)         /* trains that had to be sent again as single datagrams */ \
  X(path_mtu_events) \
  X(fragmented)          /* larger than the path and not to be refused: sent in fragments of the datagram */ \
  X(icmp_sent) \
  X(icmp_limited)        /* ICMP errors not sent because of the rate limit */ \
  X(icmp_failed)         /* ICMP errors the TUN did not take */ \
  X(drop_vnet_header)    /* virtio_net_hdr contradicts the packet */ \
  X(drop_too_many_pieces) /* a superpacket of more than kMaxPieces; never split, so it counts as one packet */ \
  X(drop_short) \
  X(drop_version) \
  X(drop_header_length) \
  X(drop_total_length) \
  X(drop_no_route) \
  X(drop_no_table)       /* the leases are not known yet; the sender is told nothing */ \
  X(drop_own_subnet)     /* destination is on this host, yet the kernel routed it here */ \
  X(drop_hairpin)        /* source belongs to a peer: it came from the overlay */ \
  X(drop_recursion)      /* our own encapsulated traffic */ \
  X(drop_not_unicast)    /* destination: IsUnicast of packet/ipv4.h; of IPv6, either end: IsUnicastIpv6 */ \
  X(drop_ttl_expired) \
  X(drop_too_big)        /* larger than the peer's path MTU, and RefusedWhenTooBig of packet/inner.h */ \
  X(drop_send_blocked)   /* EAGAIN: socket buffer full */ \
  X(drop_send_no_buffer) /* ENOBUFS, ENOMEM */ \
  X(drop_send_unreachable) \
  X(drop_send_denied)    /* EPERM, EACCES: a firewall rule on this host */ \
  X(drop_send_too_big)   /* EMSGSIZE for a single datagram */ \
  X(drop_send_failed)    /* any other errno */ \
  X(drop_stopped)        /* read, but the worker ended before the verdict */

#define TWILL_INBOUND_COUNTERS(X) \
  X(packets_in)          /* datagrams received */ \
  X(bytes_in) \
  X(messages)            /* recvmmsg entries; a GRO train is one */ \
  X(receive_calls) \
  X(packets_out)         /* inner packets the TUN took */ \
  X(bytes_out) \
  X(writes)              /* successful writes to the TUN */ \
  X(superpackets)        /* writes that carried two packets or more */ \
  X(gso_refused)         /* superpackets that had to be written again as single packets */ \
  X(checksum_bad)        /* not merged because the inner checksum is wrong; passed on as it is */ \
  X(audit_would_drop)    /* let in by --source-check audit, refused by strict */ \
  X(icmp_sent) \
  X(icmp_limited) \
  X(icmp_failed) \
  X(drop_truncated)      /* MSG_TRUNC */ \
  X(drop_short) \
  X(drop_version) \
  X(drop_header_length) \
  X(drop_total_length) \
  X(drop_options)        /* OptionsAreHarmless of packet/inner.h says no */ \
  X(drop_fragment_overflow) \
  X(drop_ttl_zero) \
  X(drop_ttl_expired) \
  X(drop_martian_source) \
  X(drop_martian_destination) \
  X(drop_own_outer)      /* outer source is this host */ \
  X(drop_unknown_peer)   /* outer source is no live peer */ \
  X(drop_no_table)       /* nor can it be told, as the leases are not known yet */ \
  X(drop_own_source)     /* inner source lies in our own subnet */ \
  X(drop_spoofed_source) /* inner source belongs to another peer */ \
  X(drop_unowned_source) /* inner source belongs to nobody */ \
  X(drop_not_ours)       /* inner destination is not in our subnet */ \
  X(drop_tun_down)       /* EIO */ \
  X(drop_tun_refused)    /* EINVAL for a single packet */ \
  X(drop_tun_blocked)    /* EAGAIN, ENOBUFS, ENOMEM */ \
  X(drop_tun_gone)       /* device deleted */ \
  X(drop_tun_failed)     /* any other errno */ \
  X(drop_stopped)        /* received, but the worker ended before the verdict */
// clang-format on

#define TWILL_ENUM_MEMBER(name) k_##name,
enum class Outbound : uint32_t { TWILL_OUTBOUND_COUNTERS(TWILL_ENUM_MEMBER) kCount };
enum class Inbound : uint32_t { TWILL_INBOUND_COUNTERS(TWILL_ENUM_MEMBER) kCount };
#undef TWILL_ENUM_MEMBER

inline constexpr Outbound kFirstOutboundDrop = Outbound::k_drop_vnet_header;
inline constexpr Inbound kFirstInboundDrop = Inbound::k_drop_truncated;

// One writer, any reader. Aligned so that two workers never share a cache line.
template <typename Index>
class alignas(64) CounterBlock {
 public:
  static constexpr size_t kSize = static_cast<size_t>(Index::kCount);

  void Add(Index index, uint64_t amount) noexcept {
    auto& cell = cells_[static_cast<size_t>(index)];
    cell.store(cell.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  uint64_t Get(size_t index) const noexcept { return cells_[index].load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> cells_[kSize] = {};
};

// Packets and bytes per table row and direction: what `peers` and `top` show.
struct PeerCounter {
  std::atomic<uint64_t> packets{0};
  std::atomic<uint64_t> bytes{0};

  void Add(uint64_t more_packets, uint64_t more_bytes) noexcept {
    packets.store(packets.load(std::memory_order_relaxed) + more_packets, std::memory_order_relaxed);
    bytes.store(bytes.load(std::memory_order_relaxed) + more_bytes, std::memory_order_relaxed);
  }
};

}  // namespace twill
