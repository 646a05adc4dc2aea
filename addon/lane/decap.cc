// The way in: from the uplink to the TUN device, past the engine.
//
//   1 a datagram to our port, without a checksum: a lane sent it      all else is none of ours, and not counted
//   2 its outer header is right, and says whole
//   3 in it one clean IPv4 packet, and nothing behind it
//   4 admitted, as the engine's strict check does it: the source belongs to a lease of the outer source, and the
//     destination is in our subnet
//   5 the TUN device takes the size
//   6 the peer is proven, for it has a lane
//   7 nothing of before waits in the socket for a worker that is late   else it would be overtaken
//   8 outer headers off, TTL, in
//
// What is left at 2 to 7 goes to the engine's socket, where it is judged anew and counted; that this happened is noted,
// for step 7. Nothing is changed before step 8, and its first call leaves the packet as it was when it fails.
//
// A superpacket is not held back at 7: it would come to the socket as one packet, which no path takes.

#include "lane/program_writer.h"

namespace twill {

namespace {

using bpf::Register;

// The program's stack.
struct Frame {
  uint32_t index;
  LaneRouteKey key;
  uint32_t row;
  uint32_t tick;
  uint32_t mtu;  // in: the length to be checked; out: the device's
  uint32_t segments;
  uint32_t inner_length;
  uint32_t headers;  // IPv4 and TCP, of a superpacket
  uint64_t peer;     // address of a map entry
  uint8_t outer[kMinIpHeader];
  uint8_t udp[kUdpHeader];
  uint8_t inner[kMinIpHeader];
  uint8_t data_offset[4];
  uint8_t end[4];
};
static_assert(sizeof(Frame) % 8 == 0 && sizeof(Frame) <= 512);

#define TWILL_AT(member) (static_cast<int>(offsetof(Frame, member)) - static_cast<int>(sizeof(Frame)))
constexpr int kOuter = TWILL_AT(outer);
constexpr int kUdp = TWILL_AT(udp);
constexpr int kInner = TWILL_AT(inner);

constexpr Register kLength = Register::k7;  // of the inner packet
constexpr Register kGso = Register::k8;     // payload bytes of each piece of a superpacket, or 0

// Where it is, seen from the MAC header.
constexpr int kInnerAt = kEthernetHeader + kOuterBytes;

class Decap : private ProgramWriter {
 public:
  Decap(Assembler* program, const LaneHost& host, const LaneMapFds& maps) noexcept
      : ProgramWriter(program, host, maps) {}

  void Write() noexcept {
    FindDatagram();
    CheckOuter();
    CheckInner();
    Admit();
    Measure();
    CheckOrder();
    Decapsulate();
    WriteExits();
  }

 private:
  void FindDatagram() noexcept;
  void CheckOuter() noexcept;
  void CheckInner() noexcept;
  void Admit() noexcept;
  void Measure() noexcept;
  void FindWorkers() noexcept;
  void CheckOrder() noexcept;
  void Decapsulate() noexcept;
  void WriteExits() noexcept;

  const Label pass_ = p_.NewLabel("pass");
  const Label note_ = p_.NewLabel("note");
  const Label unclean_ = p_.NewLabel("left_unclean");
  const Label not_admitted_ = p_.NewLabel("left_not_admitted");
  const Label too_big_ = p_.NewLabel("left_too_big");
  const Label behind_ = p_.NewLabel("left_behind");
  const Label failed_ = p_.NewLabel("failed");
};

void Decap::FindDatagram() noexcept {
  p_.Copy(kPacket, Register::k1);
  p_.Load(Width::k4, kScratch, kPacket, bpf::kSkbProtocol);
  p_.Say("1 IPv4, to this device and no VLAN behind it");
  p_.JumpIf(Condition::kNotEqual, kScratch, Be16(0x0800), pass_);
  p_.Load(Width::k4, kScratch, kPacket, bpf::kSkbPacketType);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, pass_);  // PACKET_HOST
  p_.Load(Width::k4, kScratch, kPacket, bpf::kSkbVlanPresent);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, pass_);
  LoadBytes(kEthernetHeader, kOuter, kOuterBytes, pass_);
  p_.Load(Width::k1, kScratch, kFrame, kOuter + ip_at::kProtocol);
  p_.JumpIf(Condition::kNotEqual, kScratch, kProtocolUdp, pass_);
  p_.Load(Width::k1, kScratch, kFrame, kOuter);
  p_.JumpIf(Condition::kNotEqual, kScratch, kVersion4NoOptions, pass_);
  p_.Load(Width::k2, kScratch, kFrame, kUdp + udp_at::kDestinationPort);
  p_.JumpIf(Condition::kNotEqual, kScratch, Be16(host_.port), pass_);
  p_.Load(Width::k4, kScratch, kFrame, kOuter + ip_at::kDestination);
  p_.JumpIf32(Condition::kNotEqual, kScratch, Be32(host_.listen_address), pass_);
  p_.Load(Width::k2, kScratch, kFrame, kOuter + ip_at::kFragment);
  p_.Apply(Operation::kAnd, kScratch, Be16(kMoreFragments | kFragmentOffset));
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, pass_);
  p_.Load(Width::k2, kScratch, kFrame, kUdp + udp_at::kChecksum);
  p_.Say("with a checksum: an engine or flanneld sent it");
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, note_);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(index), 0);
  Lookup(maps_.totals, TWILL_AT(index));
  p_.JumpIf(Condition::kEqual, kScratch, 0, pass_);
  p_.Copy(kTotals, kScratch);
}

