// The two ports with datagrams of IPv6 beside those of IPv4: what leaves by which socket, flow labels, path MTUs, and
// whose datagrams are told apart.

#include <set>

#include "../../addon/engine/inbound.h"
#include "../../addon/engine/outbound.h"
#include "../support/check.h"
#include "../support/make_packet.h"
#include "fake_kernel.h"

using namespace twill;
using test::Bytes;
using test::Count;

namespace {

constexpr uint32_t kPeerV4 = 0xac140002;
// The first word is the other peer's address, so that nothing may go by it alone.
constexpr Address kPeerV6 = {{kPeerV4, 0, 0, 2}};
constexpr Address kReplySource = {{0xfd000000, 0, 0, 0x0a050200}};

struct Bench {
  test::FakeKernel kernel;
  std::shared_ptr<Engine> engine = test::OpenFakeEngine(true, true, {true, true}, true);
  std::vector<int32_t> out_words = std::vector<int32_t>(kOutboundArenaWords);
  std::vector<int32_t> in_words = std::vector<int32_t>(kInboundArenaWords);
  ArenaView out{out_words.data(), kOutboundCapacity, outbound_field::kCount};
  ArenaView in{in_words.data(), kInboundCapacity, inbound_field::kCount};
  OutboundPort outbound{engine, 0, out_words.data()};
  InboundPort inbound{engine, 0, in_words.data()};
  Queue& queue = engine->queue(0);

  ~Bench() { CloseEngine(engine->id()); }

  void Send(uint16_t port, size_t payload = 100, bool is_v6 = true) {
    test::PacketSpec spec;
    spec.is_v6 = is_v6;
    spec.source_port = port;
    spec.payload.assign(payload, 5);
    kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec)));
  }

  // To the peer of IPv6, but every `v4_each`-th packet to that of IPv4.
  void Run(int32_t mtu = 1452, int32_t v4_each = 1 << 20) {
    int32_t sent = 0;
    for (int32_t count = outbound.Step(); count > 0; count = outbound.Step()) {
      for (int32_t i = 0; i < count; i++) {
        const bool is_v4 = ++sent % v4_each == 0;
        out.At(outbound_field::kVerdict, i) = 0;
        out.At(outbound_field::kOuterWide, i) = !is_v4;
        if (is_v4) {
          out.At(outbound_field::kPeerAddress, i) = static_cast<int32_t>(kPeerV4);
        } else {
          out.SetAddress(outbound_field::kPeerAddress, outbound_field::kPeerAddressRest, i, kPeerV6);
        }
        out.At(outbound_field::kPeerPort, i) = 8285;
        out.At(outbound_field::kPeerMtu, i) = mtu;
        out.At(outbound_field::kPeerId, i) = 3;
        out.SetAddress(outbound_field::kReplySource, outbound_field::kReplySourceRest, i, kReplySource);
      }
    }
    CHECK(test::CountersAddUp(queue));
  }

  std::set<uint32_t> Labels() const {
    std::set<uint32_t> labels;
    for (const test::Message& message : kernel.udp_output) labels.insert(message.flow_label);
    return labels;
  }
};

}  // namespace

