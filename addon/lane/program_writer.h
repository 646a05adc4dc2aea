// What the writers of both programs have in common: who they write for, which register holds what, and the steps that
// are the same on the way out and in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lane/program_parts.h"
#include "lane/programs.h"

namespace twill {

class ProgramWriter {
 protected:
  using Assembler = bpf::Assembler;
  using Condition = bpf::Condition;
  using Label = bpf::Label;
  using Operation = bpf::Operation;
  using Register = bpf::Register;
  using Width = bpf::Width;

  static constexpr Register kScratch = Register::k0;
  static constexpr Register kOther = Register::k1;
  static constexpr Register kThird = Register::k2;
  static constexpr Register kPacket = Register::k6;  // the context
  static constexpr Register kTotals = Register::k9;
  static constexpr Register kFrame = Register::kFrame;

  // Where on the stack a packet's numbers are, and where they go: in the peer's entry and in the totals.
  struct Tally {
    int segments;
    int headers;  // IPv4 and TCP, of a superpacket
    int peer;     // address of its entry
    size_t packets_at;
    size_t bytes_at;
    LaneTotal packets;
    LaneTotal bytes;
  };

  ProgramWriter(Assembler* program, const LaneHost& host, const LaneMapFds& maps) noexcept
      : p_(*program), host_(host), maps_(maps) {}

  // kScratch = the entry of `map` whose key lies on the stack, or 0.
  void Lookup(int map, int key) noexcept {
    p_.LoadMap(Register::k1, map);
    p_.Copy(Register::k2, kFrame);
    p_.Apply(Operation::kAdd, Register::k2, key);
    p_.Call(bpf::kMapLookup);
  }

  // `length` bytes of the packet, from `from` on, to the stack.
  void LoadBytes(int from, int to, int length, Label otherwise) noexcept {
    p_.Copy(Register::k1, kPacket);
    p_.Set(Register::k2, from);
    p_.Copy(Register::k3, kFrame);
    p_.Apply(Operation::kAdd, Register::k3, to);
    p_.Set(Register::k4, length);
    p_.Call(bpf::kSkbLoadBytes);
    p_.JumpIf(Condition::kNotEqual, kScratch, 0, otherwise);
  }

  // kScratch = a hash of the two addresses in the IPv4 header on the stack, `at` bytes from the frame's end. It goes by
  // their sum, so that both directions have one.
  void HashAddresses(int at) noexcept {
    p_.Load(Width::k4, kScratch, kFrame, at + ip_at::kSource);
    p_.Load(Width::k4, kOther, kFrame, at + ip_at::kDestination);
    p_.Apply32(Operation::kAdd, kScratch, kOther);
    p_.Apply32(Operation::kMultiply, kScratch, kAddressFactor);
  }

  // As if each piece had been a packet. `length` is that of the whole.
  void Count(Register length, const Tally& tally) noexcept {
    p_.Say("packets, and their bytes: each piece has the headers");
    p_.Load(Width::k4, kOther, kFrame, tally.segments);
    p_.Load(Width::k4, kThird, kFrame, tally.headers);
    p_.Copy(Register::k3, kOther);
    p_.Apply(Operation::kSubtract, Register::k3, 1);
    p_.Apply(Operation::kMultiply, kThird, Register::k3);
    p_.Apply(Operation::kAdd, kThird, length);
    p_.Load(Width::k8, kScratch, kFrame, tally.peer);
    p_.AtomicAdd(kScratch, static_cast<int>(tally.packets_at), kOther);
    p_.AtomicAdd(kScratch, static_cast<int>(tally.bytes_at), kThird);
    CountBy(&p_, kTotals, tally.packets, kOther, kScratch);
    CountBy(&p_, kTotals, tally.bytes, kThird, kScratch);
  }

  // Counts why, and goes to `next`.
  void WriteExit(Label exit, LaneTotal total, Label next) noexcept {
    p_.Bind(exit);
    CountOne(&p_, kTotals, total, kScratch);
    p_.Jump(next);
  }

  // A change to the packet was begun and cannot be ended: its pieces are counted and dropped.
  void WriteFailed(Label failed, LaneTotal total, int segments) noexcept {
    p_.Bind(failed);
    p_.Load(Width::k4, kOther, kFrame, segments);
    CountBy(&p_, kTotals, total, kOther, kScratch);
    p_.Set(kScratch, bpf::kTcxDrop);
    p_.Exit();
  }

  Assembler& p_;
  const LaneHost& host_;
  const LaneMapFds& maps_;
};

}  // namespace twill
