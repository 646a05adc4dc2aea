// Sending trains: sendmmsg, and what each refusal by the kernel means for the peer it concerns.
//
//   errno                     train of two or more                single datagram
//   EINTR                     again                               again
//   EAGAIN                    wait for room, bounded; then drop_send_blocked
//   ENOBUFS, ENOMEM           once a batch a pause and one more try; else drop_send_no_buffer
//   EMSGSIZE                  path MTU asked, sent as singles     path MTU asked; when that is the reason and DF is
//                                                                 set, drop_too_big, which the caller answers; else
//                                                                 sent to be fragmented; then drop_send_too_big
//   EINVAL                    as EMSGSIZE                         drop_send_failed
//   EIO                       sent as singles                     drop_send_failed
//   ECONNREFUSED, EHOSTUNREACH…   drop_send_unreachable
//   EPERM, EACCES                 drop_send_denied
// After EIO this peer gets no UDP_SEGMENT for five minutes; after a second EMSGSIZE or EINVAL that no path MTU
// explains, none for datagrams of that length and more. No refusal turns offloading off for a peer it does not concern,
// and none is left from an earlier datagram: the socket ignores ICMP (udp_socket.h).
//
// What fits the path leaves with DF, or of IPv6 unfragmented, and is refused when the path is narrower than it is known
// to be (IP_PMTUDISC_DO, IPV6_DONTFRAG). For what may be fragmented the option is set back for as long as such trains
// go out: not a second
// socket, because a flow of both kinds would have two ports, two ways through the network and no order. Where the
// host has turned path MTU discovery off (net.ipv4.ip_no_pmtu_disc) the option stays as it is.
//
// Trains of both families are sent in their order, by a call for each stretch of one family.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>

#include "engine/engine.h"
#include "kernel/udp_socket.h"
#include "packet/trains.h"

namespace twill {

class Sender {
 public:
  static constexpr uint32_t kRefusalSlots = 256;

  // A packet with DF that is longer than the path to its peer, which nobody knew before.
  struct TooBig {
    uint8_t* data;
    uint32_t length;
    uint16_t mtu;  // inner
    Address reply_source;
  };

  Sender(Engine& engine, Queue& queue, ArenaView arena) noexcept;

  // Sends all trains in order. Every datagram ends in packets_out or in a drop counter.
  void Send(const TrainSet& trains) noexcept;

  // Datagrams of this length one message to this peer may carry at this time.
  uint16_t SegmentLimit(const HostAddress& peer, int32_t length, uint64_t now_ms) const noexcept;
  // Whether flow labels are sent.
  bool HasLabels(uint64_t now_ms) const noexcept { return now_ms >= unlabelled_until_ms_; }

  // What the last Send dropped as too big, kMaxTooBig at most. Points into its trains.
  uint32_t too_big_count() const noexcept { return too_big_count_; }
  const TooBig& too_big(uint32_t index) const noexcept { return too_big_[index]; }

 private:
  // No UDP_SEGMENT to `peer` for datagrams of `length` and more; when not confirmed, that was refused once.
  struct Refusal {
    HostAddress peer;
    int32_t length;
    uint64_t until_ms;
    bool confirmed;
  };
  // More senders than may be answered at once are rare; the next packet of each raises it again.
  static constexpr uint32_t kMaxTooBig = 16;

  void Prepare(const TrainSet& trains) noexcept;
  void Sent(const Train& train) noexcept;
  // What to do about the train that the kernel refused: try again, or done with it.
  enum class Next { kRetry, kDone };
  Next Refused(const TrainSet& trains, uint32_t index, int error, int attempt) noexcept;
  Next Recover(int fd, int error, int attempt) noexcept;
  void NoteRefusal(const Train& train, int error) noexcept;
  void SendSingles(const Train& train, int32_t mtu) noexcept;
  // One datagram of a train that was refused; `is_refused` when it was refused alone. `mtu` is the inner path MTU as
  // just asked, not positive when unknown.
  void SendAlone(const Train& train, uint8_t* data, uint32_t length, int32_t mtu, bool is_refused) noexcept;
  int SendOne(const Train& train, const uint8_t* data, uint32_t length, bool may_fragment) noexcept;
  void SetFragmenting(bool is_v6, bool may_fragment) noexcept;
  int32_t ReportPathMtu(const HostAddress& peer) noexcept;
  void StopLabelling(const TrainSet& trains) noexcept;
  void Drop(const Train& train, Outbound reason, uint64_t packets, const uint8_t* data) noexcept;

  Engine& engine_;
  Queue& queue_;
  ArenaView arena_;
  bool fragmenting_[2] = {true, true};  // by family: as the sockets were opened
  uint64_t unlabelled_until_ms_ = 0;
  bool has_paused_ = false;  // for memory, in this batch
  uint32_t too_big_count_ = 0;
  std::array<TooBig, kMaxTooBig> too_big_{};
  std::array<Refusal, kRefusalSlots> refusals_{};
  std::array<mmsghdr, kMaxTrains> messages_{};
  std::array<iovec, kMaxTrains> parts_{};
  std::array<SocketName, kMaxTrains> names_{};
  struct alignas(cmsghdr) Control {
    uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
  };
  std::array<Control, kMaxTrains> controls_{};
};

}  // namespace twill
