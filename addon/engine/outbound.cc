// A packet on its way out, by the numbers that stand at the functions:
//
//   1 ReadBatch    taken from the TUN device, one superpacket or packet a read; how long others wait is noted
//   2 Describe     header and virtio_net_hdr checked; addresses, length and pieces written into the arena
//   3 (JavaScript) src/dataplane/outbound.ts looks the peer up and writes the verdict into the arena
//   4 SendPacket   verdict, TTL and path MTU: dropped, answered with an ICMP error, or on to 5
//   5 SendWhole,   copied into a train, cut where it is a superpacket; checksum finished, TTL lowered; a flow keeps its
//     SendSplit    order among trains
//   6 Flush        trains sent (sender.h); what a narrower path refused is answered
//
// Each ends in packets_out or in exactly one drop counter: in 2, 4 or 6, or in drop_stopped when its batch never got
// to 4.

#include "engine/outbound.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "kernel/clock.h"
#include "kernel/udp_socket.h"

namespace twill {

namespace {

// Superpackets are read one behind the other until this many bytes are in use: small enough for batch and trains to
// stay in a 1 MiB L2 cache together.
constexpr size_t kBatchBytes = 192 * 1024;
// A batch also ends here: with pieces of a few bytes, 192 KiB would be some hundred thousand datagrams before the next
// look at the stop flag, or at anybody else's packets. Full superpackets never get near it (46 pieces at MTU 1500).
constexpr uint32_t kBatchPieces = 4096;
constexpr size_t kReadRoom = sizeof(VnetHeader) + kMaxPacket;
// The virtio_net_hdr is read to an address that is 6 modulo 16, so that the IPv4 header behind it is aligned.
constexpr size_t kAlign = 64;
constexpr size_t kLead = 6;
constexpr size_t kMemoryBytes = kBatchBytes + kReadRoom + 2 * kAlign;

// Of what was read; 0 for a single packet. The kernel gives a type to what had a gso_size in its queue.
size_t SuperpacketBytes(const uint8_t* buffer, size_t length) noexcept {
  if (length < sizeof(VnetHeader)) return 0;
  VnetHeader vnet;
  std::memcpy(&vnet, buffer, sizeof vnet);
  return vnet.gso_type == kVnetGsoNone ? 0 : length - sizeof(VnetHeader);
}

// One of a few for each inner flow, so that the network can spread them over its paths (RFC 6438) and yet lone packets
// of many flows share trains. Never 0, which says that there is none.
uint32_t FlowLabelOf(const FlowKey& flow) noexcept {
  constexpr uint32_t kLabels = 8;
  const uint32_t of = (flow.is_fragment ? flow.pair : flow.flow) % kLabels;
  return (of + 1) * 0x1b3c7;
}

// Packets that the queue of the device can hold: TX_QUEUE_LENGTH of src/backend/udp/device.ts.
constexpr size_t kQueuePackets = 2000;

}  // namespace

OutboundPort::OutboundPort(std::shared_ptr<Engine> engine, size_t queue, int32_t* arena)
    : engine_(std::move(engine)),
      queue_(engine_->queue(queue)),
      arena_(arena, kOutboundCapacity, outbound_field::kCount),
      sender_(*engine_, queue_, arena_),
      waiting_(engine_->load(queue)),
      progress_(&engine_->lanes().board(), WorkerKind::kSends, queue, kQueuePackets),
      limiter_(engine_->is_adopted()),
      memory_(new uint8_t[kMemoryBytes + kAlign]),
      packets_(new Packet[kOutboundCapacity]) {}

OutboundPort::~OutboundPort() {
  for (int32_t i = 0; i < count_; i++) queue_.outbound.Add(Outbound::k_drop_stopped, packets_[i].segments);
  queue_.outbound_turn.Pass();
}

// HOT
int32_t OutboundPort::Step() noexcept {
  Beat(queue_.outbound_beats);
  if (count_ > 0) SendBatch();
  count_ = 0;
  progress_.Done();
  if (engine_->stopping()) return -ECANCELED;
  const int32_t error = ReadBatch();
  if (count_ > 0) return count_;
  progress_.Done();
  return error;
}

int OutboundPort::Wait() const noexcept {
  const int events = engine_->Wait(queue_.tun.get(), -1, progress_.SleepMs(kMaxWaitMs));
  if (events < 0) return events;
  // A deleted device polls as an error for ever.
  return (events & (POLLERR | POLLHUP | POLLNVAL)) != 0 ? -EBADFD : 0;
}

// HOT
// 1. Fills packets_ until the TUN is empty or the batch is full, be it of packets, bytes or pieces. 0 or -errno;
// packets read before an error are kept.
int32_t OutboundPort::ReadBatch() noexcept {
  uint8_t* base = memory_.get();
  base += kAlign - reinterpret_cast<uintptr_t>(base) % kAlign;
  size_t at = kLead;
  int32_t reads = 0;
  uint32_t pieces = 0;
  const uint64_t now_ms = MonotonicMs();
  waiting_.Look(now_ms * 1'000'000);
  progress_.Look(now_ms);
  limiter_.Look(now_ms);
  while (reads < kOutboundCapacity && at < kBatchBytes && pieces < kBatchPieces) {
    waiting_.Note();
    const ssize_t length = ::read(queue_.tun.get(), base + at, kReadRoom);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return -errno;
      waiting_.Empty();
      progress_.Empty();
      return 0;
    }
    reads++;
    progress_.Took(1);
    waiting_.Read(SuperpacketBytes(base + at, static_cast<size_t>(length)));
    queue_.outbound.Add(Outbound::k_reads, 1);
    if (Describe(base + at, static_cast<size_t>(length))) {
      pieces += packets_[count_ - 1].segments;
      at = (at + static_cast<size_t>(length) + kAlign - 1) / kAlign * kAlign + kLead;
    }
  }
  return 0;
}

