// A packet on its way in, by the numbers that stand at the functions:
//
//   1 Receive      messages taken from the socket, each of one datagram or of a train that the kernel has merged
//   2 ReadPacket   header checked against what may come out of a tunnel; packets of one sender and one pair of
//                  addresses that follow each other are a run, which the arena describes once
//   3 (JavaScript) src/dataplane/inbound.ts judges the run by its outer and inner source and writes the verdict
//   4 DeliverRun   verdict and TTL: dropped, answered with an ICMP error, or on to 5
//   5 Coalescer    packets of one flow joined to a chain (packet/coalesce.h)
//   6 WriteChain   TTL lowered, written into the TUN device: as a superpacket, or each by itself, its checksum left to
//                  the kernel where the sender's lane left it unfinished
//
// Each ends in packets_out or in exactly one drop counter: in 2, 4 or 6, or in drop_stopped when it never got to 4.

#include "engine/inbound.h"

#include <netinet/udp.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "kernel/clock.h"
#include "kernel/udp_socket.h"

namespace twill {

namespace {

constexpr size_t kMessageBytes = 65536;
// Not a multiple of 4096, or the starts of all buffers would fall into the same cache sets.
constexpr size_t kMessageStride = kMessageBytes + 17 * 64;
// So many superpackets refused in a row mean that the device takes none.
constexpr uint32_t kMaxRefusals = 8;

Inbound DropReason(HeaderFault fault) noexcept {
  switch (fault) {
    case HeaderFault::kShort:
      return Inbound::k_drop_short;
    case HeaderFault::kVersion:
      return Inbound::k_drop_version;
    case HeaderFault::kHeaderLength:
      return Inbound::k_drop_header_length;
    case HeaderFault::kTotalLength:
      return Inbound::k_drop_total_length;
    case HeaderFault::kOptions:
      return Inbound::k_drop_options;
    case HeaderFault::kFragmentOverflow:
      return Inbound::k_drop_fragment_overflow;
    case HeaderFault::kTtlZero:
      return Inbound::k_drop_ttl_zero;
    case HeaderFault::kMartianSource:
      return Inbound::k_drop_martian_source;
    default:
      return Inbound::k_drop_martian_destination;
  }
}

// HOT
bool SameName(const SocketName& a, const SocketName& b) noexcept {
  if (a.v4.sin_port != b.v4.sin_port || a.IsV6() != b.IsV6()) return false;
  return a.IsV6() ? std::memcmp(&a.v6.sin6_addr, &b.v6.sin6_addr, sizeof a.v6.sin6_addr) == 0
                  : a.v4.sin_addr.s_addr == b.v4.sin_addr.s_addr;
}

// HOT
// Bytes of each datagram in a message but the last: what UDP_GRO says, or the whole of one that is not merged.
size_t PieceBytes(const mmsghdr& message) noexcept {
  const msghdr& header = message.msg_hdr;
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return message.msg_len;
  for (const cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
       control = CMSG_NXTHDR(const_cast<msghdr*>(&header), const_cast<cmsghdr*>(control))) {
    if (control->cmsg_level == SOL_UDP && control->cmsg_type == kUdpGro) {
      int size;
      std::memcpy(&size, CMSG_DATA(control), sizeof size);
      if (size > 0) return static_cast<size_t>(size);
    }
  }
  return message.msg_len;
}

}  // namespace

InboundPort::InboundPort(std::shared_ptr<Engine> engine, size_t queue, int32_t* arena)
    : engine_(std::move(engine)),
      queue_(engine_->queue(queue)),
      arena_(arena, kInboundCapacity, inbound_field::kCount),
      limiter_(engine_->is_adopted()),
      memory_(new uint8_t[kMessageStride * kMaxMessages]),
      packets_(new InnerPacket[kPackets]),
      runs_(new Run[kInboundCapacity]),
      coalescer_(packets_.get(), kPackets),
      progress_(&engine_->lanes().board(), WorkerKind::kDelivers, queue,
                static_cast<size_t>(engine_->granted().receive_bytes) + kMaxPacket) {  // it takes one too many
  for (uint32_t i = 0; i < kMaxMessages; i++) {
    parts_[i] = {memory_.get() + i * kMessageStride, kMessageBytes};
    msghdr& header = messages_[i].msg_hdr;
    header.msg_name = &names_[i];
    header.msg_iov = &parts_[i];
    header.msg_iovlen = 1;
    header.msg_control = controls_[i].bytes;
  }
}

InboundPort::~InboundPort() {
  for (int32_t i = 0; i < run_count_; i++) queue_.inbound.Add(Inbound::k_drop_stopped, runs_[i].count);
  for (; next_message_ < message_count_; next_message_++) {
    const mmsghdr& message = messages_[next_message_];
    const size_t piece = PieceBytes(message);
    const uint64_t packets = message.msg_len <= piece ? 1 : (message.msg_len + piece - 1) / piece;
    queue_.inbound.Add(Inbound::k_messages, 1);
    queue_.inbound.Add(Inbound::k_packets_in, packets);
    queue_.inbound.Add(Inbound::k_bytes_in, message.msg_len);
    queue_.inbound.Add(Inbound::k_drop_stopped, packets);
  }
  queue_.inbound_turn.Pass();
}

// HOT
int32_t InboundPort::Step() noexcept {
  if (run_count_ > 0) {
    const int error = DeliverBatch();
    run_count_ = 0;
    packet_count_ = 0;
    if (error != 0) return error;
  }
  // A batch may hold nothing but packets that are dropped at once; the next one is fetched then.
  while (run_count_ == 0) {
    Beat(queue_.inbound_beats);  // malformed datagrams alone never leave this loop
    if (next_message_ == message_count_) {
      progress_.Done();
      if (engine_->stopping()) return -ECANCELED;
      const int error = Receive();
      if (error == -EAGAIN) {
        progress_.Done();
        return 0;
      }
      if (error != 0) return error;
    }
    ReadMessages();
  }
  return run_count_;
}

int InboundPort::Wait() const noexcept {
  // A socket error wakes it too, and is gone once the step has received.
  // One of the two at least is there; poll(2) passes over the other, which is -1.
  const int v4 = queue_.outer[false].udp.get(), v6 = queue_.outer[true].udp.get();
  return std::min(engine_->Wait(v4, v6, progress_.SleepMs(kMaxWaitMs)), 0);
}

// HOT
// 1. 0 or -errno. Each family comes first in every other batch, so that neither is kept waiting by the other.
int InboundPort::Receive() noexcept {
  message_count_ = next_message_ = 0;
  size_t bytes = 0;
  int result = -EAGAIN;
  const uint64_t now_ms = MonotonicMs();
  progress_.Look(now_ms);
  limiter_.Look(now_ms);
  v6_first_ = !v6_first_;
  for (const bool is_v6 : {v6_first_, !v6_first_}) {
    if (!queue_.outer[is_v6].udp.valid()) continue;
    const int error = ReceiveFrom(is_v6, &bytes);
    if (error != -EAGAIN) result = error;
    if (error < 0 && error != -EAGAIN) break;
  }
  return message_count_ > 0 ? 0 : result;  // an error that lasts comes back with the next batch
}

// HOT
int InboundPort::ReceiveFrom(bool is_v6, size_t* bytes) noexcept {
  const int fd = queue_.outer[is_v6].udp.get();
  // A lane has only what comes over IPv4, so what it must not overtake waits there. Without that there is no lane.
  const bool is_lanes = !is_v6;
  while (message_count_ < kMaxMessages && *bytes < kBatchBytes) {
    const uint32_t first = message_count_;
    const uint32_t wanted = std::min(vlen_, kMaxMessages - first);
    for (uint32_t i = first; i < first + wanted; i++) {
      msghdr& header = messages_[i].msg_hdr;
      header.msg_namelen = sizeof names_[i];
      header.msg_controllen = sizeof controls_[i].bytes;
      header.msg_flags = 0;
    }
    const int received = ::recvmmsg(fd, messages_.data() + first, wanted, MSG_DONTWAIT, nullptr);
    if (received < 0) {
      switch (errno) {
        case EINTR:
          return 0;
        case EBADF:
        case EFAULT:
        case EINVAL:
        case ENOTSOCK:
          return -errno;
        default:
          // EAGAIN, or an error left on the socket (by `ss -K`, not by ICMP: udp_socket.h): receiving has cleared it.
          if (errno != EAGAIN) return 0;
          if (is_lanes) progress_.Empty();
          return -EAGAIN;
      }
    }
    queue_.inbound.Add(Inbound::k_receive_calls, 1);
    message_count_ += static_cast<uint32_t>(received);
    size_t got = 0;
    for (uint32_t i = first; i < message_count_; i++) got += messages_[i].msg_len;
    vlen_ = got > static_cast<size_t>(received) * kTrainBytes ? kFewMessages : kMoreMessages;
    *bytes += got;
    if (is_lanes) progress_.Took(got);
    if (static_cast<uint32_t>(received) < wanted) {
      if (is_lanes) progress_.Empty();
      break;
    }
  }
  return 0;
}

// HOT
void InboundPort::ReadMessages() noexcept {
  const uint32_t messages = message_count_;
  while (next_message_ < messages && packet_count_ + kMaxMessagePackets <= kPackets) ReadMessage(next_message_++);
}

// HOT
void InboundPort::ReadMessage(uint32_t message) noexcept {
  const msghdr& header = messages_[message].msg_hdr;
  auto* data = static_cast<uint8_t*>(parts_[message].iov_base);
  const size_t length = messages_[message].msg_len;
  const SocketName& from = names_[message];
  queue_.inbound.Add(Inbound::k_messages, 1);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    // How many datagrams it held is not known any more; it counts as one.
    queue_.inbound.Add(Inbound::k_packets_in, 1);
    queue_.inbound.Add(Inbound::k_bytes_in, length);
    Drop(Inbound::k_drop_truncated, 1, HostOf(from), nullptr);
    return;
  }
  const size_t piece = PieceBytes(messages_[message]);
  size_t at = 0;
  uint32_t budget = kMaxMessagePackets;
  do {
    // The kernel never merges more; were it to, the rest would be one datagram of a wrong length.
    const size_t datagram = --budget == 0 ? length - at : std::min(piece, length - at);
    ReadPacket(data + at, datagram, from);
    at += datagram;
  } while (at < length);
}

