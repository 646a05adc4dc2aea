// The way out: from the TUN device to the peer, past the engine.
//
//   1 a clean IPv4 packet, to one host                       else left, and if the addresses were read, noted
//   2 its flow's slot, and its pair's
//   3 to a lease of another host, not from one               else the engine drops it and answers
//   4 small enough for the path                              else the engine answers or has it fragmented
//   5 the peer is proven, or it is ICMP
//   6 the flow is not the engine's, and no bulk              bulk of TCP in a sparse lane only
//   7 the kernel has a neighbour for it behind the uplink
//   8 outer header, TTL, off
//
// Noted: the slot of the flow, or of the pair of addresses where there are no ports to be read, gets the time. Flows
// that have one keep to the engine until it is quiet and the workers are through, so that none overtakes itself.
//
// Nothing is changed before step 8, and its first call leaves the packet as it was when it fails.

#pragma once

#include <vector>

#include "lane/program_writer.h"

namespace twill::encap {

using bpf::Register;

// The program's stack.
struct Frame {
  bpf::FibLookup fib;
  bpf::NextHop hop;
  uint32_t index;  // key of an array
  LaneRouteKey key;
  LaneRoute route;
  uint32_t tick;
  uint64_t now_ns;
  uint64_t config;  // addresses of map entries
  uint64_t pair;
  uint64_t peer;
  uint32_t segments;
  uint32_t headers;  // IPv4 and TCP, of a superpacket
  uint32_t largest;
  uint32_t hash;
  // What is written before the packet's payload. 2 bytes before it, so that each header is aligned.
  uint8_t padding[2];
  uint8_t ethernet[kEthernetHeader];
  uint8_t ip[kMinIpHeader];
  uint8_t udp[kUdpHeader];
  uint8_t inner[kMinIpHeader];
  uint8_t transport[14];  // TCP up to the data offset
  uint8_t end[2];
};
static_assert(sizeof(Frame) % 8 == 0 && sizeof(Frame) <= 512);

// From the end of the stack.
#define TWILL_AT(member) (static_cast<int>(offsetof(Frame, member)) - static_cast<int>(sizeof(Frame)))
inline constexpr int kInner = TWILL_AT(inner);
inline constexpr int kTransport = TWILL_AT(transport);

inline constexpr Register kLength = Register::k7;
inline constexpr Register kSlot = Register::k8;

// Writes the program; steps 1 to 6 are in encap_checks.cc, which leave the packet as it is, 7 and 8 in encap.cc.
class Encap : private ProgramWriter {
 public:
  Encap(Assembler* program, const LaneHost& host, const LaneMapFds& maps) noexcept
      : ProgramWriter(program, host, maps) {}

  void Write() noexcept {
    ReadConfig();
    ReadHeader();
    FindSlots();
    FindRoute();
    Measure();
    CheckProof();
    CheckFlow();
    FindPath();
    Encapsulate();
    WriteExits();
  }

 private:
  void LookupIndex(int map, int32_t index) noexcept;
  void Spill(int at) noexcept { p_.Store(Width::k8, kFrame, at, kScratch); }
  void ReadConfig() noexcept;
  void ReadHeader() noexcept;
  void FindSlots() noexcept;
  void FindRoute() noexcept;
  void Measure() noexcept;
  void CheckProof() noexcept;
  void FindLimit() noexcept;
  void CheckFlow() noexcept;
  void LeaveIfRecent(Register entry, int offset) noexcept;
  void CheckRate() noexcept;
  void FindPath() noexcept;
  void Encapsulate() noexcept;
  void WriteOuter() noexcept;
  void WriteExits() noexcept;

  const Label pass_ = p_.NewLabel("pass");
  const Label note_ = p_.NewLabel("note");
  const Label unknown_ = p_.NewLabel("left_unclean_unknown");
  const Label unclean_ = p_.NewLabel("left_unclean");
  const Label no_route_ = p_.NewLabel("left_no_route");
  const Label too_big_ = p_.NewLabel("left_too_big");
  const Label unproven_ = p_.NewLabel("left_unproven");
  const Label flow_ = p_.NewLabel("left_flow");
  const Label superpacket_ = p_.NewLabel("left_superpacket");
  const Label rate_ = p_.NewLabel("left_rate");
  const Label no_path_ = p_.NewLabel("left_no_path");
  const Label encapsulated_ = p_.NewLabel("left_encapsulated");
  const Label failed_ = p_.NewLabel("failed");
};

}  // namespace twill::encap