// HOT
// 2. False for what is dropped.
bool OutboundPort::Describe(uint8_t* buffer, size_t length) noexcept {
  Packet& packet = packets_[count_];
  packet.segments = 1;
  packet.header = {};
  packet.data = buffer + sizeof(VnetHeader);
  const size_t received = length < sizeof(VnetHeader) ? 0 : length - sizeof(VnetHeader);
  queue_.outbound.Add(Outbound::k_bytes_in, received);

  std::optional<Outbound> fault;
  switch (ParseInner(packet.data, received, engine_->options().families, &packet.header)) {
    case HeaderFault::kNone:
      break;
    case HeaderFault::kShort:
      fault = Outbound::k_drop_short;
      break;
    case HeaderFault::kVersion:
      fault = Outbound::k_drop_version;
      break;
    case HeaderFault::kHeaderLength:
      fault = Outbound::k_drop_header_length;
      break;
    default:
      fault = Outbound::k_drop_total_length;
  }
  if (!fault) {
    VnetHeader vnet;
    std::memcpy(&vnet, buffer, sizeof vnet);
    if (!CheckVnet(vnet, &packet)) {
      packet.segments = 1;
      fault = Outbound::k_drop_vnet_header;
    } else if (packet.segments > kMaxPieces) {
      packet.segments = 1;
      fault = Outbound::k_drop_too_many_pieces;
    } else if (!DestinationIsUnicast(packet.data, packet.header, engine_->options().rules.reserved) ||
               (packet.header.IsV6() && !SourceIsUnicast(packet.data, packet.header))) {
      fault = Outbound::k_drop_not_unicast;
    } else if (IsOwnTunnelTraffic(packet)) {
      fault = Outbound::k_drop_recursion;
    }
  }
  queue_.outbound.Add(Outbound::k_packets_in, packet.segments);
  if (fault) {
    Drop(packet, *fault, {});
    return false;
  }
  const int32_t largest = packet.segments == 1 ? packet.header.total_length : packet.headers_length + packet.gso_size;
  DescribeEnds(arena_, outbound_field::kEnds, count_, packet.data, packet.header);
  arena_.At(outbound_field::kLength, count_) = largest;
  arena_.At(outbound_field::kSegments, count_) = packet.segments;
  count_++;
  return true;
}

// HOT
// Believes nothing the header says about lengths: forwarded packets carry whatever their sender claimed.
bool OutboundPort::CheckVnet(const VnetHeader& vnet, Packet* packet) noexcept {
  const InnerHeader& header = packet->header;
  packet->headers_length = 0;
  packet->csum_start = 0;
  packet->csum_offset = 0;
  if ((vnet.flags & kVnetNeedsCsum) != 0) {
    if (vnet.csum_start < header.header_length || vnet.csum_start + vnet.csum_offset + 2 > header.total_length) {
      return false;
    }
    packet->csum_start = vnet.csum_start;
    packet->csum_offset = vnet.csum_offset;
  }
  const uint8_t type = static_cast<uint8_t>(vnet.gso_type & ~kVnetGsoEcn);
  if (type == kVnetGsoNone) return true;

  const bool is_tcp = type == (header.IsV6() ? kVnetGsoTcpV6 : kVnetGsoTcpV4);
  const uint8_t protocol = is_tcp ? kProtocolTcp : kProtocolUdp;
  if ((!is_tcp && type != kVnetGsoUdpL4) || header.protocol != protocol || vnet.gso_size == 0 || header.IsFragment() ||
      header.has_route) {
    return false;
  }
  size_t headers = header.header_length + kUdpHeader;
  if (is_tcp) {
    if (header.header_length + 20u > header.total_length) return false;
    const size_t tcp = (packet->data[header.header_length + 12] >> 4) * 4u;
    if (tcp < 20) return false;
    headers = header.header_length + tcp;
  }
  if (headers > header.total_length) return false;
  const uint32_t payload = static_cast<uint32_t>(header.total_length - headers);
  const uint32_t segments = (payload + vnet.gso_size - 1) / vnet.gso_size;
  if (segments <= 1) return true;  // legal, and then an ordinary packet
  packet->headers_length = static_cast<uint16_t>(headers);
  packet->payload = payload;
  packet->gso_size = vnet.gso_size;
  packet->segments = static_cast<uint16_t>(segments);
  return true;
}