// HOT
// 2.
void InboundPort::ReadPacket(uint8_t* data, size_t length, const SocketName& from) noexcept {
  queue_.inbound.Add(Inbound::k_packets_in, 1);
  queue_.inbound.Add(Inbound::k_bytes_in, length);
  InnerPacket& packet = packets_[packet_count_];
  packet.data = data;
  HeaderFault fault = ParseInner(data, length, engine_->options().families, &packet.header);
  if (fault != HeaderFault::kNone) {
    Drop(DropReason(fault), 1, HostOf(from), nullptr);
    return;
  }
  fault = CheckReceived(data, packet.header, engine_->options().rules);
  if (fault != HeaderFault::kNone) {
    Drop(DropReason(fault), 1, HostOf(from), data);
    return;
  }
  if (run_count_ > 0) {
    Run& run = runs_[run_count_ - 1];
    const InnerPacket& before = packets_[run.first];
    if (SameHosts(before.data, before.header, data, packet.header) && SameName(run.from, from)) {
      run.count++;
      run.bytes += packet.header.total_length;
      arena_.At(inbound_field::kSegments, run_count_ - 1) = static_cast<int32_t>(run.count);
      packet_count_++;
      return;
    }
  }
  runs_[run_count_] = {packet_count_, 1, packet.header.total_length, from};
  DescribeSender(from);
  DescribeEnds(arena_, inbound_field::kEnds, run_count_, data, packet.header);
  arena_.At(inbound_field::kLength, run_count_) = packet.header.total_length;
  arena_.At(inbound_field::kSegments, run_count_) = 1;
  run_count_++;
  packet_count_++;
}

