#include "engine/sender.h"

#include <netinet/udp.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernel/clock.h"
#include "kernel/udp_socket.h"
#include "packet/hash.h"

namespace twill {

namespace {

constexpr uint64_t kRefusalMs = 5 * 60 * 1000;
constexpr int kMaxAttempts = 4;
constexpr int kBlockedWaitMs = 1;

size_t RefusalSlot(const HostAddress& peer) noexcept {
  const uint32_t* words = peer.address.words;
  return (Mix(words[0], words[1]) ^ Mix(words[2], words[3])) % Sender::kRefusalSlots;
}

Outbound DropReason(int error) noexcept {
  switch (error) {
    case EAGAIN:
      return Outbound::k_drop_send_blocked;
    case ENOBUFS:
    case ENOMEM:
      return Outbound::k_drop_send_no_buffer;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
      return Outbound::k_drop_send_unreachable;
    case EPERM:
    case EACCES:
      return Outbound::k_drop_send_denied;
    case EMSGSIZE:
      return Outbound::k_drop_send_too_big;
    default:
      return Outbound::k_drop_send_failed;
  }
}

}  // namespace

Sender::Sender(Engine& engine, Queue& queue, ArenaView arena) noexcept
    : engine_(engine), queue_(queue), arena_(arena) {
  for (uint32_t i = 0; i < kMaxTrains; i++) {
    msghdr& header = messages_[i].msg_hdr;
    header.msg_name = &names_[i];
    header.msg_iov = &parts_[i];
    header.msg_iovlen = 1;
    auto* control = reinterpret_cast<cmsghdr*>(controls_[i].bytes);
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = kUdpSegment;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  }
}

uint16_t Sender::SegmentLimit(const HostAddress& peer, int32_t length, uint64_t now_ms) const noexcept {
  const Refusal& refusal = refusals_[RefusalSlot(peer)];
  if (refusal.confirmed && refusal.peer == peer && length >= refusal.length && now_ms < refusal.until_ms) return 1;
  return engine_.granted().udp_segments;
}

// HOT
void Sender::Prepare(const TrainSet& trains) noexcept {
  for (uint32_t i = 0; i < trains.size(); i++) {
    const Train& train = trains[i];
    names_[i] = NameOf(train.to.host, train.to.port);
    if (train.to.host.is_v6) names_[i].v6.sin6_flowinfo = htonl(train.to.flow_label);
    parts_[i] = {train.data, train.bytes};
    msghdr& header = messages_[i].msg_hdr;
    header.msg_namelen = names_[i].Length();
    // A lone datagram goes without the control message: some paths refuse it there.
    if (train.count > 1) {
      std::memcpy(controls_[i].bytes + CMSG_LEN(0), &train.size, sizeof train.size);
      header.msg_control = controls_[i].bytes;
      header.msg_controllen = sizeof controls_[i].bytes;
    } else {
      header.msg_control = nullptr;
      header.msg_controllen = 0;
    }
  }
}

// HOT
void Sender::Send(const TrainSet& trains) noexcept {
  Prepare(trains);
  too_big_count_ = 0;
  has_paused_ = false;
  uint32_t at = 0;
  int attempt = 0;
  while (at < trains.size()) {
    const bool may_fragment = trains[at].to.may_fragment;
    const bool is_v6 = trains[at].to.host.is_v6;
    uint32_t end = at + 1;
    while (end < trains.size() && trains[end].to.may_fragment == may_fragment && trains[end].to.host.is_v6 == is_v6) {
      end++;
    }
    SetFragmenting(is_v6, may_fragment);
    const int sent = ::sendmmsg(queue_.outer[is_v6].send_fd(), &messages_[at], end - at, MSG_DONTWAIT);
    if (sent > 0) {
      queue_.outbound.Add(Outbound::k_send_calls, 1);
      for (int i = 0; i < sent; i++) Sent(trains[at++]);
      attempt = 0;
      continue;
    }
    // sendmmsg reports an error only for the first message, and only when nothing was sent before it.
    if (Refused(trains, at, errno, attempt++) == Next::kDone) {
      at++;
      attempt = 0;
    }
  }
}

// HOT
void Sender::Sent(const Train& train) noexcept {
  queue_.outbound.Add(Outbound::k_packets_out, train.count);
  const bool is_cut = train.to.may_fragment && train.size > train.to.path_mtu;
  if (is_cut) queue_.outbound.Add(Outbound::k_fragmented, train.count);
  queue_.outbound.Add(Outbound::k_bytes_out, train.bytes);
  queue_.outbound.Add(Outbound::k_messages, 1);
  if (train.count > 1) queue_.outbound.Add(Outbound::k_trains, 1);
  if (train.to.peer_id >= 0) queue_.outbound_peers[train.to.peer_id].Add(train.count, train.bytes);
}

Sender::Next Sender::Refused(const TrainSet& trains, uint32_t index, int error, int attempt) noexcept {
  const Train& train = trains[index];
  const bool is_labelled = train.to.host.is_v6 && names_[index].v6.sin6_flowinfo != 0;
  if (error == EINVAL && is_labelled && train.count == 1) {
    StopLabelling(trains);
    return Next::kRetry;
  }
  if (error == EMSGSIZE && train.count == 1 && !train.to.may_fragment) {
    SendAlone(train, train.data, train.bytes, ReportPathMtu(train.to.host), true);
    return Next::kDone;
  }
  if (train.count > 1 && (error == EMSGSIZE || error == EINVAL || error == EIO)) {
    const int32_t mtu = error == EIO ? 0 : ReportPathMtu(train.to.host);
    const bool fits = mtu <= 0 || train.size <= mtu;
    // Most kernels say EINVAL of a train that is longer than its path, too: that is not about labels.
    if (error == EINVAL && is_labelled && fits) {
      StopLabelling(trains);
      return Next::kRetry;
    }
    if (fits) NoteRefusal(train, error);
    SendSingles(train, mtu);
    return Next::kDone;
  }
  if (Recover(queue_.outer[train.to.host.is_v6].send_fd(), error, attempt) == Next::kRetry) return Next::kRetry;
  Drop(train, DropReason(error), train.count, train.data);
  return Next::kDone;
}

// The label may be what was refused. Without one for a while: all of a peer's flows are on one path then.
void Sender::StopLabelling(const TrainSet& trains) noexcept {
  unlabelled_until_ms_ = MonotonicMs() + kRefusalMs;
  for (uint32_t i = 0; i < trains.size(); i++) {
    if (trains[i].to.host.is_v6) names_[i].v6.sin6_flowinfo = 0;
  }
}

Sender::Next Sender::Recover(int fd, int error, int attempt) noexcept {
  if (error == EINTR) return Next::kRetry;
  if (error == EAGAIN && attempt < kMaxAttempts) {
    pollfd wait[2] = {{fd, POLLOUT, 0}, {engine_.stop_fd(), POLLIN, 0}};
    Beat(queue_.outbound_beats);  // a batch of single datagrams may wait here for seconds
    ::poll(wait, 2, kBlockedWaitMs);
    return Next::kRetry;
  }
  if ((error == ENOBUFS || error == ENOMEM) && !has_paused_) {
    // Room in the socket says nothing about memory, so there is nothing to wait for but time.
    has_paused_ = true;
    pollfd stop = {engine_.stop_fd(), POLLIN, 0};
    ::poll(&stop, 1, kBlockedWaitMs);
    return Next::kRetry;
  }
  return Next::kDone;
}

// EIO is about the path to the peer, whatever the length. The others are believed when they come again.
void Sender::NoteRefusal(const Train& train, int error) noexcept {
  Refusal& refusal = refusals_[RefusalSlot(train.to.host)];
  const uint64_t now_ms = MonotonicMs();
  const int32_t length = error == EIO ? 0 : train.size;
  const bool is_known = refusal.peer == train.to.host && now_ms < refusal.until_ms && length >= refusal.length;
  refusal = {train.to.host, is_known ? refusal.length : length, now_ms + kRefusalMs, is_known || error == EIO};
}

void Sender::SendSingles(const Train& train, int32_t mtu) noexcept {
  queue_.outbound.Add(Outbound::k_gso_refused, 1);
  for (uint32_t at = 0; at < train.bytes; at += train.size) {
    SendAlone(train, train.data + at, std::min<uint32_t>(train.size, train.bytes - at), mtu, false);
  }
}

void Sender::SendAlone(const Train& train, uint8_t* data, uint32_t length, int32_t mtu, bool is_refused) noexcept {
  const bool is_too_big = mtu > 0 && length > static_cast<uint32_t>(mtu);
  int error = is_refused || is_too_big ? EMSGSIZE : SendOne(train, data, length, false);
  if (error == EMSGSIZE && is_too_big && RefusedWhenTooBig(data, length)) {
    if (too_big_count_ < kMaxTooBig) {
      too_big_[too_big_count_++] = {data, length, static_cast<uint16_t>(mtu), train.to.reply_source};
    }
    Drop(train, Outbound::k_drop_too_big, 1, data);
    return;
  }
  const bool is_cut = error == EMSGSIZE;
  if (is_cut) error = SendOne(train, data, length, true);
  if (error != 0) {
    Drop(train, DropReason(error), 1, data);
    return;
  }
  if (is_cut) queue_.outbound.Add(Outbound::k_fragmented, 1);
  queue_.outbound.Add(Outbound::k_packets_out, 1);
  queue_.outbound.Add(Outbound::k_bytes_out, length);
  queue_.outbound.Add(Outbound::k_messages, 1);
  if (train.to.peer_id >= 0) queue_.outbound_peers[train.to.peer_id].Add(1, length);
}

// 0 or errno.
int Sender::SendOne(const Train& train, const uint8_t* data, uint32_t length, bool may_fragment) noexcept {
  const bool is_v6 = train.to.host.is_v6;
  SetFragmenting(is_v6, may_fragment);
  const int fd = queue_.outer[is_v6].send_fd();
  SocketName name = NameOf(train.to.host, train.to.port);
  if (is_v6 && HasLabels(MonotonicMs())) name.v6.sin6_flowinfo = htonl(train.to.flow_label);
  for (int attempt = 0;; attempt++) {
    queue_.outbound.Add(Outbound::k_send_calls, 1);
    if (::sendto(fd, data, length, MSG_DONTWAIT, &name.any, name.Length()) >= 0) return 0;
    const int error = errno;
    if (Recover(fd, error, attempt) == Next::kDone) return error;
  }
}

// HOT
// The inbound worker sends by this socket too, ICMP errors only: so short (kMaxTunnelledError) that both settings suit
// them.
void Sender::SetFragmenting(bool is_v6, bool may_fragment) noexcept {
  if (may_fragment == fragmenting_[is_v6]) return;
  fragmenting_[is_v6] = may_fragment;
  const OuterSockets& outer = queue_.outer[is_v6];
  if (outer.mtu_discovery == IP_PMTUDISC_WANT) SetDontFragment(outer.send_fd(), is_v6, !may_fragment);
}

void Sender::Drop(const Train& train, Outbound reason, uint64_t packets, const uint8_t* data) noexcept {
  queue_.outbound.Add(reason, packets);
  queue_.outbound_offenders[static_cast<size_t>(reason)].Set(train.to.host, data);
}

// Asks the kernel for the inner path MTU and tells the table; not positive when there is no way.
int32_t Sender::ReportPathMtu(const HostAddress& peer) noexcept {
  const EngineOptions& own = engine_.options();
  const int32_t mtu = QueryInnerPathMtu({*own.listen[peer.is_v6], peer.is_v6}, peer, own.port);
  if (mtu <= 0) return mtu;
  queue_.outbound.Add(Outbound::k_path_mtu_events, 1);
  arena_.PushPathMtu(peer, mtu);
  return mtu;
}

}  // namespace twill
