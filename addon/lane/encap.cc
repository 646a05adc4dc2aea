// Steps 7 and 8 of encap.h, and the exits.

#include "lane/encap.h"

#include <cstring>

namespace twill::encap {

void Encap::FindPath() noexcept {
  constexpr int kFib = TWILL_AT(fib);
  p_.Say("7 as forwarded from the TUN device, for that is what the kernel is told to do with it");
  for (int i = 0; i < static_cast<int>(sizeof(bpf::FibLookup)); i += 8) p_.StoreValue(Width::k8, kFrame, kFib + i, 0);
  p_.StoreValue(Width::k1, kFrame, TWILL_AT(fib.family), AF_INET);
  p_.StoreValue(Width::k1, kFrame, TWILL_AT(fib.l4_protocol), kProtocolUdp);
  p_.StoreValue(Width::k2, kFrame, TWILL_AT(fib.sport), Be16(host_.port));
  p_.Load(Width::k2, kScratch, kFrame, TWILL_AT(route.port));
  p_.Store(Width::k2, kFrame, TWILL_AT(fib.dport), kScratch);
  p_.Load(Width::k4, kScratch, kFrame, TWILL_AT(largest));
  p_.Apply(Operation::kAdd, kScratch, kOuterBytes);
  p_.JumpIf(Condition::kAbove, kScratch, static_cast<int32_t>(kMaxPacket), too_big_);
  p_.Store(Width::k2, kFrame, TWILL_AT(fib.tot_len), kScratch);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(fib.ifindex), static_cast<int32_t>(host_.tun_index));
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(fib.ipv4_src), Be32(host_.listen_address));
  p_.Load(Width::k4, kScratch, kFrame, TWILL_AT(route.peer));
  p_.Store(Width::k4, kFrame, TWILL_AT(fib.ipv4_dst), kScratch);
  p_.Copy(Register::k1, kPacket);
  p_.Copy(Register::k2, kFrame);
  p_.Apply(Operation::kAdd, Register::k2, kFib);
  p_.Set(Register::k3, sizeof(bpf::FibLookup));
  p_.Set(Register::k4, 0);
  p_.Call(bpf::kFibLookup);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, no_path_);
  p_.Load(Width::k1, kScratch, kFrame, TWILL_AT(fib.family));
  p_.Say("an IPv4 next hop behind the uplink");
  p_.JumpIf(Condition::kNotEqual, kScratch, AF_INET, no_path_);
  p_.Load(Width::k4, kScratch, kFrame, TWILL_AT(fib.ifindex));
  p_.JumpIf32(Condition::kNotEqual, kScratch, static_cast<int32_t>(host_.uplink_index), no_path_);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(hop.family), AF_INET);
  p_.Load(Width::k4, kScratch, kFrame, TWILL_AT(fib.ipv4_dst));
  p_.Store(Width::k4, kFrame, TWILL_AT(hop.address), kScratch);
  for (int i = 4; i < 16; i += 4) p_.StoreValue(Width::k4, kFrame, TWILL_AT(hop.address) + i, 0);
}

void Encap::Encapsulate() noexcept {
  p_.Say("8 a superpacket of UDP, or so many bytes, that the outer length has no room: not one packet");
  p_.JumpIf(Condition::kAbove, kLength, static_cast<int32_t>(kMaxPacket) - kOuterBytes, too_big_);
  p_.Copy(Register::k1, kPacket);
  p_.Set(Register::k2, kOuterBytes);
  p_.Set(Register::k3, bpf::kRoomMac);
  p_.Set(Register::k4, bpf::kRoomFixedGso | bpf::kRoomEncapIpv4 | bpf::kRoomEncapUdp);
  p_.Set(Register::k5, 0);
  p_.Call(bpf::kSkbAdjustRoom);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, encapsulated_);
  p_.Say("from here on it is changed");
  p_.Copy(Register::k1, kPacket);
  p_.Set(Register::k2, kEthernetHeader);
  p_.Set(Register::k3, 0);
  p_.Call(bpf::kSkbChangeHead);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, failed_);
  WriteOuter();
  LowerTtl(&p_, kInner, kScratch);
  p_.Copy(Register::k1, kPacket);
  p_.Set(Register::k2, 0);
  p_.Copy(Register::k3, kFrame);
  p_.Apply(Operation::kAdd, Register::k3, TWILL_AT(ethernet));
  p_.Say("up to the checksum of the inner header, which has TTL and protocol before it");
  p_.Set(Register::k4, kEthernetHeader + kOuterBytes + ip_at::kChecksum + 2);
  p_.Set(Register::k5, 0);
  p_.Call(bpf::kSkbStoreBytes);
  p_.JumpIf(Condition::kNotEqual, kScratch, 0, failed_);
  Count(kLength, {TWILL_AT(segments), TWILL_AT(headers), TWILL_AT(peer), offsetof(LanePeer, out_packets),
                  offsetof(LanePeer, out_bytes), LaneTotal::k_out_packets, LaneTotal::k_out_bytes});
  p_.Set(Register::k1, static_cast<int32_t>(host_.uplink_index));
  p_.Copy(Register::k2, kFrame);
  p_.Apply(Operation::kAdd, Register::k2, TWILL_AT(hop));
  p_.Set(Register::k3, sizeof(bpf::NextHop));
  p_.Set(Register::k4, 0);
  p_.Call(bpf::kRedirectNeigh);
  p_.Exit();
}

