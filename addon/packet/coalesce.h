// Coalescing: neighbours of one flow become one superpacket, so that the stack above is walked once for all of them.
//
// Packets of a batch are added in the order of arrival and come out as chains, in the order of their first packets.
// A chain is only ever appended to, and only the youngest chain of a flow; whatever cannot be appended ends the chain
// and starts the next one, so the order inside a flow never changes. A fragment may be of any flow of its address pair:
// no chain of the pair goes on past it. Nothing waits for the next batch.
//
// Merged are TCP segments that carry payload and no flag but ACK, PSH and ECE, and UDP datagrams with a checksum, when
// everything a superpacket can state only once is equal: addresses, ports, TTL, TOS with ECN, DF, the flow label, and
// for TCP the acknowledgement, window and options. Sequence numbers (TCP) must join up, and the IP ID must count up by
// one unless DF is set (RFC 6864 section 4). A piece shorter than the first ends the chain, and so does PSH. Packets
// with IPv4 options or IPv6 extension headers are not merged.
//
// All checksums of every merged packet are verified first: a superpacket gets a fresh IP header and is handed to the
// kernel as "checksum to be completed", and a packet that was corrupt on its way here must stay so. One whose checksum
// is still to be completed has none to verify, and is not merged.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "packet/epoch_table.h"
#include "packet/inner.h"

namespace twill {

inline constexpr uint32_t kMaxChainPackets = 64;  // UDP_MAX_SEGMENTS before 6.9 bounds a UDP superpacket
inline constexpr uint32_t kNoPacket = 0xffffffff;

// One received inner packet. The coalescer links those of one chain through `next`.
struct InnerPacket {
  uint8_t* data;
  InnerHeader header;
  uint16_t transport_length;  // transport header in bytes, set by the coalescer for packets it may merge
  uint32_t next;
};

struct Chain {
  uint32_t first;
  uint32_t last;
  uint16_t count;
  uint16_t piece;          // payload bytes of the first packet: the gso_size
  uint32_t payload;        // of all
  uint32_t next_sequence;  // TCP
  bool open;
  bool verified;           // checksums of the first packet
  bool push;               // PSH on the last packet
};

class Coalescer {
 public:
  Coalescer(InnerPacket* packets, uint32_t capacity);

  void Clear() noexcept;
  // `merge_tcp`, `merge_udp`: what the device takes. Returns whether a wrong checksum was the reason not to merge.
  bool Add(uint32_t index, bool merge_tcp, bool merge_udp) noexcept;

  uint32_t size() const noexcept { return count_; }
  const Chain& operator[](uint32_t chain) const noexcept { return chains_[chain]; }

 private:
  void Start(uint32_t index, bool open) noexcept;
  bool CanMerge(const InnerPacket& packet, bool merge_tcp, bool merge_udp, uint16_t* transport_length) const noexcept;
  // Whether `packet` continues `chain`, checksums apart.
  bool Continues(const Chain& chain, const InnerPacket& packet) const noexcept;

  InnerPacket* packets_;
  std::unique_ptr<Chain[]> chains_;
  EpochTable<uint32_t, 512> youngest_;  // chain of a flow
  EpochTable<uint32_t, 512> fences_;    // first chain of an address pair that began behind its last fragment
  uint32_t count_ = 0;
};

// virtio_net_hdr, IPv6 header, TCP header with options.
inline constexpr size_t kSuperpacketHeaders = sizeof(VnetHeader) + kIpv6Header + 60;

// The virtio_net_hdr and headers that go before the payload of a chain of two packets or more, built at `to`, which
// has room for kSuperpacketHeaders bytes. Returns their length. TTL is lowered by one.
size_t BuildSuperpacketHeaders(uint8_t* to, const Chain& chain, const InnerPacket* packets) noexcept;

}  // namespace twill
