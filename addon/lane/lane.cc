#include "lane/lane.h"

#include <arpa/inet.h>
#include <net/if_arp.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "kernel/clock.h"
#include "lane/bpf_calls.h"
#include "lane/pins.h"

namespace twill {

namespace {

constexpr const char* kEncapName = "encap";
constexpr const char* kDecapName = "decap";

// EPROTOTYPE when the device is no Ethernet: decap looks for the outer header behind 14 bytes.
std::optional<Failure> CheckEthernet(uint32_t ifindex) noexcept {
  ifreq request{};
  if (::if_indextoname(ifindex, request.ifr_name) == nullptr) return Failure::Of("if_indextoname");
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Failure::Of("socket");
  if (::ioctl(fd.get(), SIOCGIFHWADDR, &request) < 0) return Failure::Of("SIOCGIFHWADDR");
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) return Failure{EPROTOTYPE, "SIOCGIFHWADDR"};
  return std::nullopt;
}

// The link of a program at one end of a device: the one that `before` has or that is pinned under `name`, which still
// runs its old program; else a new one, which runs `program`.
struct FoundLink {
  UniqueFd fd;
  bool is_new;
};

FoundLink FindLink(const UniqueFd* before, const std::string& folder, const char* name, int program, uint32_t ifindex,
                   uint32_t attach_type) noexcept {
  if (before != nullptr && before->valid() && bpf::IsLinkOf(before->get(), ifindex, attach_type)) {
    return {before->Duplicate(), false};
  }
  if (!folder.empty()) {
    UniqueFd pinned = bpf::OpenPin(folder + "/" + name);
    if (pinned.valid() && bpf::IsLinkOf(pinned.get(), ifindex, attach_type)) return {std::move(pinned), false};
  }
  return {bpf::CreateLink(program, ifindex, attach_type), true};
}

}  // namespace

Result<std::unique_ptr<Lane>> Lane::Open(LaneOptions options, const Lane* before, int workers) noexcept {
  std::unique_ptr<Lane> lane(new Lane(std::move(options)));
  if (const auto failure = CheckEthernet(lane->options_.host.uplink_index)) return *failure;
  if (const auto failure = lane->maps_.Make(before != nullptr ? &before->maps_ : nullptr, workers)) return *failure;
  if (const auto failure = lane->LoadPrograms()) return *failure;
  std::string& folder = lane->options_.pin_folder;
  if (!folder.empty() && MakePinFolder(folder) != 0) folder.clear();
  return lane;
}

std::optional<Failure> Lane::LoadPrograms() noexcept {
  bpf::Assembler encap;
  WriteEncap(&encap, options_.host, maps_.fds());
  const std::vector<bpf_insn>& out = encap.Finish();
  encap_instructions_ = out.size();
  encap_ = bpf::LoadProgram(out, kProgramLicense, "twill_encap");
  if (!encap_.valid()) return Failure::Of("BPF_PROG_LOAD encap");
  bpf::Assembler decap;
  WriteDecap(&decap, options_.host, maps_.fds());
  const std::vector<bpf_insn>& in = decap.Finish();
  decap_instructions_ = in.size();
  decap_ = bpf::LoadProgram(in, kProgramLicense, "twill_decap");
  if (!decap_.valid()) return Failure::Of("BPF_PROG_LOAD decap");
  return std::nullopt;
}

// It begins to send now, if it does: what the engine has in its queues goes first.
int Lane::WriteConfig() noexcept {
  const uint64_t quiet_ns = uint64_t{options_.quiet_ms} * 1'000'000;
  const LaneConfig config = {static_cast<uint32_t>(options_.mode), TickOf(quiet_ns),
                             options_.packets_per_ms, TickOf(MonotonicNs())};
  return maps_.WriteConfig(config);
}

int Lane::Attach(const Lane* before) noexcept {
  int error = WriteConfig();
  if (error != 0) return error;
  const std::string& folder = options_.pin_folder;
  FoundLink in = FindLink(before != nullptr ? &before->decap_link_ : nullptr, folder, kDecapName, decap_.get(),
                          options_.host.uplink_index, bpf::kTcxIngress);
  if (!in.fd.valid()) return -errno;
  FoundLink out = FindLink(before != nullptr ? &before->encap_link_ : nullptr, folder, kEncapName, encap_.get(),
                           options_.host.tun_index, bpf::kTcxEgress);
  if (!out.fd.valid()) return -errno;
  // What can fail for want of room first.
  if (pinned()) {
    if (before == nullptr) maps_.KeepFormer(folder);
    if (in.is_new) error = PinAs(in.fd.get(), folder, kDecapName);
    if (error == 0 && out.is_new) error = PinAs(out.fd.get(), folder, kEncapName);
    if (error == 0) error = maps_.PinIn(folder);
    if (error != 0) return error;
  }
  if (!in.is_new) error = bpf::UpdateLink(in.fd.get(), decap_.get());
  if (error == 0 && !out.is_new) error = bpf::UpdateLink(out.fd.get(), encap_.get());
  if (error != 0) return error;
  decap_link_ = std::move(in.fd);
  encap_link_ = std::move(out.fd);
  // Again: what a program before this one has left to the engine meanwhile goes first, too.
  return WriteConfig();
}

int Lane::SetMode(LaneMode mode) noexcept {
  options_.mode = mode;
  return WriteConfig();
}

int Lane::Apply(const LaneChange& change) noexcept {
  const LaneRouteKey key = {change.length, htonl(change.network)};
  if (change.is_delete) return maps_.DeleteRoute(key);
  if (change.is_another_lease) maps_.ForgetPeer(change.row);
  const int error = maps_.SetRoute(key, {htonl(change.peer), htons(change.port), change.mtu, change.row});
  // Again, for a program may have been at work with the old entry.
  if (change.is_another_lease) maps_.ForgetPeer(change.row);
  return error;
}

void Lane::Unpin() noexcept {
  if (pinned()) RemovePinFolder(options_.pin_folder);
  options_.pin_folder.clear();
}

void Lane::End() noexcept {
  if (pinned()) return;
  encap_link_.Reset();
  decap_link_.Reset();
}

Result<bool> ProbeLane() noexcept {
  const std::vector<bpf_insn> nothing = {
      {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, bpf::kTcxNext},
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  const UniqueFd program = bpf::LoadProgram(nothing, kProgramLicense, "twill_probe");
  if (!program.valid()) return Failure::Of("BPF_PROG_LOAD");
  const int answer = bpf::QueryTcx(::if_nametoindex("lo"));
  if (answer == 0) return true;
  if (answer == -EINVAL) return false;
  return Failure{-answer, "BPF_PROG_QUERY"};
}

}  // namespace twill
