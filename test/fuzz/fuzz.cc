// Mutated packets through both ports, on a fake kernel, under sanitizers: `fuzz [inputs] [seed]`.
//
// Inputs are structure-aware: right packets, superpackets and trains of every kind the parsers know, which are then
// spoiled (or not): flipped bits, lengths that lie, truncation, splices of two packets, virtio_net_hdr of pure chance,
// GRO sizes that do not fit. After every batch, whatever came out is checked: each datagram is exactly one IPv4 packet,
// each TUN write is one well-formed packet or superpacket, every packet is in one counter; and where nothing was
// spoiled, every checksum is right. The same count and seed always give the same inputs.

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "../../addon/inbound.h"
#include "../../addon/outbound.h"
#include "../native/check.h"
#include "../native/fake_kernel.h"
#include "../native/make_packet.h"

using namespace twill;
using test::Bytes;
using test::Random;

namespace {

constexpr uint32_t kBatch = 64;

test::PacketSpec RandomSpec(Random& random) {
  test::PacketSpec spec;
  spec.protocol = random.OneIn(2) ? kProtocolTcp : kProtocolUdp;
  spec.source = 0x0a050100 + random.Below(4);
  spec.destination = 0x0a050200 + random.Below(4);
  spec.source_port = static_cast<uint16_t>(random.Below(4));
  spec.destination_port = static_cast<uint16_t>(random.OneIn(20) ? 8285 : 5000 + random.Below(2));
  spec.id = static_cast<uint16_t>(random.Word());
  spec.fragment = random.OneIn(8) ? static_cast<uint16_t>(random.Word() & 0x3fff) : random.OneIn(2) ? kDontFragment : 0;
  spec.tos = random.OneIn(4) ? static_cast<uint8_t>(random.Word()) : 0;
  spec.ttl = random.OneIn(10) ? static_cast<uint8_t>(random.Below(3)) : 64;
  spec.sequence = random.Word();
  spec.flags = random.OneIn(5) ? static_cast<uint8_t>(random.Word()) : kTcpAck;
  if (random.OneIn(6)) spec.tcp_options.assign(4 * random.Below(11), 1);
  if (random.OneIn(12)) spec.ip_options.assign(4 * random.Below(11), random.OneIn(2) ? 1 : 131);
  spec.zero_checksum = random.OneIn(10);
  spec.payload.assign(random.OneIn(30) ? random.Below(9000) : random.Below(200), static_cast<uint8_t>(random.Word()));
  return spec;
}

// Spoils a packet in place; most changes hit the headers, where they matter.
void Spoil(Random& random, Bytes* packet) {
  for (uint32_t n = random.Below(4); n > 0 && !packet->empty(); n--) {
    const size_t at = random.Below(static_cast<uint32_t>(std::min<size_t>(packet->size(), random.OneIn(3) ? packet->size() : 60)));
    switch (random.Below(6)) {
      case 0:
        (*packet)[at] = static_cast<uint8_t>((*packet)[at] ^ 1 << random.Below(8));
        break;
      case 1:
        (*packet)[at] = static_cast<uint8_t>(random.OneIn(2) ? 0xff : random.Word());
        break;
      case 2:
        packet->resize(random.Below(static_cast<uint32_t>(packet->size() + 1)));
        break;
      case 3:
        packet->resize(packet->size() + random.Below(50), 0xaa);
        break;
      case 4:
        if (packet->size() >= 4) StoreBe16(packet->data() + 2, random.OneIn(2) ? random.Word() & 0xffff : static_cast<uint32_t>(packet->size()));
        break;
      default:
        (*packet)[0] = static_cast<uint8_t>(0x40 | random.Below(16));
    }
  }
}

VnetHeader RandomVnet(Random& random, const test::PacketSpec& spec, bool spoil) {
  VnetHeader vnet{};
  const auto ip = static_cast<uint16_t>(kMinIpHeader + spec.ip_options.size());
  const bool tcp = spec.protocol == kProtocolTcp;
  if ((spec.fragment & 0x3fff) == 0 && random.OneIn(2)) {
    vnet = {kVnetNeedsCsum, tcp ? kVnetGsoTcpV4 : kVnetGsoUdpL4, 0, static_cast<uint16_t>(random.Between(1, 1460)), ip,
            static_cast<uint16_t>(tcp ? kTcpCsumOffset : kUdpCsumOffset)};
    if (tcp && random.OneIn(10)) vnet.gso_type |= kVnetGsoEcn;
  }
  if (spoil && random.OneIn(2)) random.Fill(reinterpret_cast<uint8_t*>(&vnet) + random.Below(10), 1);
  if (spoil && random.OneIn(10)) random.Fill(reinterpret_cast<uint8_t*>(&vnet), sizeof vnet);
  return vnet;
}

// A packet whose transport checksum field holds the pseudo header's sum, as a TUN hands over what is to be completed.
Bytes Unfinished(Bytes packet, const VnetHeader& vnet) {
  if (vnet.flags != kVnetNeedsCsum) return packet;
  const uint32_t length = static_cast<uint32_t>(packet.size() - vnet.csum_start);
  uint32_t sum = test::SlowPseudoSum(packet.data(), length);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  StoreBe16(packet.data() + vnet.csum_start + vnet.csum_offset, sum);
  return packet;
}

struct Ports {
  std::shared_ptr<Engine> engine = test::OpenFakeEngine();
  std::vector<int32_t> out_words = std::vector<int32_t>(kOutboundArenaWords);
  std::vector<int32_t> in_words = std::vector<int32_t>(kInboundArenaWords);
  ArenaView out{out_words.data(), kOutboundCapacity, outbound_field::kCount};
  ArenaView in{in_words.data(), kInboundCapacity, inbound_field::kCount};
  OutboundPort outbound{engine, 0, out_words.data()};
  InboundPort inbound{engine, 0, in_words.data()};
  ~Ports() { CloseEngine(engine->id()); }
};

void CheckSent(const test::Message& message, bool clean) {
  const size_t step = message.segment == 0 ? message.data.size() : static_cast<size_t>(message.segment);
  CHECK(step > 0);
  for (size_t at = 0; at < message.data.size(); at += step) {
    const size_t length = std::min(step, message.data.size() - at);
    const Bytes datagram(message.data.begin() + static_cast<long>(at), message.data.begin() + static_cast<long>(at + length));
    Ipv4Header header{};
    CHECK(ParseIpv4(datagram.data(), datagram.size(), &header) == HeaderFault::kNone);
    CHECK_EQUAL(header.total_length, datagram.size());
    if (clean) CHECK(test::ChecksumsRight(datagram.data(), datagram.size()));
  }
}

void CheckWritten(const Bytes& frame) {
  CHECK(frame.size() > sizeof(VnetHeader) + kMinIpHeader - 1);
  VnetHeader vnet;
  std::memcpy(&vnet, frame.data(), sizeof vnet);
  const uint8_t* packet = frame.data() + sizeof vnet;
  const size_t length = frame.size() - sizeof vnet;
  Ipv4Header header{};
  CHECK(ParseIpv4(packet, length, &header) == HeaderFault::kNone);
  CHECK_EQUAL(header.total_length, length);
  CHECK(header.ttl >= 1);
  if (vnet.gso_type == 0) {
    CHECK_EQUAL(vnet.flags, 0);
    return;
  }
  // What the kernel demands (include/linux/virtio_net.h).
  const bool tcp = vnet.gso_type == kVnetGsoTcpV4;
  CHECK(tcp || vnet.gso_type == kVnetGsoUdpL4);
  CHECK_EQUAL(header.protocol, tcp ? kProtocolTcp : kProtocolUdp);
  CHECK_EQUAL(vnet.csum_offset, tcp ? kTcpCsumOffset : kUdpCsumOffset);
  CHECK_EQUAL(vnet.csum_start, header.header_length);
  CHECK(vnet.gso_size > 0 && vnet.hdr_len < length);
  const size_t payload = length - vnet.hdr_len;
  CHECK(payload > vnet.gso_size && payload <= size_t{vnet.gso_size} * kMaxChainPackets);
  CHECK_EQUAL(test::SlowChecksum(packet, 20), 0);
}

void FuzzOutbound(Random& random, Ports& ports, test::FakeKernel& kernel) {
  const bool clean = random.OneIn(2);
  for (uint32_t i = 0; i < kBatch; i++) {
    const test::PacketSpec spec = RandomSpec(random);
    const VnetHeader vnet = RandomVnet(random, spec, !clean);
    Bytes packet = test::MakePacket(spec);
    if (clean) packet = Unfinished(std::move(packet), vnet);
    else Spoil(random, &packet);
    Bytes frame = test::TunFrame(packet, vnet);
    if (!clean && random.OneIn(50)) frame.resize(random.Below(static_cast<uint32_t>(frame.size())));
    kernel.tun_input.push_back(std::move(frame));
  }
  if (random.OneIn(8)) kernel.send_at_most = static_cast<int>(random.Between(1, 3));
  if (random.OneIn(16)) kernel.refuse_trains = random.OneIn(2) ? EINVAL : EMSGSIZE;
  for (int32_t count; (count = ports.outbound.Step()) > 0;) {
    for (int32_t i = 0; i < count; i++) {
      ports.out.At(outbound_field::kVerdict, i) = random.OneIn(20) ? static_cast<int32_t>(Outbound::k_drop_no_route) : 0;
      ports.out.At(outbound_field::kPeerAddress, i) = static_cast<int32_t>(0xac140000 + random.Below(3));
      ports.out.At(outbound_field::kPeerPort, i) = 8285;
      ports.out.At(outbound_field::kPeerMtu, i) = random.OneIn(20) ? static_cast<int32_t>(random.Between(68, 1500)) : 9200;
      ports.out.At(outbound_field::kPeerId, i) = static_cast<int32_t>(random.Below(10));
    }
  }
  for (const test::Message& message : kernel.udp_output) CheckSent(message, clean);
  for (const Bytes& frame : kernel.tun_output) CheckWritten(frame);  // ICMP errors
}

void FuzzInbound(Random& random, Ports& ports, test::FakeKernel& kernel) {
  uint32_t left = kBatch;
  while (left > 0) {
    test::Message message;
    message.address = 0xac140000 + random.Below(3);
    test::PacketSpec spec = RandomSpec(random);
    uint32_t pieces = std::min(left, random.OneIn(2) ? 1 : random.Between(2, 30));
    left -= pieces;
    for (bool first = true; pieces > 0; pieces--, first = false) {
      Bytes packet = test::MakePacket(spec);
      if (first) message.segment = pieces > 1 ? static_cast<int>(packet.size()) : 0;
      if (random.OneIn(3)) Spoil(random, &packet);
      if (random.OneIn(4) && !first) packet.resize(static_cast<size_t>(message.segment));
      if (message.data.size() + packet.size() > 65000) break;
      message.data.insert(message.data.end(), packet.begin(), packet.end());
      spec.sequence += static_cast<uint32_t>(spec.payload.size());
      spec.id++;
      if (random.OneIn(10)) spec = RandomSpec(random);
    }
    if (random.OneIn(20)) message.segment = static_cast<int>(random.Below(2000));
    message.truncated = random.OneIn(200);
    kernel.udp_input.push_back(std::move(message));
  }
  if (random.OneIn(16)) kernel.refuse_superpackets = EINVAL;
  for (int32_t count; (count = ports.inbound.Step()) > 0;) {
    for (int32_t i = 0; i < count; i++) {
      ports.in.At(inbound_field::kVerdict, i) = random.OneIn(20) ? static_cast<int32_t>(Inbound::k_drop_not_ours) : 0;
      ports.in.At(inbound_field::kPeerId, i) = static_cast<int32_t>(random.Below(10)) - 1;
      ports.in.At(inbound_field::kAudit, i) = 0;
    }
  }
  for (const Bytes& frame : kernel.tun_output) CheckWritten(frame);
  for (const test::Message& message : kernel.udp_output) CheckSent(message, false);  // ICMP errors
}

}  // namespace

