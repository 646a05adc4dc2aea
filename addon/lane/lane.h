// The lane of one engine: a short cut in the kernel for what the table already answers.
//
//      TUN device ── encap ─────────────────────────► uplink          what they do not take goes by the engine,
//      TUN device ◄───────────────────────── decap ── uplink          as if they were not there
//
// Two programs for tc (programs.h) read maps that are filled from here (layout.h). Opened, filled, attached, in this
// order, so that a daemon which takes over from another, or from the lane the engine had, never has an empty table in
// the way: attaching puts the new programs into the links of the old.
//
// Pinned, links and maps live on when the process ends; not pinned, they end with it. Main thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "kernel/failure.h"
#include "kernel/unique_fd.h"
#include "lane/layout.h"
#include "lane/maps.h"
#include "lane/programs.h"

namespace twill {

struct LaneOptions {
  LaneHost host;
  LaneMode mode;
  uint32_t quiet_ms;
  uint32_t packets_per_ms;
  std::string pin_folder;  // empty for none
};

// One change of the table; addresses in host order.
struct LaneChange {
  bool is_delete;
  bool is_another_lease;  // than the row had: what was heard of that does not prove this
  uint32_t network;
  uint32_t length;
  uint32_t peer;
  uint16_t port;
  uint16_t mtu;
  uint32_t row;
};

class Lane {
 public:
  // Maps and loaded programs. Counters, and which peers are proven, go on from `before`, when that is not null;
  // `workers` is the map of the engine's WorkerBoard.
  static Result<std::unique_ptr<Lane>> Open(LaneOptions options, const Lane* before, int workers) noexcept;

  bool pinned() const noexcept { return !options_.pin_folder.empty(); }
  size_t encap_instructions() const noexcept { return encap_instructions_; }
  size_t decap_instructions() const noexcept { return decap_instructions_; }

  // In the place of `before`, if that is not null, or of what the folder holds. 0 or -errno: what was before goes on
  // then.
  int Attach(const Lane* before) noexcept;
  int SetMode(LaneMode mode) noexcept;
  int Apply(const LaneChange& change) noexcept;
  // Adds the sums over all CPUs. 0 or -errno.
  int ReadTotals(uint64_t (&totals)[kLaneTotals]) const noexcept { return maps_.ReadTotals(totals); }
  // Those of the lane that an earlier process had pinned and that this one took the place of, as it left them.
  int ReadFormerTotals(uint64_t (&totals)[kLaneTotals]) const noexcept { return maps_.ReadFormerTotals(totals); }
  const LanePeer& peer(size_t row) const noexcept { return maps_.peer(row); }
  // It ends with the process now.
  void Unpin() noexcept;
  // Takes the programs off, unless they are pinned; what was counted can still be read.
  void End() noexcept;

 private:
  explicit Lane(LaneOptions options) noexcept : options_(std::move(options)) {}
  std::optional<Failure> LoadPrograms() noexcept;
  int WriteConfig() noexcept;

  LaneOptions options_;
  LaneMaps maps_;
  UniqueFd encap_, decap_;  // programs
  UniqueFd encap_link_, decap_link_;
  size_t encap_instructions_ = 0;
  size_t decap_instructions_ = 0;
};

// Whether the kernel has tcx (since 6.6); or why it refuses BPF.
Result<bool> ProbeLane() noexcept;

}  // namespace twill
