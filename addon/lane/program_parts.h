// What both programs of the lane do: words as packets have them, checks of a header, sums.
#pragma once

#include <arpa/inet.h>

#include <cstdint>

#include "lane/assembler.h"
#include "lane/layout.h"
#include "packet/ipv4.h"
#include "packet/split.h"

namespace twill {

// What a program loads and compares: the bytes of a packet as a word of this machine.
inline int32_t Be32(uint32_t value) noexcept { return static_cast<int32_t>(htonl(value)); }
inline int32_t Be16(uint32_t value) noexcept { return htons(static_cast<uint16_t>(value)); }

// Offsets in an IPv4 header, and in what follows it.
namespace ip_at {
inline constexpr int kTos = 1;
inline constexpr int kTotalLength = 2;
inline constexpr int kFragment = 6;
inline constexpr int kTtl = 8;
inline constexpr int kProtocol = 9;
inline constexpr int kChecksum = 10;
inline constexpr int kSource = 12;
inline constexpr int kDestination = 16;
}  // namespace ip_at
namespace udp_at {
inline constexpr int kSourcePort = 0;
inline constexpr int kDestinationPort = 2;
inline constexpr int kLength = 4;
inline constexpr int kChecksum = 6;
}  // namespace udp_at
inline constexpr int kTcpDataOffset = 12;
inline constexpr int kTcpMinHeader = 20;

// Of hashes of flows. Odd, with well mixed bits: the top bits of a product depend on all of the factor (Knuth's
// multiplicative hash).
inline constexpr int32_t kAddressFactor = static_cast<int32_t>(0x9e3779b1);
inline constexpr int32_t kPortFactor = static_cast<int32_t>(0x85ebca6b);

inline constexpr int kEthernetHeader = 14;
inline constexpr int kVersion4NoOptions = 0x45;
inline constexpr int kOuterBytes = 28;  // 20 outer IPv4 + 8 UDP

// Emits: `total` of the per-CPU totals that `totals` points to grows by one.
inline void CountOne(bpf::Assembler* program, bpf::Register totals, LaneTotal total, bpf::Register scratch) noexcept {
  const int offset = static_cast<int>(offsetof(LaneCpu, totals)) + 8 * static_cast<int>(total);
  program->Load(bpf::Width::k8, scratch, totals, offset);
  program->Apply(bpf::Operation::kAdd, scratch, 1);
  program->Store(bpf::Width::k8, totals, offset, scratch);
}

// Emits: the same, by the value of `amount`.
inline void CountBy(bpf::Assembler* program, bpf::Register totals, LaneTotal total, bpf::Register amount,
                    bpf::Register scratch) noexcept {
  const int offset = static_cast<int>(offsetof(LaneCpu, totals)) + 8 * static_cast<int>(total);
  program->Load(bpf::Width::k8, scratch, totals, offset);
  program->Apply(bpf::Operation::kAdd, scratch, amount);
  program->Store(bpf::Width::k8, totals, offset, scratch);
}

// Emits: the TTL of the header on the stack, `at` bytes from the frame's end, is one less and its checksum right again
// (RFC 1624, as DecrementIpv4Ttl() in packet/ipv4.h).
inline void LowerTtl(bpf::Assembler* program, int at, bpf::Register scratch) noexcept {
  using bpf::Condition;
  using bpf::Operation;
  using bpf::Register;
  using bpf::Width;
  program->Load(Width::k1, scratch, Register::kFrame, at + ip_at::kTtl);
  program->Apply(Operation::kSubtract, scratch, 1);
  program->Store(Width::k1, Register::kFrame, at + ip_at::kTtl, scratch);
  program->Load(Width::k2, scratch, Register::kFrame, at + ip_at::kChecksum);
  program->Swap16(scratch);
  program->Apply(Operation::kAdd, scratch, 0x0100);
  const bpf::Label no_carry = program->NewLabel("no_carry");
  program->JumpIf(Condition::kBelow, scratch, 0xffff, no_carry);
  program->Apply(Operation::kAdd, scratch, 1);
  program->Bind(no_carry);
  program->Swap16(scratch);
  program->Store(Width::k2, Register::kFrame, at + ip_at::kChecksum, scratch);
}

// Emits: `value`, a sum of 16-bit words, is folded to 16 bits; good for sums below 2^32.
inline void Fold16(bpf::Assembler* program, bpf::Register value, bpf::Register scratch) noexcept {
  for (int i = 0; i < 2; i++) {
    program->Copy(scratch, value);
    program->Apply(bpf::Operation::kShiftRight, scratch, 16);
    program->Apply(bpf::Operation::kAnd, value, 0xffff);
    program->Apply(bpf::Operation::kAdd, value, scratch);
  }
}

}  // namespace twill