void Decap::CheckOuter() noexcept {
  p_.Say("2 the checksum of the outer header: the sum of its words is 0xffff");
  p_.Set(kOther, 0);
  for (int i = 0; i < static_cast<int>(kMinIpHeader); i += 4) {
    p_.Load(Width::k4, kScratch, kFrame, kOuter + i);
    p_.Apply(Operation::kAdd, kOther, kScratch);
  }
  p_.Copy(kScratch, kOther);
  p_.Apply(Operation::kShiftRight, kScratch, 32);
  p_.Apply32(Operation::kMove, kOther, kOther);
  p_.Apply(Operation::kAdd, kOther, kScratch);
  p_.Copy(kScratch, kOther);
  p_.Apply(Operation::kShiftRight, kScratch, 16);
  p_.Apply(Operation::kAnd, kOther, 0xffff);
  p_.Apply(Operation::kAdd, kOther, kScratch);
  Fold16(&p_, kOther, kScratch);
  p_.JumpIf(Condition::kNotEqual, kOther, 0xffff, unclean_);
  p_.Load(Width::k2, kLength, kFrame, kOuter + ip_at::kTotalLength);
  p_.Swap16(kLength);
  p_.Load(Width::k4, kScratch, kPacket, bpf::kSkbLen);
  p_.Apply(Operation::kSubtract, kScratch, kEthernetHeader);
  p_.Say("the lengths of frame, outer header and UDP agree");
  p_.JumpIf(Condition::kNotEqual, kScratch, kLength, unclean_);
  p_.Apply(Operation::kSubtract, kScratch, kMinIpHeader);
  p_.Load(Width::k2, kOther, kFrame, kUdp + udp_at::kLength);
  p_.Swap16(kOther);
  p_.JumpIf(Condition::kNotEqual, kScratch, kOther, unclean_);
}

void Decap::CheckInner() noexcept {
  p_.Say("3 the inner header");
  LoadBytes(kInnerAt, kInner, kMinIpHeader, unclean_);
  p_.Load(Width::k1, kScratch, kFrame, kInner);
  p_.Say("no options, nothing behind it, no fragment, TTL above 1");
  p_.JumpIf(Condition::kNotEqual, kScratch, kVersion4NoOptions, unclean_);
  p_.Apply(Operation::kSubtract, kLength, kOuterBytes);
  p_.Load(Width::k2, kScratch, kFrame, kInner + ip_at::kTotalLength);
  p_.Swap16(kScratch);
  p_.JumpIf(Condition::kNotEqual, kScratch, kLength, unclean_);
  p_.JumpIf(Condition::kBelow, kScratch, kMinIpHeader, unclean_);
  p_.Load(Width::k2, kScratch, kFrame, kInner + ip_at::kFragment);
  p_.Apply(Operation::kAnd, kScratch, Be16(kMoreFragments | kFragmentOffset));
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, unclean_);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kTtl);
  p_.JumpIf(Condition::kNotAbove, kScratch, 1, unclean_);
}

