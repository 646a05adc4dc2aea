// The two ports with packets of IPv6: what is told of them, what leaves, and what is answered.

#include "../../addon/engine/inbound.h"
#include "../../addon/engine/outbound.h"
#include "../support/check.h"
#include "../support/make_packet.h"
#include "fake_kernel.h"

using namespace twill;
using test::Bytes;
using test::Count;

namespace {

constexpr uint32_t kPeer = 0xac140002;
constexpr Address kReplySource = {{0xfd000000, 0, 0, 0x0a050200}};
constexpr Families kBoth = {true, true};

test::PacketSpec Spec(size_t payload = 100) {
  test::PacketSpec spec;
  spec.is_v6 = true;
  spec.payload.assign(payload, 5);
  return spec;
}

struct Bench {
  test::FakeKernel kernel;
  std::shared_ptr<Engine> engine;
  std::vector<int32_t> out_words = std::vector<int32_t>(kOutboundArenaWords);
  std::vector<int32_t> in_words = std::vector<int32_t>(kInboundArenaWords);
  ArenaView out{out_words.data(), kOutboundCapacity, outbound_field::kCount};
  ArenaView in{in_words.data(), kInboundCapacity, inbound_field::kCount};
  OutboundPort outbound;
  InboundPort inbound;
  Queue& queue = engine->queue(0);

  explicit Bench(Families families = kBoth)
      : engine(test::OpenFakeEngine(true, true, families)),
        outbound(engine, 0, out_words.data()),
        inbound(engine, 0, in_words.data()) {}
  ~Bench() { CloseEngine(engine->id()); }

  void Send(const test::PacketSpec& spec, const VnetHeader& vnet = {}) {
    kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec), vnet));
  }
  void Run(int32_t verdict = 0, int32_t mtu = 1472) {
    for (int32_t count = outbound.Step(); count > 0; count = outbound.Step()) {
      for (int32_t i = 0; i < count; i++) {
        out.At(outbound_field::kVerdict, i) = verdict;
        out.At(outbound_field::kPeerAddress, i) = static_cast<int32_t>(kPeer);
        out.At(outbound_field::kPeerPort, i) = 8285;
        out.At(outbound_field::kPeerMtu, i) = mtu;
        out.At(outbound_field::kPeerId, i) = 3;
        out.SetAddress(outbound_field::kReplySource, outbound_field::kReplySourceRest, i, kReplySource);
      }
    }
    CHECK(test::CountersAddUp(queue));
  }
  void Receive(const Bytes& packet) { kernel.udp_input.push_back({kPeer, 8285, packet, 0, false}); }
  void RunInbound(int32_t verdict = 0) {
    for (int32_t count = inbound.Step(); count > 0; count = inbound.Step()) {
      for (int32_t i = 0; i < count; i++) {
        in.At(inbound_field::kVerdict, i) = verdict;
        in.At(inbound_field::kPeerId, i) = 3;
        in.At(inbound_field::kAudit, i) = 0;
      }
    }
    CHECK(test::CountersAddUp(queue));
  }
};

// Checks an ICMPv6 error as it was written into the device or sent, and returns its packet.
void CheckError(const Bytes& packet, uint8_t type, const Address& from, uint32_t mtu) {
  CHECK(test::IsV6(packet.data()));
  CHECK_EQUAL(packet[6], kProtocolIcmpV6);
  const auto length = static_cast<uint32_t>(packet.size() - 40);
  CHECK_EQUAL(test::SlowChecksum(&packet[40], length, test::SlowPseudoSum(packet.data(), length)), 0);
  CHECK(LoadAddress(&packet[8], true) == from);
  CHECK_EQUAL(LoadBe32(&packet[36]), 0x0a050102);
  CHECK_EQUAL(packet[40], type);
  CHECK_EQUAL(LoadBe32(&packet[44]), mtu);
}

Bytes Written(const Bytes& frame) { return Bytes(frame.begin() + sizeof(VnetHeader), frame.end()); }

}  // namespace

