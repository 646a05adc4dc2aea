#include "engine/engine.h"

#include <net/if.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <map>
#include <mutex>

#include "packet/ipv4.h"
#include "kernel/tun.h"
#include "kernel/udp_socket.h"

namespace twill {

namespace {

std::mutex registry_mutex;
std::map<int32_t, std::shared_ptr<Engine>> registry;  // guarded by registry_mutex
int32_t next_id = 1;                                  // guarded by registry_mutex

constexpr size_t kProbePayload = 3;  // two bytes and a shorter tail of one

// A superpacket of two segments from the TUN's own address, which the stack drops as martian before anyone sees it.
int WriteProbe(int fd, uint32_t own_address, uint8_t protocol) noexcept {
  const bool tcp = protocol == kProtocolTcp;
  const size_t headers = kMinIpHeader + (tcp ? 20 : kUdpHeader);
  const size_t total = headers + kProbePayload;
  uint8_t buffer[sizeof(VnetHeader) + kMinIpHeader + 20 + kProbePayload] = {};
  VnetHeader vnet{};
  vnet.flags = kVnetNeedsCsum;
  vnet.gso_type = tcp ? kVnetGsoTcpV4 : kVnetGsoUdpL4;
  vnet.hdr_len = static_cast<uint16_t>(headers);
  vnet.gso_size = 2;
  vnet.csum_start = kMinIpHeader;
  vnet.csum_offset = tcp ? kTcpCsumOffset : kUdpCsumOffset;
  std::memcpy(buffer, &vnet, sizeof vnet);
  uint8_t* ip = buffer + sizeof vnet;
  ip[0] = 0x45;
  StoreBe16(ip + 2, static_cast<uint32_t>(total));
  ip[8] = 1;
  ip[9] = protocol;
  StoreBe32(ip + 12, own_address);
  StoreBe32(ip + 16, own_address);
  WriteIpChecksum(ip, kMinIpHeader);
  uint8_t* transport = ip + kMinIpHeader;
  if (tcp) {
    transport[12] = 5 << 4;
    transport[13] = kTcpAck;
  } else {
    StoreBe16(transport + 4, kUdpHeader + kProbePayload);
  }
  const ssize_t written = ::write(fd, buffer, sizeof vnet + total);
  return written < 0 ? -errno : 0;
}

}  // namespace

void Engine::Stop() noexcept {
  stopping_.store(true, std::memory_order_relaxed);
  const uint64_t one = 1;
  // Cannot fail but by overflow, and then it is readable already.
  [[maybe_unused]] const ssize_t ignored = ::write(stop_.get(), &one, sizeof one);
}

int Engine::ProbeMerging() noexcept {
  const int fd = queues_[0]->tun.get();
  int result = 0;
  const auto settle = [&result](int answer, bool* settled, std::atomic<bool>* merge) {
    // Any other error is of the moment (EIO: the device is down; ENOBUFS, EAGAIN) and says nothing about superpackets.
    *settled = answer == 0 || answer == -EINVAL || answer == -EOPNOTSUPP;
    if (*settled) {
      merge->store(answer == 0, std::memory_order_relaxed);
    } else {
      result = answer;
    }
  };
  // Each is asked for by itself: what may be written to the device does not depend on what it was told to let us read.
  // A kernel that knows no UDP superpackets (before 6.2) answers EINVAL.
  const auto probe = [this, fd](bool wanted, uint8_t protocol) {
    return wanted ? WriteProbe(fd, options_.own_address, protocol) : -EOPNOTSUPP;
  };
  if (!tcp_settled_) settle(probe(options_.offload.merge_tcp, kProtocolTcp), &tcp_settled_, &tcp_merge_);
  if (!udp_settled_) settle(probe(options_.offload.merge_udp, kProtocolUdp), &udp_settled_, &udp_merge_);
  return result;
}

struct EngineOpener {
  static OpenResult Open(EngineOptions options) {
    OpenResult result;
    std::shared_ptr<Engine> engine;
    {
      std::lock_guard<std::mutex> lock(registry_mutex);
      engine = std::make_shared<Engine>(std::move(options), next_id++);
    }
    engine->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!engine->stop_.valid()) {
      result.error = errno;
      result.operation = "eventfd";
      return result;
    }
    const EngineOptions& wanted = engine->options_;
    for (int32_t i = 0; i < wanted.queues; i++) {
      auto queue = std::make_unique<Queue>();
      // The socket first: a port that is taken must not leave a device behind.
      UdpResult udp = OpenUdp({wanted.listen_address, wanted.port, wanted.queues > 1, wanted.offload.udp_segment,
                               wanted.offload.udp_gro, wanted.buffer_bytes});
      if (udp.error != 0) {
        result.error = udp.error;
        result.operation = udp.operation;
        return result;
      }
      TunResult tun = OpenTun(wanted.device, wanted.queues > 1);
      if (tun.error != 0) {
        result.error = tun.error;
        result.operation = tun.operation;
        return result;
      }
      // One port for all would be one path, one receive queue and one thread at the other host, however many are here.
      if (wanted.queues > 1) {
        queue->send_only = OpenSendOnly(wanted.listen_address, static_cast<uint8_t>(i), wanted.buffer_bytes);
      }
      queue->udp = std::move(udp.fd);
      queue->mtu_discovery = udp.mtu_discovery;
      queue->tun = std::move(tun.fd);
      // Offloads belong to the device, not to the queue; asking again for each queue changes nothing.
      engine->granted_.tun = GrantTunOffloads(queue->tun.get(), wanted.offload.tun_tso, wanted.offload.tun_uso);
      engine->granted_.device_index = ::if_nametoindex(wanted.device.c_str());
      engine->granted_.udp_gro = udp.gro;
      engine->granted_.udp_segments = udp.segments;
      engine->granted_.receive_bytes = udp.receive_bytes;
      engine->granted_.send_bytes = udp.send_bytes;
      engine->queues_.push_back(std::move(queue));
    }
    const int first = engine->queues_[0]->tun.get();
    // An adopted device may have the program of a daemon that was killed.
    QueueBound::Detach(first);
    if (wanted.offload.tun_queue_bound) {
      engine->bound_ = QueueBound::Attach(first, static_cast<uint32_t>(wanted.queues));
      engine->granted_.queue_bytes = engine->bound_ ? kQueueBytes : 0;
    }
    if (wanted.queues > 1) {
      SpreadByQueue(engine->queues_[0]->udp.get(), wanted.port, static_cast<uint32_t>(wanted.queues));
    }
    std::lock_guard<std::mutex> lock(registry_mutex);
    registry.emplace(engine->id(), engine);
    result.engine = std::move(engine);
    return result;
  }
};

OpenResult OpenEngine(EngineOptions options) noexcept { return EngineOpener::Open(std::move(options)); }

std::shared_ptr<Engine> FindEngine(int32_t id) noexcept {
  std::lock_guard<std::mutex> lock(registry_mutex);
  const auto found = registry.find(id);
  return found == registry.end() ? nullptr : found->second;
}

void CloseEngine(int32_t id) noexcept {
  std::shared_ptr<Engine> engine;
  {
    std::lock_guard<std::mutex> lock(registry_mutex);
    const auto found = registry.find(id);
    if (found == registry.end()) return;
    engine = std::move(found->second);
    registry.erase(found);
  }
  engine->Stop();
}

}  // namespace twill
