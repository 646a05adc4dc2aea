// The way in: from the uplink to the TUN device, past the engine.
//
//   1 a datagram to our port, without a checksum: a lane sent it      all else is none of ours, and not counted
//   2 its outer header is right, and says whole
//   3 in it one clean IPv4 packet, and nothing behind it
//   4 admitted, as the engine's strict check does it: the source belongs to a lease of the outer source, and the
//     destination is in our subnet
//   5 the TUN device takes the size
//   6 the peer is proven, for it has a lane
//   7 nothing of its flow, and with a late worker nothing at all, waits in the socket   else it would be overtaken
//   8 outer headers off, TTL, in
//
// What is left at 2 to 7 goes to the engine's socket, where it is judged anew and counted; that this happened is noted,
// for step 7. A flow of which a packet had to wait stays there until that one is delivered, and as each packet waits in
// turn, until it was quiet for a moment: a worker that has caught up is late no longer, but may have some of it before
// it. Nothing is changed before step 8, and its first call leaves the packet as it was when it fails.
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
  uint32_t headers;    // IPv4 and TCP, of a superpacket
  uint32_t delivered;  // as LaneWorkers has it
  uint32_t all_wait;
  uint64_t peer;       // addresses of map entries
  uint64_t workers;
  uint64_t slot;
  uint8_t outer[kMinIpHeader];
  uint8_t udp[kUdpHeader];
  uint8_t inner[kMinIpHeader];
  uint8_t transport[4];  // ports, or the data offset of TCP
  uint8_t end[4];
};
static_assert(sizeof(Frame) % 8 == 0 && sizeof(Frame) <= 512);

#define TWILL_AT(member) (static_cast<int>(offsetof(Frame, member)) - static_cast<int>(sizeof(Frame)))
constexpr int kOuter = TWILL_AT(outer);
constexpr int kUdp = TWILL_AT(udp);
constexpr int kInner = TWILL_AT(inner);
constexpr int kTransport = TWILL_AT(transport);

constexpr Register kLength = Register::k7;  // of the inner packet
constexpr Register kFourth = Register::k3;  // lost in a call
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
  void FindSlot() noexcept;
  void JumpIfWaiting(Register entry, int offset, Label to) noexcept;
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
  LoadBytes(kInnerAt + static_cast<int>(kMinIpHeader) + kTcpDataOffset, kTransport, 1, unclean_);
  p_.Load(Width::k1, kScratch, kFrame, kTransport);
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

// The slot of its flow; ports are read of TCP and UDP alone.
void Decap::FindSlot() noexcept {
  const Label has_ports = p_.NewLabel("has_ports");
  const Label hashed = p_.NewLabel("hashed");
  p_.StoreValue(Width::k4, kFrame, kTransport, 0);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kProtocol);
  p_.JumpIf(Condition::kEqual, kScratch, kProtocolUdp, has_ports);
  p_.JumpIf(Condition::kNotEqual, kScratch, kProtocolTcp, hashed);
  p_.Bind(has_ports);
  LoadBytes(kInnerAt + static_cast<int>(kMinIpHeader), kTransport, 4, unclean_);
  p_.Bind(hashed);
  HashAddresses(kInner);
  p_.Load(Width::k4, kOther, kFrame, kTransport);
  p_.Apply32(Operation::kMultiply, kOther, kPortFactor);
  p_.Apply32(Operation::kAdd, kScratch, kOther);
  p_.Apply32(Operation::kShiftRight, kScratch, 32 - kBehindBits);
  p_.Store(Width::k4, kFrame, TWILL_AT(index), kScratch);
  Lookup(maps_.behind, TWILL_AT(index));
}

// To `to` when what came at a time in a map may not have been delivered yet.
void Decap::JumpIfWaiting(Register entry, int offset, Label to) noexcept {
  p_.Load(Width::k4, kOther, entry, offset);
  p_.Load(Width::k4, kThird, kFrame, TWILL_AT(delivered));
  p_.Apply32(Operation::kSubtract, kOther, kThird);
  p_.JumpIf(Condition::kBelow, kOther, kWaitingTicks, to);
}

