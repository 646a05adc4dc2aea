#include "lane/maps.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "lane/bpf_calls.h"
#include "lane/pins.h"

namespace twill {

namespace {

constexpr uint32_t kRows = 1 << 16;  // kMaxRows of engine/layout.h
// While a table is published, old and new prefixes are in it together.
constexpr uint32_t kMaxRoutes = 2 * kRows;
constexpr size_t kPeerBytes = kRows * sizeof(LanePeer);

constexpr const char* kTotalsName = "totals";

int AddUp(int map, size_t cpus, uint64_t (&totals)[kLaneTotals]) noexcept {
  std::vector<LaneCpu> values(cpus);
  const uint32_t key = 0;
  const int error = bpf::LookupEntry(map, &key, values.data());
  if (error != 0) return error;
  for (const LaneCpu& value : values) {
    for (size_t i = 0; i < kLaneTotals; i++) totals[i] += value.totals[i];
  }
  return 0;
}

}  // namespace

LaneMaps::~LaneMaps() {
  if (rows_ != nullptr) ::munmap(rows_, kPeerBytes);
}

std::optional<Failure> LaneMaps::Make(const LaneMaps* before, int workers) noexcept {
  constexpr uint32_t kIndex = sizeof(uint32_t);
  cpus_ = bpf::PossibleCpus();
  if (cpus_ == 0) return Failure{ENOENT, "/sys/devices/system/cpu/possible"};
  config_ = bpf::CreateMap({BPF_MAP_TYPE_ARRAY, kIndex, sizeof(LaneConfig), 1, 0, "twill_config"});
  if (!config_.valid()) return Failure::Of("BPF_MAP_CREATE config");
  routes_ = bpf::CreateMap({BPF_MAP_TYPE_LPM_TRIE, sizeof(LaneRouteKey), sizeof(LaneRoute), kMaxRoutes,
                            BPF_F_NO_PREALLOC, "twill_routes"});
  if (!routes_.valid()) return Failure::Of("BPF_MAP_CREATE routes");
  workers_ = UniqueFd(::fcntl(workers, F_DUPFD_CLOEXEC, 0));
  if (!workers_.valid()) return Failure::Of("F_DUPFD_CLOEXEC");
  if (before != nullptr) {
    peers_ = before->peers_.Duplicate();
    flows_ = before->flows_.Duplicate();
    behind_ = before->behind_.Duplicate();
    totals_ = before->totals_.Duplicate();
    if (!peers_.valid() || !flows_.valid() || !behind_.valid() || !totals_.valid()) {
      return Failure::Of("F_DUPFD_CLOEXEC");
    }
  } else {
    peers_ = bpf::CreateMap({BPF_MAP_TYPE_ARRAY, kIndex, sizeof(LanePeer), kRows, bpf::kMmapable, "twill_peers"});
    if (!peers_.valid()) return Failure::Of("BPF_MAP_CREATE peers");
    flows_ = bpf::CreateMap({BPF_MAP_TYPE_ARRAY, kIndex, sizeof(uint32_t), kLaneFlows, 0, "twill_flows"});
    if (!flows_.valid()) return Failure::Of("BPF_MAP_CREATE flows");
    behind_ = bpf::CreateMap({BPF_MAP_TYPE_ARRAY, kIndex, sizeof(uint32_t), 1 << kBehindBits, 0, "twill_behind"});
    if (!behind_.valid()) return Failure::Of("BPF_MAP_CREATE behind");
    totals_ = bpf::CreateMap({BPF_MAP_TYPE_PERCPU_ARRAY, kIndex, sizeof(LaneCpu), 1, 0, "twill_totals"});
    if (!totals_.valid()) return Failure::Of("BPF_MAP_CREATE totals");
  }
  void* memory = ::mmap(nullptr, kPeerBytes, PROT_READ | PROT_WRITE, MAP_SHARED, peers_.get(), 0);
  if (memory == MAP_FAILED) return Failure::Of("mmap");
  rows_ = static_cast<LanePeer*>(memory);
  return std::nullopt;
}

int LaneMaps::WriteConfig(const LaneConfig& config) noexcept {
  const uint32_t key = 0;
  return bpf::UpdateEntry(config_.get(), &key, &config);
}

int LaneMaps::SetRoute(const LaneRouteKey& key, const LaneRoute& route) noexcept {
  return bpf::UpdateEntry(routes_.get(), &key, &route);
}

int LaneMaps::DeleteRoute(const LaneRouteKey& key) noexcept {
  const int error = bpf::DeleteEntry(routes_.get(), &key);
  return error == -ENOENT ? 0 : error;
}

int LaneMaps::ReadTotals(uint64_t (&totals)[kLaneTotals]) const noexcept { return AddUp(totals_.get(), cpus_, totals); }

int LaneMaps::ReadFormerTotals(uint64_t (&totals)[kLaneTotals]) const noexcept {
  return former_totals_.valid() ? AddUp(former_totals_.get(), cpus_, totals) : 0;
}

void LaneMaps::KeepFormer(const std::string& folder) noexcept {
  former_totals_ = bpf::OpenPin(folder + "/" + kTotalsName);
  // Another release counts other things.
  if (former_totals_.valid() && !bpf::HasValues(former_totals_.get(), sizeof(LaneCpu))) former_totals_.Reset();
}

int LaneMaps::PinIn(const std::string& folder) const noexcept {
  const std::pair<int, const char*> maps[] = {{config_.get(), "config"},
                                              {routes_.get(), "routes"},
                                              {peers_.get(), "peers"},
                                              {flows_.get(), "flows"},
                                              {behind_.get(), "behind"},
                                              {workers_.get(), "workers"},
                                              {totals_.get(), kTotalsName}};
  for (const auto& [map, name] : maps) {
    const int error = PinAs(map, folder, name);
    if (error != 0) return error;
  }
  return 0;
}

void LaneMaps::ForgetPeer(size_t row) noexcept { __atomic_store_n(&rows_[row].heard_ns, 0, __ATOMIC_RELAXED); }

}  // namespace twill