int main() {
  test::Case("the arena has all words of both addresses, and says which packets have them", [] {
    Bench bench;
    bench.Send(Spec());
    bench.Send({});
    bench.Receive(test::MakePacket(Spec()));
    bench.Receive(test::MakePacket({}));
    CHECK_EQUAL(bench.outbound.Step(), 2);
    using namespace outbound_field;
    const Address source = {{0xfd000000, 0, 0, 0x0a050102}}, destination = {{0xfd000000, 0, 0, 0x0a050202}};
    CHECK_EQUAL(bench.out.At(kWide, 0), 1);
    CHECK(bench.out.GetAddress(kSource, kSourceRest, 0) == source);
    CHECK(bench.out.GetAddress(kDestination, kDestinationRest, 0) == destination);
    CHECK_EQUAL(bench.out.At(kWide, 1), 0);
    CHECK_EQUAL(bench.out.At(kSource, 1), 0x0a050102);
    CHECK_EQUAL(bench.inbound.Step(), 2);
    CHECK_EQUAL(bench.in.At(inbound_field::kWide, 0), 1);
    CHECK(bench.in.GetAddress(inbound_field::kInnerSource, inbound_field::kInnerSourceRest, 0) == source);
    CHECK(bench.in.GetAddress(inbound_field::kInnerDestination, inbound_field::kInnerDestinationRest, 0) ==
          destination);
    CHECK_EQUAL(bench.in.At(inbound_field::kWide, 1), 0);
  });

  test::Case("a network of IPv4 alone drops it by its version, in both directions", [] {
    Bench bench({true, false});
    bench.Send(Spec());
    bench.Receive(test::MakePacket(Spec()));
    bench.Run();
    bench.RunInbound();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_version), 1);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_version), 1);
    CHECK(bench.kernel.udp_output.empty() && bench.kernel.tun_output.empty());
  });

  test::Case("superpackets of TCP and UDP leave as a train of right packets, which come in as one superpacket", [] {
    for (const bool tcp : {true, false}) {
      Bench bench;
      test::PacketSpec spec = Spec(20 * 1000 + 7);
      spec.protocol = tcp ? kProtocolTcp : kProtocolUdp;
      spec.tos = 0x2a;
      spec.flow_label = 0xabcde;
      const uint8_t type = tcp ? kVnetGsoTcpV6 : kVnetGsoUdpL4;
      const auto offset = static_cast<uint16_t>(tcp ? kTcpCsumOffset : kUdpCsumOffset);
      bench.Send(spec, {kVnetNeedsCsum, type, 60, 1000, 40, offset});
      bench.Run();
      CHECK_EQUAL(bench.kernel.udp_output.size(), 1);
      const test::Message sent = bench.kernel.udp_output[0];
      const size_t step = 1000 + 40 + (tcp ? 20 : 8);
      CHECK_EQUAL(sent.segment, step);
      for (size_t at = 0; at < sent.data.size(); at += step) {
        const size_t length = std::min(step, sent.data.size() - at);
        CHECK(test::ChecksumsRight(&sent.data[at], length));
        CHECK_EQUAL(LoadBe32(&sent.data[at]), LoadBe32(test::MakePacket(spec).data()));
        CHECK_EQUAL(sent.data[at + 7], 63);
      }
      bench.kernel.udp_input.push_back({kPeer, 8285, sent.data, sent.segment, false});
      bench.RunInbound();
      CHECK_EQUAL(bench.kernel.tun_output.size(), 1);
      const Bytes& frame = bench.kernel.tun_output[0];
      VnetHeader vnet;
      std::memcpy(&vnet, frame.data(), sizeof vnet);
      CHECK_EQUAL(vnet.gso_type, type);
      CHECK_EQUAL(vnet.gso_size, 1000);
      CHECK_EQUAL(vnet.csum_start, 40);
      CHECK_EQUAL(frame[sizeof vnet + 7], 62);
      CHECK_EQUAL(frame.size(), sizeof vnet + test::MakePacket(spec).size());
    }
  });

  test::Case("a superpacket of the other family's kind, or with a routing header, is dropped", [] {
    Bench bench;
    bench.Send(Spec(3000), {kVnetNeedsCsum, kVnetGsoTcpV4, 60, 1000, 40, 16});
    test::PacketSpec four;
    four.payload.assign(3000, 5);
    bench.Send(four, {kVnetNeedsCsum, kVnetGsoTcpV6, 40, 1000, 20, 16});
    test::PacketSpec routed = Spec(3000);
    routed.extensions = {{43, {2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}};
    bench.Send(routed, {kVnetNeedsCsum, kVnetGsoTcpV6, 84, 1000, 64, 16});
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_vnet_header), 3);
  });

  test::Case("router solicitations, listener reports and what is from link-local addresses stay here", [] {
    Bench bench;
    for (const size_t at : {8, 24}) {
      for (const uint16_t begin : {0xfe80, 0xff02}) {
        Bytes packet = test::MakePacket(Spec());
        StoreBe16(&packet[at], begin);
        bench.kernel.tun_input.push_back(test::TunFrame(packet));
      }
    }
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_not_unicast), 4);
    CHECK(bench.kernel.tun_output.empty());
  });

  test::Case("what is larger than the path is answered with its MTU, never less than 1,280", [] {
    for (const auto& [mtu, told] : {std::pair{1400, 1400}, {1280, 1280}, {1000, 1280}}) {
      Bench bench;
      bench.Send(Spec(1381));
      bench.Run(0, mtu);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_too_big), 1);
      CHECK_EQUAL(bench.kernel.tun_output.size(), 1);
      const Bytes error = Written(bench.kernel.tun_output[0]);
      CheckError(error, kIcmpV6TooBig, kReplySource, static_cast<uint32_t>(told));
      CHECK_EQUAL(error.size(), 1280);
    }
  });

  test::Case("over a path below 1,280, what every path must take goes out alone, to be fragmented outside", [] {
    Bench bench;
    bench.Send(Spec(1220));
    bench.Send(Spec(1220));
    bench.Run(0, 1000);
    CHECK_EQUAL(bench.kernel.udp_output.size(), 2);
    for (const test::Message& message : bench.kernel.udp_output) CHECK(!message.dont_fragment);
    CHECK(bench.kernel.tun_output.empty());
  });

  test::Case("a path that turns out narrower: the refused packet is answered", [] {
    Bench bench;
    bench.kernel.path_mtu[kPeer] = 1428;
    bench.Send(Spec(1381));
    bench.kernel.send_errors = {EMSGSIZE};
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_too_big), 1);
    CHECK_EQUAL(bench.kernel.tun_output.size(), 1);
    CheckError(Written(bench.kernel.tun_output[0]), kIcmpV6TooBig, kReplySource, 1400);
  });

  test::Case("no route, and a hop limit that is used up, are answered in both directions", [] {
    Bench bench;
    bench.Send(Spec());
    bench.Run(static_cast<int32_t>(Outbound::k_drop_no_route));
    CheckError(Written(bench.kernel.tun_output.at(0)), kIcmpV6Unreachable, {{0xfd000000, 0, 0, 0x0a050000}}, 0);
    test::PacketSpec spec = Spec();
    spec.ttl = 1;
    bench.Send(spec);
    bench.Run();
    CheckError(Written(bench.kernel.tun_output.at(1)), kIcmpV6TimeExceeded, kReplySource, 0);
    bench.Receive(test::MakePacket(spec));
    bench.RunInbound();
    CheckError(bench.kernel.udp_output.at(0).data, kIcmpV6TimeExceeded, {{0xfd000000, 0, 0, 0x0a050100}}, 0);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_ttl_expired), 1);
  });

  test::Case("received: a router advertisement, a source route and a fragment past the end are dropped", [] {
    Bench bench;
    Bytes packet = test::MakePacket(Spec());
    StoreBe16(&packet[8], 0xfe80);
    bench.Receive(packet);
    test::PacketSpec spec = Spec();
    spec.extensions = {{43, {0, 2, 0, 0, 0, 0, 0}}};
    bench.Receive(test::MakePacket(spec));
    spec = Spec();
    spec.fragment = 8190;
    bench.Receive(test::MakePacket(spec));
    bench.RunInbound();
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_martian_source), 1);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_options), 1);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_fragment_overflow), 1);
    CHECK(bench.kernel.tun_output.empty());
  });
  return test::Finish();
}