void Decap::CheckOrder() noexcept {
  const Label in_order = p_.NewLabel("in_order");
  const Label begun = p_.NewLabel("begun");
  const Label on_time = p_.NewLabel("on_time");
  const Label some_wait = p_.NewLabel("some_wait");
  const Label waits = p_.NewLabel("waits");
  p_.Say("6 the peer is proven");
  p_.Call(bpf::kKtimeGetNs);
  p_.Load(Width::k8, kOther, kFrame, TWILL_AT(peer));
  p_.Store(Width::k8, kOther, offsetof(LanePeer, heard_ns), kScratch);
  p_.Apply(Operation::kShiftRight, kScratch, kTickShift);
  p_.Store(Width::k4, kFrame, TWILL_AT(tick), kScratch);
  p_.Say("7 a superpacket, or a worker is dead");
  p_.JumpIf(Condition::kNotEqual, kGso, 0, in_order);
  FindWorkers();
  p_.JumpIf(Condition::kEqual, kScratch, 0, in_order);
  p_.Store(Width::k8, kFrame, TWILL_AT(workers), kScratch);
  p_.Load(Width::k4, kThird, kScratch, offsetof(LaneWorkers, delivered));
  p_.Store(Width::k4, kFrame, TWILL_AT(delivered), kThird);
  p_.Load(Width::k4, kFourth, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneWorkers, deliverers_looked));
  p_.Apply32(Operation::kSubtract, kFourth, kOther);
  p_.Apply32(Operation::kAdd, kFourth, kSkewTicks);
  p_.JumpIf(Condition::kNotBelow, kFourth, kDeadTicks, in_order);
  p_.Say("all of lanes waits, or a worker is late and something waits");
  p_.Load(Width::k4, kFourth, kScratch, offsetof(LaneWorkers, since));
  p_.JumpIf(Condition::kEqual, kFourth, 0, begun);
  JumpIfWaiting(kScratch, offsetof(LaneWorkers, since), some_wait);
  p_.Bind(begun);
  p_.Load(Width::k4, kFourth, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kThird, kFrame, TWILL_AT(delivered));
  p_.Apply32(Operation::kSubtract, kFourth, kThird);
  p_.JumpIf(Condition::kNotAbove, kFourth, kLateTicks, on_time);
  JumpIfWaiting(kScratch, offsetof(LaneWorkers, passed), some_wait);
  p_.Bind(on_time);
  p_.Set(kFourth, 0);
  p_.Say("or there is one of a lane that does, and it is of the same flow");
  JumpIfWaiting(kScratch, offsetof(LaneWorkers, behind), waits);
  p_.Jump(in_order);
  p_.Bind(some_wait);
  p_.Set(kFourth, 1);
  p_.Bind(waits);
  p_.Store(Width::k4, kFrame, TWILL_AT(all_wait), kFourth);
  FindSlot();
  p_.JumpIf(Condition::kEqual, kScratch, 0, in_order);
  p_.Store(Width::k8, kFrame, TWILL_AT(slot), kScratch);
  p_.Load(Width::k4, kThird, kFrame, TWILL_AT(all_wait));
  p_.JumpIf(Condition::kNotEqual, kThird, 0, behind_);
  JumpIfWaiting(kScratch, 0, behind_);
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
  p_.Bind(behind_);
  CountOne(&p_, kTotals, LaneTotal::k_in_left_behind, kScratch);
  p_.Load(Width::k4, kOther, kFrame, TWILL_AT(tick));
  p_.Load(Width::k8, kThird, kFrame, TWILL_AT(slot));
  p_.Store(Width::k4, kThird, 0, kOther);
  p_.Load(Width::k8, kThird, kFrame, TWILL_AT(workers));
  p_.Store(Width::k4, kThird, offsetof(LaneWorkers, behind), kOther);
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
