// Sending trains: sendmmsg, and what each refusal by the kernel means for the peer it concerns.
//
//   errno                         train of two or more             single datagram
//   EINTR                         again                            again
//   EAGAIN                        wait for room, bounded; then drop_send_blocked
//   ENOBUFS, ENOMEM               three more tries; then drop_send_no_buffer
//   EMSGSIZE, EINVAL              sent as singles, path MTU asked   drop_send_too_big, path MTU asked
//   EIO                           sent as singles, no UDP_SEGMENT to this peer for five minutes   drop_send_failed
//   ECONNREFUSED, EHOSTUNREACH…   may be an older error of another peer: read off, tried once more;
//                                 then drop_send_unreachable
//   EPERM, EACCES                 drop_send_denied
// No refusal ever turns offloading off for a peer it does not concern.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>

#include "engine.h"
#include "trains.h"

namespace twill {

class Sender {
 public:
  Sender(Engine& engine, Queue& queue, ArenaView arena) noexcept;

  // Sends all trains in order. Every datagram ends in packets_out or in a drop counter.
  void Send(const TrainSet& trains) noexcept;

  // Datagrams one message to this peer may carry at this time.
  uint16_t SegmentLimit(uint32_t peer, uint64_t now_ms) const noexcept;

  // Reads pending socket errors and reports the path MTUs that fell.
  void DrainErrors() noexcept;

 private:
  struct Refusal {
    uint32_t peer;
    uint64_t until_ms;
  };
  static constexpr uint32_t kRefusalSlots = 256;

  void Prepare(const TrainSet& trains) noexcept;
  void Sent(const Train& train) noexcept;
  // What to do about the train that the kernel refused: try again, or done with it.
  enum class Next { kRetry, kDone };
  Next Refused(const Train& train, int error, int attempt) noexcept;
  void SendSingles(const Train& train) noexcept;
  Outbound SendOne(const Train& train, uint8_t* data, size_t length) noexcept;
  Next Recover(int error, int attempt) noexcept;
  void ReportPathMtu(uint32_t peer) noexcept;
  void Drop(const Train& train, Outbound reason, uint64_t packets) noexcept;

  Engine& engine_;
  Queue& queue_;
  ArenaView arena_;
  std::array<Refusal, kRefusalSlots> refusals_{};
  std::array<mmsghdr, kMaxTrains> messages_{};
  std::array<iovec, kMaxTrains> parts_{};
  std::array<sockaddr_in, kMaxTrains> names_{};
  struct alignas(cmsghdr) Control {
    uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
  };
  std::array<Control, kMaxTrains> controls_{};
};

}  // namespace twill
