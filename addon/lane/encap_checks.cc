// Steps 1 to 6 of encap.h: may the packet go by the lane?

#include "lane/encap.h"

namespace twill::encap {

void Encap::LookupIndex(int map, int32_t index) noexcept {
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(index), index);
  Lookup(map, TWILL_AT(index));
}

void Encap::ReadConfig() noexcept {
  p_.Copy(kPacket, Register::k1);
  LookupIndex(maps_.config, 0);
  p_.JumpIf(Condition::kEqual, kScratch, 0, pass_);
  Spill(TWILL_AT(config));
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneConfig, mode));
  p_.Say("off");
  p_.JumpIf(Condition::kEqual, kOther, static_cast<int32_t>(LaneMode::kOff), pass_);
}

void Encap::ReadHeader() noexcept {
  p_.Load(Width::k4, kScratch, kPacket, bpf::kSkbProtocol);
  p_.Say("1 IPv4, with a header");
  p_.JumpIf(Condition::kNotEqual, kScratch, Be16(0x0800), pass_);
  p_.Load(Width::k4, kLength, kPacket, bpf::kSkbLen);
  LookupIndex(maps_.totals, 0);
  p_.JumpIf(Condition::kEqual, kScratch, 0, pass_);
  p_.Copy(kTotals, kScratch);
  LoadBytes(0, kInner, kMinIpHeader, unknown_);
  p_.Load(Width::k1, kScratch, kFrame, kInner);
  p_.Apply(Operation::kShiftRight, kScratch, 4);
  p_.JumpIf(Condition::kNotEqual, kScratch, 4, unknown_);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kDestination);
  p_.Say("to one host: not 0/8, 127/8, 224/3");
  p_.JumpIf(Condition::kEqual, kScratch, 0, unknown_);
  p_.JumpIf(Condition::kEqual, kScratch, 127, unknown_);
  p_.JumpIf(Condition::kNotBelow, kScratch, 224, unknown_);
}

