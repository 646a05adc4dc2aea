#include "engine/engine.h"

#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <map>
#include <mutex>

#include "kernel/tun.h"
#include "kernel/udp_socket.h"
#include "packet/ipv4.h"

namespace twill {

namespace {

std::mutex registry_mutex;
std::map<int32_t, std::shared_ptr<Engine>> registry;  // guarded by registry_mutex
int32_t next_id = 1;                                  // guarded by registry_mutex

constexpr size_t kProbePayload = 3;  // two bytes and a shorter tail of one

// A superpacket of two segments that the stack drops before anyone sees it: of IPv4 as martian, because it is from the
// TUN's own address, of IPv6 because it is to a multicast address of the reserved scope 0 (RFC 4291 section 2.7).
int WriteProbe(int fd, const HostAddress& own, uint8_t protocol) noexcept {
  const bool tcp = protocol == kProtocolTcp;
  const size_t ip_header = own.is_v6 ? kIpv6Header : kMinIpHeader;
  const size_t headers = ip_header + (tcp ? 20 : kUdpHeader);
  const size_t total = headers + kProbePayload;
  uint8_t buffer[sizeof(VnetHeader) + kIpv6Header + 20 + kProbePayload] = {};
  VnetHeader vnet{};
  vnet.flags = kVnetNeedsCsum;
  vnet.gso_type = !tcp ? kVnetGsoUdpL4 : own.is_v6 ? kVnetGsoTcpV6 : kVnetGsoTcpV4;
  vnet.hdr_len = static_cast<uint16_t>(headers);
  vnet.gso_size = 2;
  vnet.csum_start = static_cast<uint16_t>(ip_header);
  vnet.csum_offset = tcp ? kTcpCsumOffset : kUdpCsumOffset;
  std::memcpy(buffer, &vnet, sizeof vnet);
  uint8_t* ip = buffer + sizeof vnet;
  if (own.is_v6) {
    ip[0] = 0x60;
    ip[kIpv6NextHeader] = protocol;
    ip[kIpv6HopLimit] = 1;
    StoreAddress(ip + kIpv6Source, own.address, true);
    ip[kIpv6Destination] = 0xff;
    ip[kIpv6Destination + 15] = 1;
  } else {
    ip[0] = 0x45;
    ip[8] = 1;
    ip[9] = protocol;
    StoreAddress(ip + kIpv4Source, own.address, false);
    StoreAddress(ip + kIpv4Source + 4, own.address, false);
  }
  WriteTotalLength(ip, own.is_v6, static_cast<uint32_t>(total));
  if (!own.is_v6) WriteIpChecksum(ip, kMinIpHeader);
  uint8_t* transport = ip + ip_header;
  if (tcp) {
    transport[12] = 5 << 4;
    transport[13] = kTcpAck;
  } else {
    StoreBe16(transport + 4, kUdpHeader + kProbePayload);
  }
  const ssize_t written = ::write(fd, buffer, sizeof vnet + total);
  return written < 0 ? -errno : 0;
}

int AdoptedAt(const std::vector<int>& descriptors, int32_t index) noexcept {
  return static_cast<size_t>(index) < descriptors.size() ? descriptors[static_cast<size_t>(index)] : -1;
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
  // Nor does any kernel take those of one family only (tun.c, virtio_net_hdr_to_skb), so one speaks for both.
  const bool is_v6 = !options_.families.v4;
  const HostAddress own = {options_.own_address[is_v6], is_v6};
  const auto probe = [fd, &own](bool wanted, uint8_t protocol) {
    return wanted ? WriteProbe(fd, own, protocol) : -EOPNOTSUPP;
  };
  if (!tcp_settled_) settle(probe(options_.offload.merge_tcp, kProtocolTcp), &tcp_settled_, &tcp_merge_);
  if (!udp_settled_) settle(probe(options_.offload.merge_udp, kProtocolUdp), &udp_settled_, &udp_merge_);
  return result;
}

int Engine::Wait(int fd, int other, int most_ms) const noexcept {
  pollfd wait[3] = {{stop_.get(), POLLIN, 0}, {fd, POLLIN, 0}, {other, POLLIN, 0}};
  if (::poll(wait, other < 0 ? 2 : 3, most_ms) < 0) return errno == EINTR ? 0 : -errno;
  return (wait[0].revents & POLLIN) != 0 ? -ECANCELED : wait[1].revents | wait[2].revents;
}

Result<std::shared_ptr<Engine>> Engine::Open(EngineOptions options, int32_t id) noexcept {
  std::shared_ptr<Engine> engine(new Engine(std::move(options), id));
  if (!engine->options_.listen[0] && !engine->options_.listen[1]) return Failure{EINVAL, "listen"};
  engine->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!engine->stop_.valid()) return Failure::Of("eventfd");
  for (int32_t i = 0; i < engine->options_.queues; i++) {
    if (const auto failure = engine->OpenQueue(i)) return *failure;
  }
  engine->JoinQueues();
  return engine;
}

std::optional<Failure> Engine::OpenQueue(int32_t index) noexcept {
  auto queue = std::make_unique<Queue>();
  // The sockets first: a port that is taken must not leave a device behind.
  for (const bool is_v6 : {false, true}) {
    if (const auto failure = OpenOuter(index, is_v6, &queue->outer[is_v6])) return failure;
  }
  const int adopted = AdoptedAt(options_.adopted_tun, index);
  Result<UniqueFd> tun = adopted >= 0 ? AdoptTun(adopted, options_.device, options_.queues > 1)
                                      : OpenTun(options_.device, options_.queues > 1);
  if (!tun.ok()) return tun.failure();
  queue->tun = std::move(tun.value());
  // Offloads belong to the device, not to the queue; asking again for each queue changes nothing.
  granted_.tun = GrantTunOffloads(queue->tun.get(), options_.offload.tun_tso, options_.offload.tun_uso);
  granted_.device_index = ::if_nametoindex(options_.device.c_str());
  queues_.push_back(std::move(queue));
  return std::nullopt;
}

std::optional<Failure> Engine::OpenOuter(int32_t index, bool is_v6, OuterSockets* outer) noexcept {
  if (!options_.listen[is_v6]) return std::nullopt;
  const HostAddress address = {*options_.listen[is_v6], is_v6};
  const bool shares = options_.queues > 1;
  Result<UdpSocket> opened = OpenUdp({address, options_.port, shares, options_.offload.udp_segment,
                                      options_.offload.udp_gro, options_.buffer_bytes,
                                      AdoptedAt(options_.adopted_udp[is_v6], index)});
  if (!opened.ok()) return opened.failure();
  UdpSocket& udp = opened.value();
  // One port for all would be one path, one receive queue and one thread at the other host, however many are here.
  if (shares) outer->send_only = OpenSendOnly(address, static_cast<uint8_t>(index), options_.buffer_bytes);
  outer->udp = std::move(udp.fd);
  outer->mtu_discovery = udp.mtu_discovery;
  // A kernel grants both families the same.
  granted_.udp_gro = udp.gro;
  granted_.udp_segments = udp.segments;
  granted_.receive_bytes = udp.receive_bytes;
  granted_.send_bytes = udp.send_bytes;
  return std::nullopt;
}

// What concerns all queues together: the bound of the device, and which socket of the port gets what.
void Engine::JoinQueues() noexcept {
  const int tun = queues_[0]->tun.get();
  const auto count = static_cast<uint32_t>(options_.queues);
  // An adopted device may have the program of a daemon that was killed.
  QueueBound::Detach(tun);
  if (options_.offload.tun_queue_bound) {
    bound_ = QueueBound::Attach(tun, count);
    granted_.queue_bytes = bound_ ? kQueueBytes : 0;
  }
  for (const bool is_v6 : {false, true}) {
    const UniqueFd& udp = queues_[0]->outer[is_v6].udp;
    if (count > 1 && udp.valid()) SpreadByQueue(udp.get(), is_v6, options_.port, count);
  }
}

Result<std::shared_ptr<Engine>> OpenEngine(EngineOptions options) noexcept {
  int32_t id;
  {
    std::lock_guard<std::mutex> lock(registry_mutex);
    id = next_id++;
  }
  Result<std::shared_ptr<Engine>> opened = Engine::Open(std::move(options), id);
  if (!opened.ok()) return opened;
  std::lock_guard<std::mutex> lock(registry_mutex);
  registry.emplace(id, opened.value());
  return opened;
}

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
  // Now, and not when the last worker has let go: what it holds belongs to this thread.
  engine->lanes().Close();
}

}  // namespace twill