// Our own datagrams, routed into the TUN: encapsulating them again would double them without end.
bool OutboundPort::IsOwnTunnelTraffic(const Packet& packet) const noexcept {
  const EngineOptions& own = engine_->options();
  const InnerHeader& header = packet.header;
  const std::optional<Address>& listen = own.listen[header.IsV6()];
  if (header.protocol != kProtocolUdp || !listen || !(SourceOf(packet.data, header) == *listen)) return false;
  if (header.IsLaterFragment()) return true;
  if (header.total_length < header.header_length + kUdpHeader) return false;
  const uint8_t* udp = packet.data + header.header_length;
  return LoadBe16(udp) == own.port || LoadBe16(udp + 2) == own.port;
}

// HOT
// 4 to 6.
void OutboundPort::SendBatch() noexcept {
  const uint64_t now_ms = MonotonicMs();
  for (int32_t i = 0; i < count_; i++) SendPacket(packets_[i], i, now_ms);
  Flush();
}

// HOT
// Of the outer destination; zeros when the verdict names none.
HostAddress OutboundPort::PeerOf(int32_t index) const noexcept {
  if (arena_.At(outbound_field::kOuterWide, index) != 0) {
    return {arena_.GetAddress(outbound_field::kPeerAddress, outbound_field::kPeerAddressRest, index), true};
  }
  return HostAddress::V4(static_cast<uint32_t>(arena_.At(outbound_field::kPeerAddress, index)));
}

// HOT
// 4.
void OutboundPort::SendPacket(const Packet& packet, int32_t index, uint64_t now_ms) noexcept {
  const HostAddress peer = PeerOf(index);
  const bool is_v6 = packet.header.IsV6();
  const Address reply_source =
      is_v6 ? arena_.GetAddress(outbound_field::kReplySource, outbound_field::kReplySourceRest, index)
            : Address::V4(static_cast<uint32_t>(arena_.At(outbound_field::kReplySource, index)));
  const int32_t verdict = arena_.At(outbound_field::kVerdict, index);
  if (verdict != 0) {
    const auto reason = static_cast<Outbound>(verdict);
    Drop(packet, reason, peer);
    if (reason == Outbound::k_drop_no_route) {
      Answer(packet, {IcmpCause::kNoRoute, 0, engine_->options().reply_source[is_v6]}, now_ms);
    }
    return;
  }
  if (packet.header.ttl <= 1) {
    Drop(packet, Outbound::k_drop_ttl_expired, peer);
    if (packet.header.ttl == 1) Answer(packet, {IcmpCause::kTimeExceeded, 0, reply_source}, now_ms);
    return;
  }
  const int32_t length = arena_.At(outbound_field::kLength, index);
  Destination to = {peer,
                    static_cast<uint16_t>(arena_.At(outbound_field::kPeerPort, index)),
                    sender_.SegmentLimit(peer, length, now_ms),
                    arena_.At(outbound_field::kPeerId, index),
                    false,
                    reply_source};
  const int32_t mtu = arena_.At(outbound_field::kPeerMtu, index);
  if (length > mtu) {
    if (RefusedWhenTooBig(packet.data, static_cast<uint32_t>(length))) {
      Drop(packet, Outbound::k_drop_too_big, peer);
      Answer(packet, {IcmpCause::kTooBig, static_cast<uint16_t>(mtu), reply_source}, now_ms);
      return;
    }
    to.limit = 1;  // the kernel fragments the outer datagram, which it does not do for a train
    to.may_fragment = true;
    to.path_mtu = static_cast<uint16_t>(mtu);
  }

  const FlowKey flow = FlowKeyOf(packet.data, packet.header);
  if (peer.is_v6 && sender_.HasLabels(now_ms)) to.flow_label = FlowLabelOf(flow);
  if (packet.segments == 1) {
    SendWhole(packet, to, flow);
  } else {
    SendSplit(packet, to, flow);
  }
}