void Encap::FindSlots() noexcept {
  p_.Say("2 the time, and the slot of the pair of addresses");
  p_.Call(bpf::kKtimeGetNs);
  Spill(TWILL_AT(now_ns));
  p_.Apply(Operation::kShiftRight, kScratch, kTickShift);
  p_.Store(Width::k4, kFrame, TWILL_AT(tick), kScratch);
  HashAddresses(kInner);
  p_.Store(Width::k4, kFrame, TWILL_AT(hash), kScratch);
  p_.Apply32(Operation::kShiftRight, kScratch, 16);
  p_.Store(Width::k4, kFrame, TWILL_AT(index), kScratch);
  Lookup(maps_.flows, TWILL_AT(index));
  p_.JumpIf(Condition::kEqual, kScratch, 0, pass_);
  Spill(TWILL_AT(pair));
  p_.Copy(kSlot, kScratch);

  p_.Load(Width::k1, kScratch, kFrame, kInner);
  p_.Say("no options, no fragment, the length it says");
  p_.JumpIf(Condition::kNotEqual, kScratch, kVersion4NoOptions, unclean_);
  p_.Load(Width::k2, kScratch, kFrame, kInner + ip_at::kTotalLength);
  p_.Swap16(kScratch);
  p_.JumpIf(Condition::kNotEqual, kScratch, kLength, unclean_);
  p_.Load(Width::k2, kScratch, kFrame, kInner + ip_at::kFragment);
  p_.Apply(Operation::kAnd, kScratch, Be16(kMoreFragments | kFragmentOffset));
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, unclean_);

  p_.StoreValue(Width::k8, kFrame, kTransport, 0);
  p_.StoreValue(Width::k8, kFrame, kTransport + 8, 0);
  const Label has_ports = p_.NewLabel("has_ports");
  const Label has_slot = p_.NewLabel("has_slot");
  p_.Set(Register::k4, kUdpHeader);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kProtocol);
  p_.JumpIf(Condition::kEqual, kScratch, kProtocolUdp, has_ports);
  p_.Set(Register::k4, sizeof(Frame::transport));
  p_.JumpIf(Condition::kNotEqual, kScratch, kProtocolTcp, has_slot);
  p_.Bind(has_ports);
  p_.Copy(Register::k1, kPacket);
  p_.Set(Register::k2, kMinIpHeader);
  p_.Copy(Register::k3, kFrame);
  p_.Apply(Operation::kAdd, Register::k3, kTransport);
  p_.Call(bpf::kSkbLoadBytes);
  p_.Say("a TCP or UDP header, which is not whole");
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, unclean_);

  // Our own datagrams, routed into the device: the engine drops them.
  const Label not_ours = p_.NewLabel("not_our_tunnel");
  p_.Load(Width::k4, kScratch, kFrame, kInner + ip_at::kSource);
  p_.JumpIf32(Condition::kNotEqual, kScratch, Be32(host_.listen_address), not_ours);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kProtocol);
  p_.JumpIf(Condition::kNotEqual, kScratch, kProtocolUdp, not_ours);
  p_.Load(Width::k2, kScratch, kFrame, kTransport + udp_at::kSourcePort);
  p_.Say("our own tunnel");
  p_.JumpIf(Condition::kEqual, kScratch, Be16(host_.port), no_route_);
  p_.Load(Width::k2, kScratch, kFrame, kTransport + udp_at::kDestinationPort);
  p_.JumpIf(Condition::kEqual, kScratch, Be16(host_.port), no_route_);
  p_.Bind(not_ours);

  p_.Load(Width::k2, kScratch, kFrame, kTransport + udp_at::kSourcePort);
  p_.Load(Width::k2, kOther, kFrame, kTransport + udp_at::kDestinationPort);
  p_.Say("the slot of the flow");
  p_.Apply32(Operation::kAdd, kScratch, kOther);
  p_.Apply32(Operation::kMultiply, kScratch, kPortFactor);
  p_.Load(Width::k4, kOther, kFrame, TWILL_AT(hash));
  p_.Apply32(Operation::kAdd, kScratch, kOther);
  p_.Apply32(Operation::kShiftRight, kScratch, 16);
  p_.Store(Width::k4, kFrame, TWILL_AT(index), kScratch);
  Lookup(maps_.flows, TWILL_AT(index));
  p_.JumpIf(Condition::kEqual, kScratch, 0, pass_);
  p_.Copy(kSlot, kScratch);
  p_.Bind(has_slot);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kTtl);
  p_.Say("a TTL above 1");
  p_.JumpIf(Condition::kNotAbove, kScratch, 1, unclean_);
}

void Encap::FindRoute() noexcept {
  p_.Load(Width::k4, kScratch, kFrame, kInner + ip_at::kDestination);
  p_.Store(Width::k4, kFrame, TWILL_AT(key.network), kScratch);
  p_.Say("3 not to our own subnet");
  p_.Apply32(Operation::kAnd, kScratch, Be32(host_.own_mask));
  p_.JumpIf32(Condition::kEqual, kScratch, Be32(host_.own_network), no_route_);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(key.length), 32);
  Lookup(maps_.routes, TWILL_AT(key));
  p_.Say("to a lease");
  p_.JumpIf(Condition::kEqual, kScratch, 0, no_route_);
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneRoute, peer));
  p_.Store(Width::k4, kFrame, TWILL_AT(route.peer), kOther);
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneRoute, port));
  p_.Store(Width::k4, kFrame, TWILL_AT(route.port), kOther);  // with the MTU
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneRoute, row));
  p_.Store(Width::k4, kFrame, TWILL_AT(route.row), kOther);

  const Label ours = p_.NewLabel("source_is_ours");
  p_.Load(Width::k4, kScratch, kFrame, kInner + ip_at::kSource);
  p_.Store(Width::k4, kFrame, TWILL_AT(key.network), kScratch);
  p_.Apply32(Operation::kAnd, kScratch, Be32(host_.own_mask));
  p_.JumpIf32(Condition::kEqual, kScratch, Be32(host_.own_network), ours);
  Lookup(maps_.routes, TWILL_AT(key));
  p_.Say("from another host: it came from the overlay");
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, no_route_);
  p_.Bind(ours);
}