void Decap::Admit() noexcept {
  p_.Load(Width::k4, kScratch, kFrame, kOuter + ip_at::kSource);
  p_.Say("4 not from ourselves");
  p_.JumpIf32(Condition::kEqual, kScratch, Be32(host_.listen_address), not_admitted_);
  p_.JumpIf32(Condition::kEqual, kScratch, Be32(host_.public_ip), not_admitted_);
  p_.Load(Width::k4, kScratch, kFrame, kInner + ip_at::kSource);
  p_.Store(Width::k4, kFrame, TWILL_AT(key.network), kScratch);
  p_.JumpIf32(Condition::kEqual, kScratch, Be32(host_.listen_address), not_admitted_);
  p_.JumpIf32(Condition::kEqual, kScratch, Be32(host_.public_ip), not_admitted_);
  p_.Apply32(Operation::kAnd, kScratch, Be32(host_.own_mask));
  p_.JumpIf32(Condition::kEqual, kScratch, Be32(host_.own_network), not_admitted_);
  p_.Load(Width::k4, kScratch, kFrame, kInner + ip_at::kDestination);
  p_.Say("to our subnet");
  p_.Apply32(Operation::kAnd, kScratch, Be32(host_.own_mask));
  p_.JumpIf32(Condition::kNotEqual, kScratch, Be32(host_.own_network), not_admitted_);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(key.length), 32);
  Lookup(maps_.routes, TWILL_AT(key));
  p_.Say("the inner source is a lease of the outer source");
  p_.JumpIf(Condition::kEqual, kScratch, 0, not_admitted_);
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneRoute, peer));
  p_.Load(Width::k4, kThird, kFrame, kOuter + ip_at::kSource);
  p_.JumpIf(Condition::kNotEqual, kOther, kThird, not_admitted_);
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneRoute, row));
  p_.Store(Width::k4, kFrame, TWILL_AT(row), kOther);
  Lookup(maps_.peers, TWILL_AT(row));
  p_.JumpIf(Condition::kEqual, kScratch, 0, not_admitted_);
  p_.Store(Width::k8, kFrame, TWILL_AT(peer), kScratch);
}

void Decap::Measure() noexcept {
  const Label measured = p_.NewLabel("measured");
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(segments), 1);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(headers), 0);
  p_.Load(Width::k4, kGso, kPacket, bpf::kSkbGsoSize);
  p_.Say("5 a superpacket, kept whole by the link: of TCP, or no lane sent it");
  p_.JumpIf(Condition::kEqual, kGso, 0, measured);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kProtocol);
  p_.JumpIf(Condition::kNotEqual, kScratch, kProtocolTcp, unclean_);
  LoadBytes(kInnerAt + static_cast<int>(kMinIpHeader) + kTcpDataOffset, TWILL_AT(data_offset), 1, unclean_);
  p_.Load(Width::k1, kScratch, kFrame, TWILL_AT(data_offset));
  p_.Apply(Operation::kShiftRight, kScratch, 4);
  p_.Apply(Operation::kShiftLeft, kScratch, 2);
  p_.JumpIf(Condition::kBelow, kScratch, kTcpMinHeader, unclean_);
  p_.Apply(Operation::kAdd, kScratch, kMinIpHeader);
  p_.JumpIf(Condition::kNotBelow, kScratch, kLength, unclean_);
  p_.Store(Width::k4, kFrame, TWILL_AT(headers), kScratch);
  p_.Copy(kOther, kLength);
  p_.Apply(Operation::kSubtract, kOther, kScratch);
  p_.Say("pieces: payload / gso_size, rounded up");
  p_.Apply(Operation::kAdd, kOther, kGso);
  p_.Apply(Operation::kSubtract, kOther, 1);
  p_.Apply32(Operation::kDivide, kOther, kGso);
  p_.JumpIf(Condition::kAbove, kOther, static_cast<int32_t>(kMaxPieces), unclean_);
  p_.Store(Width::k4, kFrame, TWILL_AT(segments), kOther);
  p_.Bind(measured);
  // A device drops what is longer than its MTU when it is handed over by another; the engine's writes it takes.
  p_.Store(Width::k4, kFrame, TWILL_AT(mtu), kLength);
  p_.Copy(Register::k1, kPacket);
  p_.Set(Register::k2, static_cast<int32_t>(host_.tun_index));
  p_.Copy(Register::k3, kFrame);
  p_.Apply(Operation::kAdd, Register::k3, TWILL_AT(mtu));
  p_.Set(Register::k4, 0);
  p_.Set(Register::k5, 0);
  p_.Call(bpf::kCheckMtu);
  p_.Say("fits the TUN device");
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, too_big_);
}

void Decap::FindWorkers() noexcept {
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(index), 0);
  Lookup(maps_.workers, TWILL_AT(index));
}