// HOT
// 5, of a single packet.
void OutboundPort::SendWhole(const Packet& packet, const Destination& to, const FlowKey& flow) noexcept {
  const uint16_t length = packet.header.total_length;
  uint32_t order = flows_.Earliest(flow);
  uint8_t* at = Reserve(to, length, false, &order);
  flows_.Note(flow, order);
  if (packet.csum_start == 0) {
    std::memcpy(at, packet.data, length);
  } else {
    // The field holds the sum of the pseudo header, so summing it with the rest finishes the checksum.
    std::memcpy(at, packet.data, packet.csum_start);
    const uint16_t checksum =
        Finish(CopyAndSum(at + packet.csum_start, packet.data + packet.csum_start, length - packet.csum_start));
    const bool is_udp = packet.header.protocol == kProtocolUdp;
    StoreWord(at + packet.csum_start + packet.csum_offset, is_udp && checksum == 0 ? 0xffff : checksum);
  }
  DecrementTtl(at);
}

// HOT
// 5, of a superpacket.
void OutboundPort::SendSplit(const Packet& packet, const Destination& to, const FlowKey& flow) noexcept {
  SegmentTemplate segment;
  const uint8_t* udp_checksum = packet.data + packet.header.header_length + kUdpCsumOffset;
  const bool keep_zero =
      packet.header.protocol == kProtocolUdp && packet.csum_start == 0 && LoadWord(udp_checksum) == 0;
  segment.Init(packet.data, packet.header, packet.headers_length, keep_zero);
  const uint8_t* payload = packet.data + packet.headers_length;
  uint32_t order = flows_.Earliest(flow);
  uint32_t offset = 0;
  for (uint32_t i = 0; i < packet.segments; i++) {
    const uint32_t piece = std::min<uint32_t>(packet.gso_size, packet.payload - offset);
    const auto length = static_cast<uint16_t>(packet.headers_length + piece);
    uint8_t* at = Reserve(to, length, i != 0, &order);
    segment.Write(at, payload + offset, piece, i, offset, i + 1u == packet.segments);
    offset += piece;
  }
  flows_.Note(flow, order);
}

// HOT
uint8_t* OutboundPort::Reserve(const Destination& to, uint16_t length, bool follow, uint32_t* order) noexcept {
  uint8_t* at = trains_.Reserve(to, length, follow, order);
  if (at != nullptr) return at;
  Flush();
  *order = 0;
  return trains_.Reserve(to, length, false, order);
}

// HOT
// 6.
void OutboundPort::Flush() noexcept {
  if (trains_.size() == 0) return;
  sender_.Send(trains_);
  for (uint32_t i = 0; i < sender_.too_big_count(); i++) AnswerTooBig(sender_.too_big(i));
  trains_.Clear();
  flows_.Clear();
}

void OutboundPort::Drop(const Packet& packet, Outbound reason, const HostAddress& outer) noexcept {
  queue_.outbound.Add(reason, packet.segments);
  const bool was_read = packet.header.version != 0;
  queue_.outbound_offenders[static_cast<size_t>(reason)].Set(outer, was_read ? packet.data : nullptr);
}

void OutboundPort::Answer(const Packet& packet, const IcmpError& error, uint64_t now_ms) noexcept {
  const size_t length =
      packet.segments == 1 ? packet.header.total_length : size_t{packet.headers_length} + packet.gso_size;
  const EngineOptions& own = engine_->options();
  if (!MayAnswer(packet.data, length, packet.header, own.broadcast, own.rules.reserved)) return;
  if (!limiter_.Allow(packet.header.source, now_ms)) {
    queue_.outbound.Add(Outbound::k_icmp_limited, 1);
    return;
  }
  uint8_t buffer[sizeof(VnetHeader) + kMaxIcmpV6Error] = {};
  const size_t built = BuildIcmpError(buffer + sizeof(VnetHeader), error, packet.data, length, packet.header);
  const ssize_t written = ::write(queue_.tun.get(), buffer, sizeof(VnetHeader) + built);
  queue_.outbound.Add(written < 0 ? Outbound::k_icmp_failed : Outbound::k_icmp_sent, 1);
}

// The path became narrower than the table knows. Without an answer TCP would wait for its timeout, with all it has in
// flight lost at once.
void OutboundPort::AnswerTooBig(const Sender::TooBig& refused) noexcept {
  Packet packet{};
  packet.data = refused.data;
  packet.segments = 1;
  const Families families = engine_->options().families;
  if (ParseInner(packet.data, refused.length, families, &packet.header) != HeaderFault::kNone) return;
  Answer(packet, {IcmpCause::kTooBig, refused.mtu, refused.reply_source}, MonotonicMs());
}

}  // namespace twill