// The bytes the kernel would write for a datagram of the engine's, but for the checksum of UDP, which is 0.
void Encap::WriteOuter() noexcept {
  uint8_t fixed[kMinIpHeader] = {kVersion4NoOptions, 0, 0, 0, 0, 0, kDontFragment >> 8, 0, 64, kProtocolUdp};
  StoreBe32(fixed + ip_at::kSource, host_.listen_address);
  p_.Say("Ethernet: redirect_neigh fills in the addresses");
  p_.StoreValue(Width::k2, kFrame, TWILL_AT(ethernet), 0);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(ethernet) + 2, 0);
  p_.StoreValue(Width::k4, kFrame, TWILL_AT(ethernet) + 6, 0);
  p_.StoreValue(Width::k2, kFrame, TWILL_AT(ethernet) + 10, 0);
  p_.StoreValue(Width::k2, kFrame, TWILL_AT(ethernet) + 12, Be16(0x0800));
  uint32_t sum = 0;
  for (int i = 0; i < ip_at::kDestination; i += 4) {
    int32_t word;
    std::memcpy(&word, fixed + i, sizeof word);
    sum += (static_cast<uint32_t>(word) & 0xffff) + (static_cast<uint32_t>(word) >> 16);
    p_.StoreValue(Width::k4, kFrame, TWILL_AT(ip) + i, word);
  }
  p_.Say("outer IPv4: length, destination, checksum");
  p_.Copy(kOther, kLength);
  p_.Apply(Operation::kAdd, kOther, kOuterBytes);
  p_.Swap16(kOther);
  p_.Store(Width::k2, kFrame, TWILL_AT(ip) + ip_at::kTotalLength, kOther);
  p_.Apply(Operation::kAdd, kOther, static_cast<int32_t>(sum));
  p_.Load(Width::k4, kScratch, kFrame, TWILL_AT(route.peer));
  p_.Store(Width::k4, kFrame, TWILL_AT(ip) + ip_at::kDestination, kScratch);
  p_.Copy(kThird, kScratch);
  p_.Apply(Operation::kAnd, kThird, 0xffff);
  p_.Apply(Operation::kAdd, kOther, kThird);
  p_.Apply(Operation::kShiftRight, kScratch, 16);
  p_.Apply(Operation::kAdd, kOther, kScratch);
  Fold16(&p_, kOther, kThird);
  p_.Apply(Operation::kXor, kOther, 0xffff);
  p_.Store(Width::k2, kFrame, TWILL_AT(ip) + ip_at::kChecksum, kOther);
  p_.Say("UDP: ports, length, no checksum");
  p_.StoreValue(Width::k2, kFrame, TWILL_AT(udp) + udp_at::kSourcePort, Be16(host_.port));
  p_.Load(Width::k2, kScratch, kFrame, TWILL_AT(route.port));
  p_.Store(Width::k2, kFrame, TWILL_AT(udp) + udp_at::kDestinationPort, kScratch);
  p_.Copy(kOther, kLength);
  p_.Apply(Operation::kAdd, kOther, kUdpHeader);
  p_.Swap16(kOther);
  p_.Store(Width::k2, kFrame, TWILL_AT(udp) + udp_at::kLength, kOther);
  p_.StoreValue(Width::k2, kFrame, TWILL_AT(udp) + udp_at::kChecksum, 0);
}

void Encap::WriteExits() noexcept {
  WriteFailed(failed_, LaneTotal::k_out_failed, TWILL_AT(segments));
  WriteExit(unknown_, LaneTotal::k_out_left_unclean, pass_);
  WriteExit(unclean_, LaneTotal::k_out_left_unclean, note_);
  WriteExit(no_route_, LaneTotal::k_out_left_no_route, note_);
  WriteExit(too_big_, LaneTotal::k_out_left_too_big, note_);
  WriteExit(unproven_, LaneTotal::k_out_left_unproven, note_);
  WriteExit(superpacket_, LaneTotal::k_out_left_superpacket, note_);
  WriteExit(rate_, LaneTotal::k_out_left_rate, note_);
  WriteExit(no_path_, LaneTotal::k_out_left_no_path, note_);
  WriteExit(encapsulated_, LaneTotal::k_out_left_encapsulated, note_);
  WriteExit(flow_, LaneTotal::k_out_left_flow, note_);
  p_.Bind(note_);
  p_.Load(Width::k4, kOther, kFrame, TWILL_AT(tick));
  p_.Store(Width::k4, kSlot, 0, kOther);
  p_.Bind(pass_);
  p_.Set(kScratch, bpf::kTcxNext);
  p_.Exit();
}

}  // namespace twill::encap

namespace twill {

void WriteEncap(bpf::Assembler* program, const LaneHost& host, const LaneMapFds& maps) noexcept {
  encap::Encap(program, host, maps).Write();
}

}  // namespace twill