void Encap::Measure() noexcept {
  const Label measured = p_.NewLabel("measured");
  const Label fits = p_.NewLabel("whole");
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(segments), 1);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(headers), 0);
  p_.Store(Width::k4, kFrame, TWILL_AT(largest), kLength);
  p_.Load(Width::k4, kOther, kPacket, bpf::kSkbGsoSize);
  p_.Say("4 a superpacket: of TCP only, for one of UDP cannot be told from its tunnel when it arrives");
  p_.JumpIf(Condition::kEqual, kOther, 0, measured);
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kProtocol);
  p_.JumpIf(Condition::kNotEqual, kScratch, kProtocolTcp, superpacket_);
  p_.Load(Width::k1, kScratch, kFrame, kTransport + kTcpDataOffset);
  p_.Apply(Operation::kShiftRight, kScratch, 4);
  p_.Apply(Operation::kShiftLeft, kScratch, 2);
  p_.JumpIf(Condition::kBelow, kScratch, kTcpMinHeader, unclean_);
  p_.Apply(Operation::kAdd, kScratch, kMinIpHeader);
  p_.Store(Width::k4, kFrame, TWILL_AT(headers), kScratch);
  p_.JumpIf(Condition::kNotBelow, kScratch, kLength, unclean_);
  p_.Copy(kThird, kLength);
  p_.Apply(Operation::kSubtract, kThird, kScratch);
  p_.Say("pieces: payload / gso_size, rounded up");
  p_.Apply(Operation::kAdd, kThird, kOther);
  p_.Apply(Operation::kSubtract, kThird, 1);
  p_.Apply32(Operation::kDivide, kThird, kOther);
  p_.Say("more of them than the engine cuts: it drops and counts that");
  p_.JumpIf(Condition::kAbove, kThird, static_cast<int32_t>(kMaxPieces), superpacket_);
  p_.Store(Width::k4, kFrame, TWILL_AT(segments), kThird);
  p_.Apply(Operation::kAdd, kScratch, kOther);
  p_.JumpIf(Condition::kNotBelow, kScratch, kLength, fits);
  p_.Store(Width::k4, kFrame, TWILL_AT(largest), kScratch);
  p_.Bind(fits);
  p_.Bind(measured);
  p_.Load(Width::k4, kScratch, kFrame, TWILL_AT(largest));
  p_.Load(Width::k2, kOther, kFrame, TWILL_AT(route.mtu));
  p_.JumpIf(Condition::kAbove, kScratch, kOther, too_big_);
}

void Encap::CheckProof() noexcept {
  const Label proven = p_.NewLabel("proven");
  Lookup(maps_.peers, TWILL_AT(route.row));
  p_.JumpIf(Condition::kEqual, kScratch, 0, no_route_);
  Spill(TWILL_AT(peer));
  p_.Load(Width::k1, kOther, kFrame, kInner + ip_at::kProtocol);
  p_.Say("5 ICMP has its checksum; others may have half of one, which only a lane can take");
  p_.JumpIf(Condition::kEqual, kOther, kProtocolIcmp, proven);
  p_.Load(Width::k8, kOther, kScratch, offsetof(LanePeer, heard_ns));
  p_.JumpIf(Condition::kEqual, kOther, 0, unproven_);
  p_.Load(Width::k8, kThird, kFrame, TWILL_AT(now_ns));
  p_.Apply(Operation::kSubtract, kThird, kOther);
  // Signed: another CPU may have heard it since we looked at the clock.
  p_.Apply(Operation::kShiftRightSigned, kThird, kTickShift);
  p_.JumpIf(Condition::kAboveSigned, kThird, static_cast<int32_t>(kProofNs >> kTickShift), unproven_);
  p_.Bind(proven);
}

// Of a time in a map.
void Encap::LeaveIfRecent(Register entry, int offset) noexcept {
  p_.Load(Width::k4, kThird, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kOther, entry, offset);
  p_.Apply32(Operation::kSubtract, kThird, kOther);
  p_.Apply32(Operation::kAdd, kThird, kSkewTicks);
  p_.JumpIf(Condition::kBelow, kThird, Register::k3, flow_);
}

