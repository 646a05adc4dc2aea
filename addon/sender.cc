#include "sender.h"

#include <netinet/udp.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "icmp.h"
#include "udp_socket.h"

namespace twill {

namespace {

constexpr uint64_t kRefusalMs = 5 * 60 * 1000;
constexpr int kMaxAttempts = 4;
constexpr int kBlockedWaitMs = 1;

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

// Errors that an ICMP message about an earlier datagram, to any peer, can have left on the socket.
bool MayBeOlder(int error) noexcept {
  const Outbound reason = DropReason(error);
  return reason == Outbound::k_drop_send_unreachable || reason == Outbound::k_drop_send_denied || error == EMSGSIZE;
}

}  // namespace

Sender::Sender(Engine& engine, Queue& queue, ArenaView arena) noexcept
    : engine_(engine), queue_(queue), arena_(arena) {
  for (uint32_t i = 0; i < kMaxTrains; i++) {
    names_[i].sin_family = AF_INET;
    msghdr& header = messages_[i].msg_hdr;
    header.msg_name = &names_[i];
    header.msg_namelen = sizeof names_[i];
    header.msg_iov = &parts_[i];
    header.msg_iovlen = 1;
    auto* control = reinterpret_cast<cmsghdr*>(controls_[i].bytes);
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = kUdpSegment;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  }
}

uint16_t Sender::SegmentLimit(uint32_t peer, uint64_t now_ms) const noexcept {
  const Refusal& refusal = refusals_[Mix(peer, 0) % kRefusalSlots];
  if (refusal.peer == peer && now_ms < refusal.until_ms) return 1;
  return engine_.granted().udp_segments;
}

// HOT
void Sender::Prepare(const TrainSet& trains) noexcept {
  for (uint32_t i = 0; i < trains.size(); i++) {
    const Train& train = trains[i];
    names_[i].sin_addr.s_addr = htonl(train.to.address);
    names_[i].sin_port = htons(train.to.port);
    parts_[i] = {train.data, train.bytes};
    msghdr& header = messages_[i].msg_hdr;
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
  uint32_t at = 0;
  int attempt = 0;
  while (at < trains.size()) {
    const int sent = ::sendmmsg(queue_.udp.get(), &messages_[at], trains.size() - at, MSG_DONTWAIT);
    if (sent > 0) {
      queue_.outbound.Add(Outbound::k_send_calls, 1);
      for (int i = 0; i < sent; i++) Sent(trains[at++]);
      attempt = 0;
      continue;
    }
    // sendmmsg reports an error only for the first message, and only when nothing was sent before it.
    if (Refused(trains[at], errno, attempt++) == Next::kDone) {
      at++;
      attempt = 0;
    }
  }
}

// HOT
void Sender::Sent(const Train& train) noexcept {
  queue_.outbound.Add(Outbound::k_packets_out, train.count);
  queue_.outbound.Add(Outbound::k_bytes_out, train.bytes);
  queue_.outbound.Add(Outbound::k_messages, 1);
  if (train.count > 1) queue_.outbound.Add(Outbound::k_trains, 1);
  if (train.to.peer_id >= 0) queue_.outbound_peers[train.to.peer_id].Add(train.count, train.bytes);
}

Sender::Next Sender::Refused(const Train& train, int error, int attempt) noexcept {
  if (train.count > 1 && (error == EMSGSIZE || error == EINVAL || error == EIO)) {
    if (error == EIO) {
      refusals_[Mix(train.to.address, 0) % kRefusalSlots] = {train.to.address, MonotonicMs() + kRefusalMs};
    } else if (error == EMSGSIZE && attempt == 0) {
      DrainErrors();  // the error may be an older one
      return Next::kRetry;
    } else {
      ReportPathMtu(train.to.address);
    }
    SendSingles(train);
    return Next::kDone;
  }
  if (Recover(error, attempt) == Next::kRetry) return Next::kRetry;
  if (error == EMSGSIZE) ReportPathMtu(train.to.address);
  Drop(train, DropReason(error), train.count);
  return Next::kDone;
}

Sender::Next Sender::Recover(int error, int attempt) noexcept {
  if (error == EINTR) return Next::kRetry;
  if (attempt >= kMaxAttempts) return Next::kDone;
  if (error == EAGAIN) {
    pollfd wait[2] = {{queue_.udp.get(), POLLOUT, 0}, {engine_.stop_fd(), POLLIN, 0}};
    ::poll(wait, 2, kBlockedWaitMs);
    if ((wait[0].revents & POLLERR) != 0) DrainErrors();
    return Next::kRetry;
  }
  if (error == ENOBUFS || error == ENOMEM) return Next::kRetry;
  if (attempt == 0 && MayBeOlder(error)) {
    DrainErrors();
    return Next::kRetry;
  }
  return Next::kDone;
}

void Sender::SendSingles(const Train& train) noexcept {
  queue_.outbound.Add(Outbound::k_gso_refused, 1);
  uint32_t at = 0;
  while (at < train.bytes) {
    const uint32_t length = std::min<uint32_t>(train.size, train.bytes - at);
    const Outbound end = SendOne(train, train.data + at, length);
    if (end == Outbound::k_packets_out) {
      queue_.outbound.Add(Outbound::k_packets_out, 1);
      queue_.outbound.Add(Outbound::k_bytes_out, length);
      queue_.outbound.Add(Outbound::k_messages, 1);
      if (train.to.peer_id >= 0) queue_.outbound_peers[train.to.peer_id].Add(1, length);
    } else {
      Drop(train, end, 1);
    }
    at += length;
  }
}

Outbound Sender::SendOne(const Train& train, uint8_t* data, size_t length) noexcept {
  const sockaddr_in name = SocketAddress(train.to.address, train.to.port);
  for (int attempt = 0;; attempt++) {
    queue_.outbound.Add(Outbound::k_send_calls, 1);
    if (::sendto(queue_.udp.get(), data, length, MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&name),
                 sizeof name) >= 0) {
      return Outbound::k_packets_out;
    }
    const int error = errno;
    if (Recover(error, attempt) == Next::kDone) return DropReason(error);
  }
}

void Sender::Drop(const Train& train, Outbound reason, uint64_t packets) noexcept {
  queue_.outbound.Add(reason, packets);
  queue_.outbound_offenders[static_cast<size_t>(reason)].Set(train.to.address, LoadBe32(train.data + 12),
                                                             LoadBe32(train.data + 16));
}

void Sender::DrainErrors() noexcept {
  const int found = ReportPathMtus(queue_.udp.get(), engine_.options().port, arena_);
  queue_.outbound.Add(Outbound::k_path_mtu_events, static_cast<uint64_t>(found));
}

void Sender::ReportPathMtu(uint32_t peer) noexcept {
  const int32_t mtu = QueryInnerPathMtu(peer, engine_.options().port);
  if (mtu <= 0) return;
  queue_.outbound.Add(Outbound::k_path_mtu_events, 1);
  arena_.PushPathMtu(peer, mtu);
}

}  // namespace twill
