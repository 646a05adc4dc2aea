#include "lane/assembler.h"

namespace twill::bpf {

namespace {

constexpr Register kNone = Register::k0;

template <typename Enum>
constexpr int Code(Enum value) noexcept {
  return static_cast<int>(value);
}

}  // namespace

Label Assembler::NewLabel(const char* name) noexcept {
  targets_.push_back({name, 0});
  return {static_cast<uint16_t>(targets_.size() - 1)};
}

void Assembler::Bind(Label label) noexcept {
  targets_[label.number].instruction = code_.size();
  remarks_.push_back({code_.size(), targets_[label.number].name, true});
}

void Assembler::Emit(int code, Register to, Register from, int offset, int32_t value) noexcept {
  bpf_insn instruction{};
  instruction.code = static_cast<__u8>(code);
  instruction.dst_reg = static_cast<__u8>(Code(to) & 15);
  instruction.src_reg = static_cast<__u8>(Code(from) & 15);
  instruction.off = static_cast<__s16>(offset);
  instruction.imm = value;
  code_.push_back(instruction);
}

void Assembler::Load(Width width, Register to, Register from, int offset) noexcept {
  Emit(BPF_LDX | BPF_MEM | Code(width), to, from, offset, 0);
}

void Assembler::Store(Width width, Register at, int offset, Register from) noexcept {
  Emit(BPF_STX | BPF_MEM | Code(width), at, from, offset, 0);
}

void Assembler::StoreValue(Width width, Register at, int offset, int32_t value) noexcept {
  Emit(BPF_ST | BPF_MEM | Code(width), at, kNone, offset, value);
}

void Assembler::AtomicAdd(Register at, int offset, Register from) noexcept {
  Emit(BPF_STX | kAtomic | BPF_DW, at, from, offset, BPF_ADD);
}

void Assembler::Apply(Operation operation, Register to, Register from) noexcept {
  Emit(BPF_ALU64 | Code(operation) | BPF_X, to, from, 0, 0);
}

void Assembler::Apply(Operation operation, Register to, int32_t value) noexcept {
  Emit(BPF_ALU64 | Code(operation) | BPF_K, to, kNone, 0, value);
}

void Assembler::Apply32(Operation operation, Register to, Register from) noexcept {
  Emit(BPF_ALU | Code(operation) | BPF_X, to, from, 0, 0);
}

void Assembler::Apply32(Operation operation, Register to, int32_t value) noexcept {
  Emit(BPF_ALU | Code(operation) | BPF_K, to, kNone, 0, value);
}

void Assembler::Swap16(Register value) noexcept { Emit(BPF_ALU | BPF_END | BPF_TO_BE, value, kNone, 0, 16); }

void Assembler::LoadMap(Register to, int map) noexcept {
  // Two instructions wide; the kernel replaces the descriptor by the map's address.
  Emit(BPF_LD | BPF_DW | BPF_IMM, to, static_cast<Register>(BPF_PSEUDO_MAP_FD), 0, map);
  Emit(0, kNone, kNone, 0, 0);
}

void Assembler::EmitJump(int code, Register a, Register b, int32_t value, Label to) noexcept {
  jumps_.push_back({code_.size(), to});
  Emit(code, a, b, 0, value);
}

void Assembler::Jump(Label to) noexcept { EmitJump(BPF_JMP | BPF_JA, kNone, kNone, 0, to); }

void Assembler::JumpIf(Condition condition, Register a, Register b, Label to) noexcept {
  EmitJump(BPF_JMP | Code(condition) | BPF_X, a, b, 0, to);
}

void Assembler::JumpIf(Condition condition, Register a, int32_t b, Label to) noexcept {
  EmitJump(BPF_JMP | Code(condition) | BPF_K, a, kNone, b, to);
}

void Assembler::JumpIf32(Condition condition, Register a, int32_t b, Label to) noexcept {
  EmitJump(kJump32 | Code(condition) | BPF_K, a, kNone, b, to);
}

void Assembler::Call(int32_t helper) noexcept { Emit(BPF_JMP | BPF_CALL, kNone, kNone, 0, helper); }

void Assembler::Exit() noexcept { Emit(BPF_JMP | BPF_EXIT, kNone, kNone, 0, 0); }

const std::vector<bpf_insn>& Assembler::Finish() noexcept {
  for (const Jumping& jump : jumps_) {
    const size_t target = targets_[jump.to.number].instruction;
    code_[jump.instruction].off = static_cast<__s16>(target - jump.instruction - 1);
  }
  jumps_.clear();
  return code_;
}

}  // namespace twill::bpf