int main(int count, char** arguments) {
  const uint64_t inputs = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 50'000'000;
  const auto seed = static_cast<uint32_t>(count > 2 ? std::strtoul(arguments[2], nullptr, 10) : 1);
  std::printf("# %llu inputs, seed %u\n", static_cast<unsigned long long>(inputs), seed);
  const auto started = std::chrono::steady_clock::now();
  uint64_t done = 0;
  try {
    for (uint64_t round = 0; done < inputs; round++) {
      // A fresh pair of ports now and then: some refusals are remembered.
      Random random(seed ^ static_cast<uint32_t>(round * 2654435761u));
      Ports ports;
      for (int batch = 0; batch < 2000 && done < inputs; batch++) {
        test::FakeKernel kernel;
        FuzzOutbound(random, ports, kernel);
        kernel.tun_output.clear();
        kernel.udp_output.clear();
        FuzzInbound(random, ports, kernel);
        CHECK(test::CountersAddUp(ports.engine->queue(0)));
        done += 2 * kBatch;
      }
      if (round % 20 == 0) {
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
        std::printf("# %llu inputs, %.0f a second\n", static_cast<unsigned long long>(done), static_cast<double>(done) / seconds);
        std::fflush(stdout);
      }
    }
  } catch (const test::Failed&) {
    std::printf("not ok 1 - after %llu inputs, seed %u\n1..1\n", static_cast<unsigned long long>(done), seed);
    return 1;
  }
  std::printf("ok 1 - %llu inputs, no fault\n1..1\n", static_cast<unsigned long long>(done));
  return 0;
}