// HOT
void InboundPort::DescribeSender(const SocketName& from) noexcept {
  arena_.At(inbound_field::kOuterPort, run_count_) = from.Port();
  arena_.At(inbound_field::kOuterWide, run_count_) = from.IsV6();
  if (from.IsV6()) {
    const Address address = HostOf(from).address;
    arena_.SetAddress(inbound_field::kOuterSource, inbound_field::kOuterSourceRest, run_count_, address);
    return;
  }
  arena_.At(inbound_field::kOuterSource, run_count_) = static_cast<int32_t>(ntohl(from.v4.sin_addr.s_addr));
}

// HOT
// 4 to 6.
int InboundPort::DeliverBatch() noexcept {
  coalescer_.Clear();
  const uint64_t now_ms = MonotonicMs();
  for (int32_t i = 0; i < run_count_; i++) DeliverRun(runs_[i], i, now_ms);
  int error = 0;
  for (uint32_t i = 0; i < coalescer_.size(); i++) {
    const int written = WriteChain(coalescer_[i]);
    if (written != 0) error = written;
  }
  return error;
}

// HOT
// 4, and 5 for what stays.
void InboundPort::DeliverRun(const Run& run, int32_t index, uint64_t now_ms) noexcept {
  const int32_t verdict = arena_.At(inbound_field::kVerdict, index);
  if (verdict != 0) {
    Drop(static_cast<Inbound>(verdict), run.count, HostOf(run.from), packets_[run.first].data);
    return;
  }
  const bool audited = arena_.At(inbound_field::kAudit, index) != 0;
  if (audited) queue_.inbound.Add(Inbound::k_audit_would_drop, run.count);
  const bool audit_options = !audited && engine_->options().audit_options;
  const int32_t peer = arena_.At(inbound_field::kPeerId, index);
  if (peer >= 0) queue_.inbound_peers[peer].Add(run.count, run.bytes);
  const bool merge_tcp = engine_->tcp_merge();
  const bool merge_udp = engine_->udp_merge();
  for (uint32_t i = run.first; i < run.first + run.count; i++) {
    const InnerPacket& packet = packets_[i];
    if (audit_options && !OptionsAreHarmless(packet.data, packet.header)) {
      queue_.inbound.Add(Inbound::k_audit_would_drop, 1);
    }
    if (packet.header.ttl <= 1) {
      Drop(Inbound::k_drop_ttl_expired, 1, HostOf(run.from), packet.data);
      if (peer >= 0) AnswerExpired(run, packet, now_ms);
      continue;
    }
    if (coalescer_.Add(i, merge_tcp, merge_udp)) queue_.inbound.Add(Inbound::k_checksum_bad, 1);
  }
}

