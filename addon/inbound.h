// The inbound direction of one queue: UDP to TUN.
//
// One Step is: deliver what the last batch held, as its verdicts say; receive; check every header; describe runs in the
// arena. It never blocks. A run is a row of neighbours with equal outer source, inner source and inner destination, so that one verdict
// covers them all. Checks that need no lease are made here, those that need one by the verdict.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <memory>

#include "coalesce.h"
#include "engine.h"
#include "icmp.h"

namespace twill {

class InboundPort {
 public:
  // `arena` has kInboundArenaWords words and outlives the port.
  InboundPort(std::shared_ptr<Engine> engine, size_t queue, int32_t* arena);

  // The number of runs to judge; 0 when there is none; -ECANCELED when stopped; -EBADFD when the TUN is gone; -errno.
  int32_t Step() noexcept;

  // Reads errors off the socket, so that it polls as quiet again, and reports the path MTUs that fell.
  void DrainErrors() noexcept;

 private:
  struct Run {
    uint32_t first;  // packet
    uint32_t count;
    uint64_t bytes;
    sockaddr_in from;
  };
  // Messages per receive call: few when each holds a train, so that the buffers stay in cache; many when each holds one
  // datagram.
  static constexpr uint32_t kFewMessages = 8;
  static constexpr uint32_t kManyMessages = 256;
  static constexpr uint32_t kMaxMessagePackets = 128;  // UDP_MAX_SEGMENTS
  static constexpr uint32_t kPackets = kInboundCapacity;

  int Receive() noexcept;
  void ReadMessages() noexcept;
  void ReadMessage(uint32_t message) noexcept;
  void ReadPacket(uint8_t* data, size_t length, const sockaddr_in& from) noexcept;
  // 0, or -EBADFD when the TUN is gone.
  int DeliverBatch() noexcept;
  void DeliverRun(const Run& run, int32_t index, uint64_t now_ms) noexcept;
  int WriteChain(const Chain& chain) noexcept;
  int WriteSuperpacket(const Chain& chain) noexcept;
  int WriteSingle(const InnerPacket& packet) noexcept;
  int Refused(int error, const InnerPacket& packet) noexcept;
  void NoteRefusedSuperpacket(bool tcp) noexcept;
  void Drop(Inbound reason, uint64_t packets, uint32_t outer, const Ipv4Header& header) noexcept;
  void AnswerExpired(const Run& run, const InnerPacket& packet, uint64_t now_ms) noexcept;

  std::shared_ptr<Engine> engine_;
  Queue& queue_;
  ArenaView arena_;
  IcmpLimiter limiter_;
  std::unique_ptr<uint8_t[]> memory_;
  std::unique_ptr<InnerPacket[]> packets_;
  std::unique_ptr<Run[]> runs_;
  Coalescer coalescer_;
  std::array<mmsghdr, kManyMessages> messages_{};
  std::array<iovec, kManyMessages> parts_{};
  std::array<sockaddr_in, kManyMessages> names_{};
  struct alignas(cmsghdr) Control {
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
  };
  std::array<Control, kManyMessages> controls_{};
  std::array<iovec, kMaxChainPackets + 1> pieces_{};
  uint32_t message_count_ = 0;
  uint32_t next_message_ = 0;
  uint32_t packet_count_ = 0;
  int32_t run_count_ = 0;
  uint32_t vlen_ = kManyMessages;
  uint32_t tcp_refusals_ = 0;
  uint32_t udp_refusals_ = 0;
};

}  // namespace twill
