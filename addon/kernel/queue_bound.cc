#include "kernel/queue_bound.h"

#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <iterator>

namespace twill {

namespace {

// Missing from headers older than 4.16 and 5.5.
constexpr unsigned long kTunSetFilterEbpf = _IOR('T', 225, int);
constexpr uint32_t kMmapable = 1u << 10;  // BPF_F_MMAPABLE

// A worker looks at least every kMaxWaitMs (engine/engine.h), so one that has not for so long is gone or stopped.
constexpr int32_t kStaleNs = 1'000'000'000;

int Bpf(int command, bpf_attr* attributes) noexcept {
  return static_cast<int>(::syscall(SYS_bpf, command, attributes, sizeof *attributes));
}

UniqueFd CreateMap(uint32_t queues) noexcept {
  bpf_attr attributes;
  std::memset(&attributes, 0, sizeof attributes);
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = sizeof(uint32_t);
  attributes.value_size = sizeof(QueueLoad);
  attributes.max_entries = queues;
  attributes.map_flags = kMmapable;
  return UniqueFd(Bpf(BPF_MAP_CREATE, &attributes));
}

constexpr bpf_insn Instruction(int code, int to, int from, int offset, int immediate) noexcept {
  bpf_insn instruction{};
  instruction.code = static_cast<__u8>(code);
  instruction.dst_reg = static_cast<__u8>(to & 15);
  instruction.src_reg = static_cast<__u8>(from & 15);
  instruction.off = static_cast<__s16>(offset);
  instruction.imm = immediate;
  return instruction;
}

constexpr bpf_insn Load(int size, int to, int from, size_t offset) noexcept {
  return Instruction(BPF_LDX | BPF_MEM | size, to, from, static_cast<int>(offset), 0);
}
constexpr bpf_insn Copy(int to, int from) noexcept { return Instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
constexpr bpf_insn Set(int to, int value) noexcept { return Instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
constexpr bpf_insn Subtract(int to, int from) noexcept {
  return Instruction(BPF_ALU64 | BPF_SUB | BPF_X, to, from, 0, 0);
}
constexpr bpf_insn JumpIf(int condition, int a, int value, int skip) noexcept {
  return Instruction(BPF_JMP | condition | BPF_K, a, 0, skip, value);
}
constexpr bpf_insn Call(int helper) noexcept { return Instruction(BPF_JMP | BPF_CALL, 0, 0, 0, helper); }
constexpr bpf_insn Exit() noexcept { return Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

// Returns the bytes of the packet to keep: all, or 0 for a packet that is to be dropped.
UniqueFd LoadProgram(int map) noexcept {
  enum { kR0, kR1, kR2, kR6 = 6, kPacket = 7, kLoad = 8, kGsoSize = 9, kFrame = 10 };
  const bpf_insn program[] = {
      Copy(kR6, kR1),
      Load(BPF_W, kPacket, kR1, offsetof(__sk_buff, len)),
      // load = &map[queue], which tun_net_xmit takes from queue_mapping too
      Load(BPF_W, kR2, kR6, offsetof(__sk_buff, queue_mapping)),
      Instruction(BPF_STX | BPF_MEM | BPF_W, kFrame, kR2, -4, 0),
      Copy(kR2, kFrame),
      Instruction(BPF_ALU64 | BPF_ADD | BPF_K, kR2, 0, 0, -4),
      Instruction(BPF_LD | BPF_DW | BPF_IMM, kR1, BPF_PSEUDO_MAP_FD, 0, map),
      Instruction(0, 0, 0, 0, 0),
      Call(BPF_FUNC_map_lookup_elem),
      JumpIf(BPF_JEQ, kR0, 0, 17),  // no such queue: pass
      Copy(kLoad, kR0),
      Load(BPF_W, kGsoSize, kR6, offsetof(__sk_buff, gso_size)),  // 0 for a single packet
      // now - looked_ns > kStaleNs: pass, but charged: a worker that starts, or goes on, will read it
      Call(BPF_FUNC_ktime_get_ns),
      Load(BPF_DW, kR1, kLoad, offsetof(QueueLoad, looked_ns)),
      Subtract(kR0, kR1),
      JumpIf(BPF_JGT, kR0, kStaleNs, 6),
      // queued - read + (a superpacket's: kReserveBytes) > kQueueBytes: drop. Signed, for the worker may be ahead.
      Load(BPF_DW, kR1, kLoad, offsetof(QueueLoad, queued)),
      Load(BPF_DW, kR2, kLoad, offsetof(QueueLoad, read)),
      Subtract(kR1, kR2),
      JumpIf(BPF_JEQ, kGsoSize, 0, 1),
      Instruction(BPF_ALU64 | BPF_ADD | BPF_K, kR1, 0, 0, kReserveBytes),
      JumpIf(BPF_JSGT, kR1, kQueueBytes, 7),
      // queued += a superpacket's: max(len, kLeastCharge); a single packet's: kLeastCharge
      Set(kR2, kLeastCharge),
      JumpIf(BPF_JEQ, kGsoSize, 0, 2),
      JumpIf(BPF_JLE, kPacket, kLeastCharge, 1),
      Copy(kR2, kPacket),
      // BPF_XADD: the device transmits on several CPUs at once
      Instruction(BPF_STX | BPF_DW | 0xc0, kLoad, kR2, offsetof(QueueLoad, queued), BPF_ADD),
      Copy(kR0, kPacket),  // pass
      Exit(),
      Set(kR0, 0),  // drop
      Exit(),
  };
  bpf_attr attributes;
  std::memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = reinterpret_cast<uint64_t>(program);
  attributes.insn_cnt = static_cast<uint32_t>(std::size(program));
  attributes.license = reinterpret_cast<uint64_t>("Apache-2.0");
  return UniqueFd(Bpf(BPF_PROG_LOAD, &attributes));
}

}  // namespace

std::unique_ptr<QueueBound> QueueBound::Attach(int tun, uint32_t queues) noexcept {
  const UniqueFd map = CreateMap(queues);
  if (!map.valid()) return nullptr;
  // Map and program live on without their descriptors: the mapping holds the one, the device the other.
  const UniqueFd program = LoadProgram(map.get());
  if (!program.valid()) return nullptr;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t mapped = (queues * sizeof(QueueLoad) + page - 1) / page * page;
  void* memory = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, map.get(), 0);
  if (memory == MAP_FAILED) return nullptr;
  std::unique_ptr<QueueBound> bound(new QueueBound(tun, static_cast<QueueLoad*>(memory), mapped));
  int fd = program.get();
  if (::ioctl(tun, kTunSetFilterEbpf, &fd) < 0) return nullptr;
  return bound;
}

void QueueBound::Detach(int tun) noexcept {
  int none = -1;
  ::ioctl(tun, kTunSetFilterEbpf, &none);
}

QueueBound::~QueueBound() {
  if (!is_left_) Detach(tun_);
  ::munmap(loads_, mapped_);
}

}  // namespace twill
