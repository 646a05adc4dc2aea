// The outbound direction of one queue: TUN to UDP.
//
// One Step is: send what the last batch held, as its verdicts say; read the next batch and describe each packet in the
// arena. It never blocks. Nothing is kept across steps but the batch between its description and its verdicts, so a
// batch is as large as what queued up while the last one was sent: one packet when idle, many superpackets under load.
// It is bounded in packets, bytes and pieces, so that no packet makes a step long; the rest waits in the TUN's queue.
#pragma once

#include <memory>

#include "packet/icmp.h"
#include "engine/sender.h"
#include "packet/split.h"
#include "packet/trains.h"

namespace twill {

class OutboundPort {
 public:
  static constexpr const char* kName = "OutboundPort";
  static constexpr size_t kArenaWords = kOutboundArenaWords;

  // `arena` has kArenaWords words and outlives the port.
  OutboundPort(std::shared_ptr<Engine> engine, size_t queue, int32_t* arena);
  // A batch that never got its verdicts ends in drop_stopped.
  ~OutboundPort();
  OutboundPort(const OutboundPort&) = delete;
  OutboundPort& operator=(const OutboundPort&) = delete;

  // The number of descriptors to judge; 0 when there is nothing to read; -ECANCELED when stopped; -errno when the TUN
  // failed (EBADFD: deleted).
  int32_t Step() noexcept;
  // Sleeps until there may be something to read, kMaxWaitMs at most: 0, -ECANCELED when stopped, -EBADFD when the TUN
  // is deleted, or -errno.
  int Wait() const noexcept;

 private:
  struct Packet {
    uint8_t* data;  // IP header
    InnerHeader header;
    uint32_t payload;         // bytes after the headers
    uint16_t headers_length;  // IP and transport header; 0 when the packet is sent whole
    uint16_t gso_size;        // payload bytes per piece
    uint16_t segments;
    uint16_t csum_start;      // 0 when the checksum is complete
    uint16_t csum_offset;
  };

  int32_t ReadBatch() noexcept;
  // Whether the packet is worth a verdict; else it is counted.
  bool Describe(uint8_t* buffer, size_t length) noexcept;
  bool CheckVnet(const VnetHeader& vnet, Packet* packet) noexcept;
  void SendBatch() noexcept;
  void SendPacket(const Packet& packet, int32_t index, uint64_t now_ms) noexcept;
  void SendWhole(const Packet& packet, const Destination& to, const FlowKey& flow) noexcept;
  void SendSplit(const Packet& packet, const Destination& to, const FlowKey& flow) noexcept;
  uint8_t* Reserve(const Destination& to, uint16_t length, bool follow, uint32_t* order) noexcept;
  void Flush() noexcept;
  HostAddress PeerOf(int32_t index) const noexcept;
  void Drop(const Packet& packet, Outbound reason, const HostAddress& outer) noexcept;
  void Answer(const Packet& packet, const IcmpError& error, uint64_t now_ms) noexcept;
  void AnswerTooBig(const Sender::TooBig& refused) noexcept;
  bool IsOwnTunnelTraffic(const Packet& packet) const noexcept;

  std::shared_ptr<Engine> engine_;
  Queue& queue_;
  ArenaView arena_;
  Sender sender_;
  QueueReader waiting_;
  WorkerProgress progress_;
  TrainSet trains_;
  FlowOrder flows_;
  IcmpLimiter limiter_;
  std::unique_ptr<uint8_t[]> memory_;
  std::unique_ptr<Packet[]> packets_;
  int32_t count_ = 0;
};

}  // namespace twill
