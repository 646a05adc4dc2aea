// A BPF program as it is written: instructions one behind the other, jumps to labels that are bound later.
//
// Just what the lane's programs need: moves, arithmetic, jumps forward, calls of helpers, addresses of maps. Nothing is
// checked here; the verifier of the kernel does. Remarks are kept with the instruction that follows them: they explain
// a disassembly and never reach the kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lane/kernel_abi.h"

namespace twill::bpf {

// By the calling convention: 1 to 5 hold arguments and are lost in a call, 6 to 9 are kept, kFrame is the end of the
// stack and is read only.
enum class Register : uint8_t { k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, kFrame };

// Bytes that a load or a store moves.
enum class Width : uint8_t { k4 = BPF_W, k2 = BPF_H, k1 = BPF_B, k8 = BPF_DW };

enum class Operation : uint8_t {
  kAdd = BPF_ADD,
  kSubtract = BPF_SUB,
  kMultiply = BPF_MUL,
  kDivide = BPF_DIV,
  kAnd = BPF_AND,
  kOr = BPF_OR,
  kXor = BPF_XOR,
  kShiftLeft = BPF_LSH,
  kShiftRight = BPF_RSH,
  kShiftRightSigned = BPF_ARSH,
  kMove = BPF_MOV,
};

// Unsigned but for the last.
enum class Condition : uint8_t {
  kEqual = BPF_JEQ,
  kNotEqual = BPF_JNE,
  kAbove = BPF_JGT,
  kNotBelow = BPF_JGE,
  kBelow = BPF_JLT,
  kNotAbove = BPF_JLE,
  kAboveSigned = BPF_JSGT,
};

// Of one assembler.
struct Label {
  uint16_t number;
};

struct Remark {
  size_t instruction;
  const char* text;  // a literal
  bool is_label;
};

class Assembler {
 public:
  // `name` is a literal.
  Label NewLabel(const char* name) noexcept;
  void Bind(Label label) noexcept;
  void Say(const char* text) noexcept { remarks_.push_back({code_.size(), text, false}); }

  void Load(Width width, Register to, Register from, int offset) noexcept;
  void Store(Width width, Register at, int offset, Register from) noexcept;
  void StoreValue(Width width, Register at, int offset, int32_t value) noexcept;
  // Locked: other CPUs add to it too. 8 bytes.
  void AtomicAdd(Register at, int offset, Register from) noexcept;

  void Apply(Operation operation, Register to, Register from) noexcept;
  void Apply(Operation operation, Register to, int32_t value) noexcept;  // sign-extended
  void Apply32(Operation operation, Register to, Register from) noexcept;
  void Apply32(Operation operation, Register to, int32_t value) noexcept;
  void Set(Register to, int32_t value) noexcept { Apply(Operation::kMove, to, value); }
  void Copy(Register to, Register from) noexcept { Apply(Operation::kMove, to, from); }
  // Between the order of the host and that of the network; what is above the 16 bits is zero then.
  void Swap16(Register value) noexcept;
  void LoadMap(Register to, int map) noexcept;

  void Jump(Label to) noexcept;
  void JumpIf(Condition condition, Register a, Register b, Label to) noexcept;
  void JumpIf(Condition condition, Register a, int32_t b, Label to) noexcept;  // b is sign-extended
  void JumpIf32(Condition condition, Register a, int32_t b, Label to) noexcept;
  void Call(int32_t helper) noexcept;
  void Exit() noexcept;

  // With every jump resolved. Once, when all labels are bound.
  const std::vector<bpf_insn>& Finish() noexcept;
  const std::vector<Remark>& remarks() const noexcept { return remarks_; }

 private:
  struct Jumping {
    size_t instruction;
    Label to;
  };
  struct Target {
    const char* name;
    size_t instruction;
  };

  void Emit(int code, Register to, Register from, int offset, int32_t value) noexcept;
  void EmitJump(int code, Register a, Register b, int32_t value, Label to) noexcept;

  std::vector<bpf_insn> code_;
  std::vector<Remark> remarks_;
  std::vector<Target> targets_;
  std::vector<Jumping> jumps_;
};

}  // namespace twill::bpf