int main() {
  test::Case("each datagram goes to the peer of its family, in trains of one peer", [] {
    Bench bench;
    for (uint16_t i = 0; i < 8; i++) bench.Send(4000 + i % 2);
    bench.Run(1452, 2);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 8);
    CHECK_EQUAL(bench.kernel.udp_output.size(), 2);
    for (const test::Message& message : bench.kernel.udp_output) {
      CHECK_EQUAL(message.data.size(), 4 * message.segment);
      CHECK(message.v6 ? *message.v6 == kPeerV6 : message.address == kPeerV4);
      CHECK_EQUAL(message.flow_label != 0, message.v6.has_value());
      CHECK_EQUAL(message.port, 8285);
    }
    CHECK(bench.kernel.udp_output[0].v6.has_value() != bench.kernel.udp_output[1].v6.has_value());
  });

  test::Case("a flow has one label, many flows have a few", [] {
    Bench bench;
    for (int i = 0; i < 20; i++) bench.Send(4000);
    bench.Run();
    CHECK_EQUAL(bench.Labels().size(), 1);
    for (uint16_t port = 5000; port < 5200; port++) bench.Send(port);
    bench.Run();
    const std::set<uint32_t> labels = bench.Labels();
    CHECK_EQUAL(labels.size(), 8);
    CHECK_EQUAL(labels.count(0), 0);
    CHECK(*labels.rbegin() <= 0xfffff);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 220);
  });

  test::Case("a kernel that refuses labels is sent none", [] {
    Bench bench;
    bench.kernel.refuse_labels = EINVAL;
    for (int i = 0; i < 4; i++) bench.Send(static_cast<uint16_t>(4000 + i));
    bench.Run();
    const uint64_t calls = bench.kernel.sends;
    for (int i = 0; i < 4; i++) bench.Send(static_cast<uint16_t>(4000 + i));
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 8);
    CHECK_EQUAL(bench.Labels().size(), 1);
    CHECK_EQUAL(bench.Labels().count(0), 1);
    CHECK_EQUAL(bench.kernel.sends - calls, 1);
  });

  test::Case("a train that is too long for its path says nothing about labels", [] {
    Bench bench;
    bench.kernel.path_mtu[2] = 1400;
    for (int i = 0; i < 3; i++) bench.Send(4000, 1340);
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_too_big), 3);
    bench.Send(4000);
    bench.Run(1352);
    CHECK_EQUAL(bench.Labels().size(), 1);
    CHECK_EQUAL(bench.Labels().count(0), 0);
  });

  test::Case("a path that became narrower: the sender is told what fits behind 48 bytes", [] {
    Bench bench;
    bench.kernel.path_mtu[2] = 1400;
    bench.Send(4000, 1340);
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_too_big), 1);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_icmp_sent), 1);
    const Bytes& answer = bench.kernel.tun_output.back();
    CHECK_EQUAL(answer[sizeof(VnetHeader) + 40], 2);
    CHECK_EQUAL(LoadBe32(&answer[sizeof(VnetHeader) + 44]), 1352);
    const int32_t* control = &bench.out_words[outbound_field::kCount * kOutboundCapacity];
    CHECK_EQUAL(control[control::kEventCount], 1);
    const int32_t* event = control + control::kEvents;
    CHECK_EQUAL(event[0], 1);
    for (size_t i = 0; i < 4; i++) CHECK_EQUAL(static_cast<uint32_t>(event[1 + i]), kPeerV6.words[i]);
    CHECK_EQUAL(event[5], 1352);
  });

  test::Case("an error about a long packet fits the narrowest path back", [] {
    for (const bool has_cut : {false, true}) {
      Bench bench;
      // Either way the socket, which both workers send by, was used before.
      bench.kernel.path_mtu[2] = 1280;
      bench.Send(4000, has_cut ? 1220 : 100);
      bench.Run(1232);
      bench.kernel.udp_output.clear();
      test::PacketSpec spec;
      spec.is_v6 = true;
      spec.ttl = 1;
      spec.payload.assign(1380, 1);
      test::Message message;
      message.v6 = kPeerV6;
      message.data = test::MakePacket(spec);
      bench.kernel.udp_input.push_back(message);
      CHECK_EQUAL(bench.inbound.Step(), 1);
      bench.in.At(inbound_field::kVerdict, 0) = 0;
      bench.in.At(inbound_field::kPeerId, 0) = 3;
      CHECK_EQUAL(bench.inbound.Step(), 0);
      CHECK_EQUAL(Count(bench.queue, Inbound::k_icmp_sent), 1);
      CHECK_EQUAL(bench.kernel.udp_output.size(), 1);
      const Bytes& error = bench.kernel.udp_output[0].data;
      CHECK_EQUAL(error.size(), 1232);
      CHECK(test::ChecksumsRight(error.data(), error.size()));
    }
  });

  test::Case("no sender is told less than 1,280: the datagram is cut, and counted", [] {
    Bench bench;
    bench.kernel.path_mtu[2] = 1280;
    bench.Send(4000, 1280 - 40 - 20);
    bench.Run(1232);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 1);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_fragmented), 1);
    CHECK(!bench.kernel.udp_output[0].dont_fragment);
    CHECK(bench.kernel.tun_output.empty());
    // What fits leaves whole again, and so does what the table does not know to be too long.
    bench.Send(4000, 500);
    bench.Run(1232);
    CHECK(bench.kernel.udp_output[1].dont_fragment);
    bench.Send(4000, 1280 - 40 - 20);
    bench.Run(1452);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 3);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_fragmented), 2);
  });

  test::Case("what is received is described by its family, in runs of one sender", [] {
    Bench bench;
    test::PacketSpec spec;
    spec.is_v6 = true;
    spec.payload.assign(64, 1);
    const Bytes packet = test::MakePacket(spec);
    for (int i = 0; i < 3; i++) {
      test::Message message;
      message.v6 = kPeerV6;
      message.data = packet;
      bench.kernel.udp_input.push_back(message);
    }
    test::Message other;
    other.v6 = Address{{kPeerV4, 0, 0, 3}};
    other.data = packet;
    bench.kernel.udp_input.push_back(other);
    bench.kernel.udp_input.push_back({kPeerV4, 8285, packet, 0, false});
    CHECK_EQUAL(bench.inbound.Step(), 3);
    const ArenaView& in = bench.in;
    uint32_t v6_runs = 0;
    for (int32_t i = 0; i < 3; i++) {
      CHECK_EQUAL(static_cast<uint32_t>(in.At(inbound_field::kOuterSource, i)), kPeerV4);
      in.At(inbound_field::kVerdict, i) = 0;
      in.At(inbound_field::kPeerId, i) = 3;
      if (in.At(inbound_field::kOuterWide, i) == 0) {
        CHECK_EQUAL(in.At(inbound_field::kSegments, i), 1);
        continue;
      }
      v6_runs++;
      const int32_t last = in.At(inbound_field::kOuterSourceRest + 2, i);
      CHECK_EQUAL(in.At(inbound_field::kSegments, i), last == 2 ? 3 : 1);
    }
    CHECK_EQUAL(v6_runs, 2);
    CHECK_EQUAL(bench.inbound.Step(), 0);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_out), 5);
    CHECK(test::CountersAddUp(bench.queue));
  });

  test::Case("an expired packet is answered over the family it came by, whoever is refused is named", [] {
    Bench bench;
    test::PacketSpec spec;
    spec.is_v6 = true;
    spec.ttl = 1;
    spec.payload.assign(64, 1);
    test::Message message;
    message.v6 = kPeerV6;
    message.port = 40000;
    message.data = test::MakePacket(spec);
    bench.kernel.udp_input.push_back(message);
    CHECK_EQUAL(bench.inbound.Step(), 1);
    bench.in.At(inbound_field::kVerdict, 0) = 0;
    bench.in.At(inbound_field::kPeerId, 0) = 3;
    CHECK_EQUAL(bench.inbound.Step(), 0);
    CHECK_EQUAL(bench.kernel.udp_output.size(), 1);
    CHECK(bench.kernel.udp_output[0].v6 && *bench.kernel.udp_output[0].v6 == kPeerV6);
    const Offender& offender = bench.queue.inbound_offenders[static_cast<size_t>(Inbound::k_drop_ttl_expired)];
    CHECK_EQUAL(offender.words[0].load(), Offender::kOuterV6 | Offender::kInnerV6);
    CHECK_EQUAL(offender.words[4].load(), 2);
    CHECK_EQUAL(offender.words[5].load(), LoadBe32(&message.data[kIpv6Source]));
    CHECK_EQUAL(offender.words[12].load(), LoadBe32(&message.data[kIpv6Destination + 12]));
  });

  return test::Finish();
}