// k3 = how many ticks back a flow's last packet with the engine may have been for it to be there still, and the skew.
// Its workers are through with what is older than `sent`, unless they are dead.
void Encap::FindLimit() noexcept {
  const Label known = p_.NewLabel("limit_known");
  LookupIndex(maps_.workers, 0);
  p_.JumpIf(Condition::kEqual, kScratch, 0, pass_);
  p_.Load(Width::k8, Register::k4, kFrame, TWILL_AT(config));
  p_.Load(Width::k4, Register::k3, Register::k4, offsetof(LaneConfig, quiet_ticks));
  p_.Load(Width::k4, kThird, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneWorkers, senders_looked));
  p_.Apply32(Operation::kSubtract, kThird, kOther);
  p_.Apply32(Operation::kAdd, kThird, kSkewTicks);
  p_.Say("quiet for a while, or since the workers have been through if that is longer ago and none is dead");
  p_.JumpIf(Condition::kNotBelow, kThird, kDeadTicks, known);
  p_.Load(Width::k4, kThird, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kOther, kScratch, offsetof(LaneWorkers, sent));
  p_.Apply32(Operation::kSubtract, kThird, kOther);
  p_.JumpIf(Condition::kBelow, kThird, Register::k3, known);
  p_.Copy(Register::k3, kThird);
  p_.Apply(Operation::kAdd, Register::k3, 1);
  p_.Bind(known);
  p_.Apply(Operation::kAdd, Register::k3, kSkewTicks);
}

void Encap::CheckFlow() noexcept {
  const Label taken = p_.NewLabel("not_the_engines");
  const Label sparse = p_.NewLabel("sparse");
  FindLimit();
  p_.Load(Width::k4, kOther, Register::k4, offsetof(LaneConfig, mode));
  p_.Say("6 there is no engine");
  p_.JumpIf(Condition::kEqual, kOther, static_cast<int32_t>(LaneMode::kAlone), taken);
  p_.Say("nothing of the flow, of its pair, or of anybody since the start is with the engine");
  LeaveIfRecent(kSlot, 0);
  p_.Load(Width::k8, kOther, kFrame, TWILL_AT(pair));
  LeaveIfRecent(kOther, 0);
  LeaveIfRecent(Register::k4, offsetof(LaneConfig, since_tick));
  p_.Load(Width::k1, kScratch, kFrame, kInner + ip_at::kProtocol);
  p_.Say("echoes at any rate: they prove the peers");
  p_.JumpIf(Condition::kEqual, kScratch, kProtocolIcmp, taken);
  p_.Load(Width::k4, kOther, Register::k4, offsetof(LaneConfig, mode));
  p_.Say("a lane for all: TCP at any rate, for its superpackets go as they are; of other bulk the engine makes trains");
  p_.JumpIf(Condition::kNotEqual, kOther, static_cast<int32_t>(LaneMode::kAll), sparse);
  p_.JumpIf(Condition::kEqual, kScratch, kProtocolTcp, taken);
  p_.Bind(sparse);
  p_.Load(Width::k4, kOther, kFrame, TWILL_AT(segments));
  p_.Say("a sparse lane: no bulk");
  p_.JumpIf(Condition::kAbove, kOther, 1, superpacket_);
  CheckRate();
  p_.Bind(taken);
}

void Encap::CheckRate() noexcept {
  const Label same = p_.NewLabel("same_tick");
  p_.Load(Width::k4, kThird, kFrame, TWILL_AT(tick));
  p_.Load(Width::k4, kOther, kTotals, offsetof(LaneCpu, tick));
  p_.Load(Width::k4, kScratch, kTotals, offsetof(LaneCpu, count));
  p_.JumpIf(Condition::kEqual, kOther, kThird, same);
  p_.Store(Width::k4, kTotals, offsetof(LaneCpu, tick), kThird);
  p_.Set(kScratch, 0);
  p_.Bind(same);
  p_.Load(Width::k4, kOther, Register::k4, offsetof(LaneConfig, packets_per_tick));
  p_.JumpIf(Condition::kNotBelow, kScratch, kOther, rate_);
  p_.Apply(Operation::kAdd, kScratch, 1);
  p_.Store(Width::k4, kTotals, offsetof(LaneCpu, count), kScratch);
}

}  // namespace twill::encap
