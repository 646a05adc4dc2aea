// A program for tcx as somebody else would have it: `foreign_tcx DEVICE before|after` counts what arrives there.
//
// It attaches itself before or after all programs there are, answers a line on stdin with the count, and ends with
// its input.

#include <net/if.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "lane/assembler.cc"
#include "lane/bpf_calls.cc"

using namespace twill;
using bpf::Condition;
using bpf::Operation;
using bpf::Register;
using bpf::Width;

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const UniqueFd map = bpf::CreateMap({BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0, "foreign"});
  bpf::Assembler program;
  const bpf::Label end = program.NewLabel("end");
  program.StoreValue(Width::k4, Register::kFrame, -4, 0);
  program.LoadMap(Register::k1, map.get());
  program.Copy(Register::k2, Register::kFrame);
  program.Apply(Operation::kAdd, Register::k2, -4);
  program.Call(bpf::kMapLookup);
  program.JumpIf(Condition::kEqual, Register::k0, 0, end);
  program.Set(Register::k1, 1);
  program.AtomicAdd(Register::k0, 0, Register::k1);
  program.Bind(end);
  program.Set(Register::k0, bpf::kTcxNext);
  program.Exit();
  const UniqueFd loaded = bpf::LoadProgram(program.Finish(), "GPL", "foreign");
  constexpr uint32_t kBefore = 1u << 3;  // BPF_F_BEFORE: without a relative, the first
  const bool is_before = std::strcmp(arguments[2], "before") == 0;
  bpf::LinkCreate attributes = {static_cast<uint32_t>(loaded.get()), ::if_nametoindex(arguments[1]), bpf::kTcxIngress,
                                is_before ? kBefore : 0};
  const UniqueFd link(static_cast<int>(::syscall(SYS_bpf, bpf::kLinkCreate, &attributes, sizeof attributes)));
  if (!map.valid() || !loaded.valid() || !link.valid()) {
    std::perror("foreign_tcx");
    return 1;
  }
  std::printf("ready\n");
  std::fflush(stdout);
  for (int c = std::getchar(); c != EOF; c = std::getchar()) {
    if (c != '\n') continue;
    const uint32_t key = 0;
    uint64_t value = 0;
    bpf::LookupEntry(map.get(), &key, &value);
    std::printf("%llu\n", static_cast<unsigned long long>(value));
    std::fflush(stdout);
  }
}