// HOT
// 6.
int InboundPort::WriteChain(const Chain& chain) noexcept {
  if (chain.count > 1) {
    const int error = WriteSuperpacket(chain);
    if (error != EINVAL) return error == 0 || error == EBADFD ? -error : 0;
    NoteRefusedSuperpacket(packets_[chain.first].header.protocol == kProtocolTcp);
  }
  int result = 0;
  for (uint32_t i = chain.first; i != kNoPacket; i = packets_[i].next) {
    const int error = WriteSingle(packets_[i]);
    if (error != 0) result = error;
  }
  return result;
}

// HOT
// 0, EINVAL when the chain must be written packet by packet, or an errno for which its packets are counted as dropped.
int InboundPort::WriteSuperpacket(const Chain& chain) noexcept {
  uint8_t headers[kSuperpacketHeaders];
  pieces_[0] = {headers, BuildSuperpacketHeaders(headers, chain, packets_.get())};
  int count = 1;
  for (uint32_t i = chain.first; i != kNoPacket; i = packets_[i].next) {
    const InnerPacket& packet = packets_[i];
    const size_t skip = packet.header.header_length + size_t{packet.transport_length};
    pieces_[count++] = {packet.data + skip, packet.header.total_length - skip};
  }
  ssize_t written;
  do {
    written = ::writev(queue_.tun.get(), pieces_.data(), count);
  } while (written < 0 && errno == EINTR);
  const bool tcp = packets_[chain.first].header.protocol == kProtocolTcp;
  if (written >= 0) {
    (tcp ? tcp_refusals_ : udp_refusals_) = 0;
    queue_.inbound.Add(Inbound::k_writes, 1);
    queue_.inbound.Add(Inbound::k_superpackets, 1);
    queue_.inbound.Add(Inbound::k_packets_out, chain.count);
    queue_.inbound.Add(Inbound::k_bytes_out, static_cast<uint64_t>(written) - sizeof(VnetHeader));
    return 0;
  }
  const int error = errno;
  if (error == EINVAL) return error;
  for (uint32_t i = chain.first; i != kNoPacket; i = packets_[i].next) Refused(error, packets_[i]);
  return error;
}

