// The inbound direction of one queue: UDP to TUN.
//
// One Step is: deliver what the last batch held, as its verdicts say; receive; check every header; describe runs in the
// arena. It never blocks. A run is a row of neighbours with equal outer source, inner source and inner destination, so
// that one verdict covers them all. Checks that need no lease are made here, those that need one by the verdict.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <memory>

#include "packet/coalesce.h"
#include "engine/engine.h"
#include "kernel/udp_socket.h"
#include "packet/icmp.h"

namespace twill {

class InboundPort {
 public:
  static constexpr const char* kName = "InboundPort";
  static constexpr size_t kArenaWords = kInboundArenaWords;

  // `arena` has kArenaWords words and outlives the port.
  InboundPort(std::shared_ptr<Engine> engine, size_t queue, int32_t* arena);
  // What was received and never got its verdict ends in drop_stopped.
  ~InboundPort();
  InboundPort(const InboundPort&) = delete;
  InboundPort& operator=(const InboundPort&) = delete;

  // The number of runs to judge; 0 when there is none; -ECANCELED when stopped and all that was received is delivered;
  // -EBADFD when the TUN is gone; -errno.
  int32_t Step() noexcept;
  // Sleeps until there may be something to receive, kMaxWaitMs at most: 0, -ECANCELED when stopped, or -errno.
  int Wait() const noexcept;

 private:
  struct Run {
    uint32_t first;  // packet
    uint32_t count;
    uint64_t bytes;
    SocketName from;
  };
  // Messages per receive call: few when those of the last call were trains (longer than kTrainBytes in the mean), so
  // that the buffers stay in cache. What a call brings is known only afterwards and each message may be a train of 64
  // KiB, so more, when they hold one datagram each, is still few: a call copies 1 MiB at most.
  static constexpr uint32_t kFewMessages = 8;
  static constexpr uint32_t kMoreMessages = 16;
  static constexpr size_t kTrainBytes = 4096;
  // A batch takes several calls: until the socket is empty, the messages are used up, or so many bytes are in hand.
  // That is 256 datagrams of 1,500 bytes, whose packets merge into long superpackets, or 8 trains.
  static constexpr uint32_t kMaxMessages = 256;
  static constexpr size_t kBatchBytes = 384 * 1024;
  static constexpr uint32_t kMaxMessagePackets = 128;  // UDP_MAX_SEGMENTS
  static constexpr uint32_t kPackets = kInboundCapacity;

  // Fills the messages: 0, -EAGAIN when there is none, or -errno.
  int Receive() noexcept;
  // From one socket, behind those that there are.
  int ReceiveFrom(bool is_v6, size_t* bytes) noexcept;
  void ReadMessages() noexcept;
  void ReadMessage(uint32_t message) noexcept;
  void DescribeSender(const SocketName& from) noexcept;
  void ReadPacket(uint8_t* data, size_t length, const SocketName& from) noexcept;
  // 0, or -EBADFD when the TUN is gone.
  int DeliverBatch() noexcept;
  void DeliverRun(const Run& run, int32_t index, uint64_t now_ms) noexcept;
  int WriteChain(const Chain& chain) noexcept;
  int WriteSuperpacket(const Chain& chain) noexcept;
  int WriteSingle(const InnerPacket& packet) noexcept;
  int Refused(int error, const InnerPacket& packet) noexcept;
  void NoteRefusedSuperpacket(bool tcp) noexcept;
  void Drop(Inbound reason, uint64_t packets, const HostAddress& outer, const uint8_t* data) noexcept;
  void AnswerExpired(const Run& run, const InnerPacket& packet, uint64_t now_ms) noexcept;

  std::shared_ptr<Engine> engine_;
  Queue& queue_;
  ArenaView arena_;
  IcmpLimiter limiter_;
  std::unique_ptr<uint8_t[]> memory_;
  std::unique_ptr<InnerPacket[]> packets_;
  std::unique_ptr<Run[]> runs_;
  Coalescer coalescer_;
  WorkerProgress progress_;
  std::array<mmsghdr, kMaxMessages> messages_{};
  std::array<iovec, kMaxMessages> parts_{};
  std::array<SocketName, kMaxMessages> names_{};
  struct alignas(cmsghdr) Control {
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
  };
  std::array<Control, kMaxMessages> controls_{};
  std::array<iovec, kMaxChainPackets + 1> pieces_{};
  uint32_t message_count_ = 0;
  uint32_t next_message_ = 0;
  uint32_t packet_count_ = 0;
  int32_t run_count_ = 0;
  bool v6_first_ = false;
  uint32_t vlen_ = kFewMessages;
  uint32_t tcp_refusals_ = 0;
  uint32_t udp_refusals_ = 0;
};

}  // namespace twill