void Decap::CheckOrder() noexcept {
  const Label in_order = p_.NewLabel("in_order");
  p_.Say("6 the peer is proven");
  p_.Call(bpf::kKtimeGetNs);
  p_.Load(Width::k8, kOther, kFrame, TWILL_AT(peer));
  p_.Store(Width::k8, kOther, offsetof(LanePeer, heard_ns), kScratch);
  p_.Apply(Operation::kShiftRight, kScratch, kTickShift);
  p_.Store(Width::k4, kFrame, TWILL_AT(tick), kScratch);
  p_.Say("7 a superpacket, or no worker is late, or it is dead");
  p_.JumpIf(Condition::kNotEqual, kGso, 0, in_order);
  FindWorkers();
  p_.JumpIf(Condition::kEqual, kScratch, 0, in_order);
  p_.Load(Width::k4, kOther, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kThird, kScratch, offsetof(LaneWorkers, delivered));
  p_.Apply32(Operation::kSubtract, kOther, kThird);
  p_.JumpIf(Condition::kNotAbove, kOther, kLateTicks, in_order);
  p_.JumpIf(Condition::kNotBelow, kOther, kDeadTicks, in_order);
  p_.Say("or all that went to the socket has been delivered");
  p_.Load(Width::k4, Register::k3, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kThird, kScratch, offsetof(LaneWorkers, passed));
  p_.Apply32(Operation::kSubtract, Register::k3, kThird);
  p_.JumpIf(Condition::kNotAbove, Register::k3, kOther, behind_);
  p_.Bind(in_order);
}

void Decap::Decapsulate() noexcept {
  p_.Say("8 the outer headers off");
  p_.Copy(Register::k1, kPacket);
  p_.Set(Register::k2, -kOuterBytes);
  p_.Set(Register::k3, bpf::kRoomMac);
  p_.Set(Register::k4, bpf::kRoomFixedGso | bpf::kRoomDecapIpv4);
  p_.Set(Register::k5, 0);
  p_.Call(bpf::kSkbAdjustRoom);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, unclean_);
  p_.Say("from here on it is changed");
  LowerTtl(&p_, kInner, kScratch);
  p_.Copy(Register::k1, kPacket);
  p_.Set(Register::k2, kEthernetHeader + ip_at::kTtl);
  p_.Copy(Register::k3, kFrame);
  p_.Apply(Operation::kAdd, Register::k3, kInner + ip_at::kTtl);
  p_.Say("TTL, protocol, checksum: their sum is what it was, so the one the device has made stays right");
  p_.Set(Register::k4, 4);
  p_.Set(Register::k5, 0);
  p_.Call(bpf::kSkbStoreBytes);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, failed_);
  Count(kLength, {TWILL_AT(segments), TWILL_AT(headers), TWILL_AT(peer), offsetof(LanePeer, in_packets),
                  offsetof(LanePeer, in_bytes), LaneTotal::k_in_packets, LaneTotal::k_in_bytes});
  p_.Set(Register::k1, static_cast<int32_t>(host_.tun_index));
  p_.Set(Register::k2, bpf::kRedirectIngress);
  p_.Call(bpf::kRedirect);
  p_.Exit();
}

void Decap::WriteExits() noexcept {
  WriteFailed(failed_, LaneTotal::k_in_failed, TWILL_AT(segments));
  WriteExit(unclean_, LaneTotal::k_in_left_unclean, note_);
  WriteExit(not_admitted_, LaneTotal::k_in_left_not_admitted, note_);
  WriteExit(too_big_, LaneTotal::k_in_left_too_big, note_);
  WriteExit(behind_, LaneTotal::k_in_left_behind, note_);
  p_.Bind(note_);
  p_.Say("a datagram for the socket");
  FindWorkers();
  p_.JumpIf(Condition::kEqual, kScratch, 0, pass_);
  p_.Copy(kLength, kScratch);
  p_.Call(bpf::kKtimeGetNs);
  p_.Apply(Operation::kShiftRight, kScratch, kTickShift);
  p_.Store(Width::k4, kLength, offsetof(LaneWorkers, passed), kScratch);
  p_.Bind(pass_);
  p_.Set(kScratch, bpf::kTcxNext);
  p_.Exit();
}

}  // namespace

void WriteDecap(bpf::Assembler* program, const LaneHost& host, const LaneMapFds& maps) noexcept {
  Decap(program, host, maps).Write();
}

}  // namespace twill