// HOT
int InboundPort::WriteSingle(const InnerPacket& packet) noexcept {
  VnetHeader vnet{};
  if (IsChecksumPartial(packet.data, packet.header)) {
    vnet.flags = kVnetNeedsCsum;
    vnet.csum_start = packet.header.header_length;
    vnet.csum_offset = static_cast<uint16_t>(TransportChecksumOffset(packet.header));
  }
  DecrementTtl(packet.data);
  const iovec pieces[2] = {{&vnet, sizeof vnet}, {packet.data, packet.header.total_length}};
  ssize_t written;
  do {
    written = ::writev(queue_.tun.get(), pieces, 2);
  } while (written < 0 && errno == EINTR);
  if (written < 0) return Refused(errno, packet);
  queue_.inbound.Add(Inbound::k_writes, 1);
  queue_.inbound.Add(Inbound::k_packets_out, 1);
  queue_.inbound.Add(Inbound::k_bytes_out, packet.header.total_length);
  return 0;
}

// Counts one packet the TUN did not take. -EBADFD when the device is gone, else 0.
int InboundPort::Refused(int error, const InnerPacket& packet) noexcept {
  Inbound reason = Inbound::k_drop_tun_failed;
  switch (error) {
    case EIO:
      reason = Inbound::k_drop_tun_down;
      break;
    case EINVAL:
      reason = Inbound::k_drop_tun_refused;
      break;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
      reason = Inbound::k_drop_tun_blocked;
      break;
    case EBADFD:
      reason = Inbound::k_drop_tun_gone;
      break;
    default:
      break;
  }
  Drop(reason, 1, {}, packet.data);
  return error == EBADFD ? -EBADFD : 0;
}

void InboundPort::NoteRefusedSuperpacket(bool tcp) noexcept {
  queue_.inbound.Add(Inbound::k_gso_refused, 1);
  uint32_t& refusals = tcp ? tcp_refusals_ : udp_refusals_;
  if (++refusals < kMaxRefusals) return;
  if (tcp) {
    engine_->RefuseTcpMerge();
  } else {
    engine_->RefuseUdpMerge();
  }
}

// `data`: nullptr when no header was read.
void InboundPort::Drop(Inbound reason, uint64_t packets, const HostAddress& outer, const uint8_t* data) noexcept {
  queue_.inbound.Add(reason, packets);
  queue_.inbound_offenders[static_cast<size_t>(reason)].Set(outer, data);
}

// The inner sender sits behind a peer, so the error goes straight back there: a packet that came from the overlay is
// not routed into it again. Only ever to an outer source that the verdict has found to be a live peer.
void InboundPort::AnswerExpired(const Run& run, const InnerPacket& packet, uint64_t now_ms) noexcept {
  const EngineOptions& own = engine_->options();
  if (!MayAnswer(packet.data, packet.header.total_length, packet.header, own.broadcast, own.rules.reserved)) return;
  if (!limiter_.Allow(packet.header.source, now_ms)) {
    queue_.inbound.Add(Inbound::k_icmp_limited, 1);
    return;
  }
  uint8_t error[kMaxIcmpV6Error];
  const Address source = own.own_address[packet.header.IsV6()];
  const size_t length = BuildIcmpError(error, {IcmpCause::kTimeExceeded, 0, source, kMaxTunnelledError}, packet.data,
                                       packet.header.total_length, packet.header);
  // To the port every host listens on, not to the one the datagram claims.
  const SocketName to = NameOf(HostOf(run.from), own.port);
  const int fd = queue_.outer[to.IsV6()].udp.get();
  const ssize_t sent = ::sendto(fd, error, length, MSG_DONTWAIT, &to.any, to.Length());
  queue_.inbound.Add(sent < 0 ? Inbound::k_icmp_failed : Inbound::k_icmp_sent, 1);
}

}  // namespace twill
