// The maps of a lane: what its programs read and write (layout.h), and this process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "kernel/failure.h"
#include "kernel/unique_fd.h"
#include "lane/layout.h"
#include "lane/programs.h"

namespace twill {

class LaneMaps {
 public:
  LaneMaps() noexcept = default;
  ~LaneMaps();
  LaneMaps(const LaneMaps&) = delete;
  LaneMaps& operator=(const LaneMaps&) = delete;

  // An empty table; the counters, proofs and slots of `before`, or none when that is null; the map that the workers
  // write to. Once.
  std::optional<Failure> Make(const LaneMaps* before, int workers) noexcept;
  LaneMapFds fds() const noexcept {
    return {config_.get(), routes_.get(), peers_.get(), flows_.get(), behind_.get(), workers_.get(), totals_.get()};
  }

  // 0 or -errno, all of them.
  int WriteConfig(const LaneConfig& config) noexcept;
  int SetRoute(const LaneRouteKey& key, const LaneRoute& route) noexcept;
  int DeleteRoute(const LaneRouteKey& key) noexcept;  // 0 also when there is none
  // The sums over all CPUs; those of an earlier process's lane, 0 without one.
  int ReadTotals(uint64_t (&totals)[kLaneTotals]) const noexcept;
  int ReadFormerTotals(uint64_t (&totals)[kLaneTotals]) const noexcept;
  // Holds on to the totals that are pinned in a folder, before PinIn() puts others there.
  void KeepFormer(const std::string& folder) noexcept;
  // Gives each a name in a folder of a BPF file system, for an operator's bpftool.
  int PinIn(const std::string& folder) const noexcept;

  const LanePeer& peer(size_t row) const noexcept { return rows_[row]; }
  // It is proven no longer.
  void ForgetPeer(size_t row) noexcept;

 private:
  UniqueFd config_, routes_, peers_, flows_, behind_, workers_, totals_, former_totals_;
  LanePeer* rows_ = nullptr;  // the entries of peers_
  size_t cpus_ = 0;           // possible ones
};

}  // namespace twill
