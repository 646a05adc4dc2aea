// Both ports on a fake kernel: what each errno leads to, and that every packet ends in one counter.

#include <cerrno>

#include "../../addon/engine/inbound.h"
#include "../../addon/engine/outbound.h"
#include "../../addon/kernel/tun.h"
#include "../support/check.h"
#include "fake_kernel.h"
#include "../support/make_packet.h"

using namespace twill;
using test::Bytes;
using test::Count;

namespace {

constexpr uint32_t kPeer = 0xac140002;

struct OutboundBench {
  test::FakeKernel kernel;
  std::shared_ptr<Engine> engine = test::OpenFakeEngine();
  std::vector<int32_t> words = std::vector<int32_t>(kOutboundArenaWords);
  ArenaView arena{words.data(), kOutboundCapacity, outbound_field::kCount};
  OutboundPort port{engine, 0, words.data()};
  Queue& queue = engine->queue(0);

  ~OutboundBench() { CloseEngine(engine->id()); }

  // Reads, gives every descriptor the same verdict, and sends.
  void Run(int32_t verdict = 0, int32_t mtu = 1472, uint32_t peer = kPeer) {
    for (int32_t count = port.Step(); count > 0; count = port.Step()) {
      for (int32_t i = 0; i < count; i++) {
        arena.At(outbound_field::kVerdict, i) = verdict;
        arena.At(outbound_field::kPeerAddress, i) = static_cast<int32_t>(peer);
        arena.At(outbound_field::kPeerPort, i) = 8285;
        arena.At(outbound_field::kPeerMtu, i) = mtu;
        arena.At(outbound_field::kPeerId, i) = 3;
        arena.At(outbound_field::kReplySource, i) = 0x0a050200;
      }
    }
    CHECK(test::CountersAddUp(queue));
  }

  // `last` more bytes are a shorter piece behind the others.
  void AddSuperpacket(uint32_t pieces, uint16_t gso_size = 1000, uint16_t fragment = kDontFragment, size_t last = 0) {
    test::PacketSpec spec;
    spec.payload.assign(size_t{pieces} * gso_size + last, 5);
    spec.fragment = fragment;
    VnetHeader vnet{kVnetNeedsCsum, kVnetGsoTcpV4, 40, gso_size, 20, 16};
    kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec), vnet));
  }

  void AddSingles(int count, size_t payload = 100) {
    for (int i = 0; i < count; i++) {
      test::PacketSpec spec;
      spec.payload.assign(payload + static_cast<size_t>(i), 5);
      kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec)));
    }
  }

  uint64_t DatagramsSent() const {
    uint64_t sum = 0;
    for (const test::Message& m : kernel.udp_output) {
      sum += m.segment == 0 ? 1 : (m.data.size() + static_cast<size_t>(m.segment) - 1) / static_cast<size_t>(m.segment);
    }
    return sum;
  }
};

struct InboundBench {
  test::FakeKernel kernel;
  std::shared_ptr<Engine> engine = test::OpenFakeEngine();
  std::vector<int32_t> words = std::vector<int32_t>(kInboundArenaWords);
  ArenaView arena{words.data(), kInboundCapacity, inbound_field::kCount};
  InboundPort port{engine, 0, words.data()};
  Queue& queue = engine->queue(0);

  ~InboundBench() { CloseEngine(engine->id()); }

  int32_t Run(int32_t verdict = 0) {
    int32_t count;
    while ((count = port.Step()) > 0) {
      for (int32_t i = 0; i < count; i++) {
        arena.At(inbound_field::kVerdict, i) = verdict;
        arena.At(inbound_field::kPeerId, i) = 3;
        arena.At(inbound_field::kAudit, i) = 0;
      }
    }
    CHECK(test::CountersAddUp(queue));
    return count;
  }

  // A train of TCP segments that merge.
  void AddTrain(uint32_t pieces, size_t payload = 1000) {
    test::Message message;
    message.address = kPeer;
    test::PacketSpec spec;
    spec.payload.assign(payload, 9);
    for (uint32_t i = 0; i < pieces; i++) {
      const Bytes packet = test::MakePacket(spec);
      message.data.insert(message.data.end(), packet.begin(), packet.end());
      message.segment = static_cast<int>(packet.size());
      spec.sequence += static_cast<uint32_t>(payload);
      spec.id++;
    }
    kernel.udp_input.push_back(std::move(message));
  }

  void Add(Bytes data, int segment = 0, bool truncated = false) {
    kernel.udp_input.push_back({kPeer, 8285, std::move(data), segment, truncated});
  }
};

struct SendRow {
  const char* name;
  std::deque<int> errors;
  uint64_t sent;
  Outbound drop;
};

}  // namespace

int main() {
  const std::vector<SendRow> singles = {
      {"EINTR is tried again", {EINTR, EINTR, EINTR}, 1, Outbound::kCount},
      {"EAGAIN ends in drop_send_blocked", {EAGAIN, EAGAIN, EAGAIN, EAGAIN, EAGAIN, EAGAIN}, 0,
       Outbound::k_drop_send_blocked},
      {"EAGAIN that passes loses nothing", {EAGAIN}, 1, Outbound::kCount},
      {"ENOBUFS that passes loses nothing", {ENOBUFS}, 1, Outbound::kCount},
      {"ENOBUFS is tried once more, then drop_send_no_buffer", {ENOBUFS, ENOBUFS}, 0, Outbound::k_drop_send_no_buffer},
      {"ECONNREFUSED", {ECONNREFUSED}, 0, Outbound::k_drop_send_unreachable},
      {"ENETUNREACH", {ENETUNREACH}, 0, Outbound::k_drop_send_unreachable},
      {"EPERM", {EPERM}, 0, Outbound::k_drop_send_denied},
      {"EMSGSIZE that no path MTU explains is sent to be fragmented", {EMSGSIZE}, 1, Outbound::kCount},
      {"EMSGSIZE then too", {EMSGSIZE, EMSGSIZE}, 0, Outbound::k_drop_send_too_big},
      {"EIO", {EIO, EIO}, 0, Outbound::k_drop_send_failed},
  };
  for (const SendRow& row : singles) {
    test::Case((std::string("a single datagram: ") + row.name).c_str(), [&] {
      OutboundBench bench;
      bench.AddSingles(1);
      bench.kernel.send_errors = row.errors;
      bench.Run();
      CHECK_EQUAL(bench.DatagramsSent(), row.sent);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), row.sent);
      if (row.drop != Outbound::kCount) CHECK_EQUAL(Count(bench.queue, row.drop), 1);
    });
  }

  test::Case("short counts of sendmmsg lose nothing and keep the order", [] {
    OutboundBench bench;
    bench.kernel.send_at_most = 3;
    bench.AddSingles(40);
    bench.Run();
    CHECK_EQUAL(bench.kernel.udp_output.size(), 40);
    for (size_t i = 1; i < 40; i++) {
      CHECK_EQUAL(bench.kernel.udp_output[i].data.size(), bench.kernel.udp_output[i - 1].data.size() + 1);
    }
  });

  test::Case("an error in the middle concerns its own message only", [] {
    OutboundBench bench;
    bench.kernel.send_at_most = 5;
    bench.kernel.send_errors = {0, EPERM};
    bench.AddSingles(20);
    bench.Run();
    CHECK_EQUAL(bench.kernel.udp_output.size(), 19);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_send_denied), 1);
  });

  for (const int error : {EMSGSIZE, EINVAL, EIO}) {
    test::Case((std::string("a refused train goes out as singles: ") + std::to_string(error)).c_str(), [&] {
      OutboundBench bench;
      bench.kernel.refuse_trains = error;
      bench.AddSuperpacket(40);
      bench.Run();
      CHECK_EQUAL(bench.DatagramsSent(), 40);
      CHECK(Count(bench.queue, Outbound::k_gso_refused) >= 1);
      for (const test::Message& message : bench.kernel.udp_output) {
        CHECK_EQUAL(message.segment, 0);
        CHECK(test::ChecksumsRight(message.data.data(), message.data.size()));
      }
      // EIO is a property of the path to this peer: no more trains to it for a while. The others are about one size.
      const uint64_t refused = Count(bench.queue, Outbound::k_gso_refused);
      bench.kernel.refuse_trains = 0;
      bench.AddSuperpacket(40);
      bench.Run();
      CHECK_EQUAL(Count(bench.queue, Outbound::k_gso_refused), refused);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_trains) == 0, error == EIO);
    });
  }

  for (const int error : {EMSGSIZE, EINVAL}) {
    const std::string name = "a train refused twice for no known reason is not tried again: " + std::to_string(error);
    test::Case(name.c_str(), [&] {
      OutboundBench bench;
      bench.kernel.refuse_trains = error;
      for (int i = 0; i < 2; i++) {
        bench.AddSuperpacket(40);
        bench.Run();
      }
      CHECK_EQUAL(Count(bench.queue, Outbound::k_gso_refused), 2);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_path_mtu_events), 2);
      bench.AddSuperpacket(40);
      bench.Run();
      CHECK_EQUAL(bench.DatagramsSent(), 120);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_gso_refused), 2);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_path_mtu_events), 2);
      // Shorter datagrams, and those for another peer, are another matter.
      bench.kernel.refuse_trains = 0;
      bench.AddSuperpacket(40, 900);
      bench.Run();
      CHECK_EQUAL(Count(bench.queue, Outbound::k_trains), 1);
      bench.AddSuperpacket(40);
      bench.Run(0, 1472, kPeer + 1);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_trains), 2);
    });
  }

  test::Case("a train refused for lack of memory is sent once more and no oftener", [] {
    OutboundBench bench;
    bench.AddSuperpacket(40);
    bench.kernel.send_errors = {ENOBUFS, ENOBUFS};
    bench.Run();
    CHECK_EQUAL(bench.kernel.sends, 2);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_send_no_buffer), 40);
  });

  test::Case("a batch pauses once for memory, however many trains it has", [] {
    OutboundBench bench;
    bench.AddSingles(20);  // of 20 lengths: 20 trains
    bench.kernel.send_errors.assign(50, ENOBUFS);
    bench.Run();
    CHECK_EQUAL(bench.kernel.sends, 21);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_send_no_buffer), 20);
  });

  for (const int error : {ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, EPROTO}) {
    test::Case((std::string("ICMP about another peer fails nothing: ") + std::to_string(error)).c_str(), [&] {
      OutboundBench bench;
      bench.kernel.icmp_flood = error;
      bench.AddSingles(100);
      bench.AddSuperpacket(40);
      bench.Run();
      CHECK_EQUAL(bench.DatagramsSent(), 140);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 140);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_trains), 1);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_path_mtu_events), 0);
    });
  }

  for (const bool whole : {false, true}) {
    test::Case(whole ? "a path that became narrower: packets with DF are answered at once"
                     : "a path that became narrower: superpackets with DF are answered at once", [whole] {
      OutboundBench bench;
      bench.kernel.path_mtu[kPeer] = 1000;
      if (whole) {
        bench.AddSingles(1, 1000);
      } else {
        bench.AddSuperpacket(40);
      }
      bench.Run();
      CHECK_EQUAL(bench.DatagramsSent(), 0);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_too_big), whole ? 1 : 40);
      CHECK(!bench.kernel.tun_output.empty());
      const uint8_t* icmp = bench.kernel.tun_output[0].data() + sizeof(VnetHeader);
      CHECK_EQUAL(LoadBe32(icmp + 12), 0x0a050200);
      CHECK_EQUAL(icmp[20], kIcmpUnreachable);
      CHECK_EQUAL(icmp[21], kIcmpCodeFragmentationNeeded);
      CHECK_EQUAL(LoadBe16(icmp + 26), 972);
      const int32_t* control = &bench.words[outbound_field::kCount * kOutboundCapacity];
      CHECK_EQUAL(control[control::kEventCount], 1);
      CHECK_EQUAL(control[control::kEvents], 0);
      CHECK_EQUAL(control[control::kEvents + 1], static_cast<int32_t>(kPeer));
      CHECK_EQUAL(control[control::kEvents + 5], 972);
      // What fits goes on in trains, and so does what fits the wider path of another peer.
      bench.AddSuperpacket(40, 900);
      bench.Run(0, 972);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_trains), 1);
      bench.AddSuperpacket(40);
      bench.Run(0, 1472, kPeer + 1);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_trains), 2);
    });
  }

  test::Case("a path that became narrower: packets without DF go out to be fragmented", [] {
    OutboundBench bench;
    bench.kernel.path_mtu[kPeer] = 1000;
    for (const int32_t known : {1472, 972}) {
      bench.kernel.udp_output.clear();
      bench.AddSuperpacket(40, 1000, 0);
      bench.AddSuperpacket(40, 900, 0);
      bench.Run(0, known);
      CHECK_EQUAL(bench.DatagramsSent(), 80);
      for (const test::Message& message : bench.kernel.udp_output) {
        CHECK_EQUAL(message.dont_fragment, message.segment != 0);
      }
    }
    CHECK_EQUAL(bench.kernel.tun_output.size(), 0);
  });

  test::Case("pieces of a superpacket that are larger than the path are counted, and not the last one that fits", [] {
    for (const auto& [last, cut] : {std::pair{932, 4}, {933, 5}}) {
      OutboundBench bench;
      bench.AddSuperpacket(4, 1000, 0, static_cast<size_t>(last));
      bench.Run(0, 972);  // headers included, which are 40 bytes
      CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 5);
      CHECK_EQUAL(Count(bench.queue, Outbound::k_fragmented), cut);
    }
  });

  test::Case("TTL 0 and 1 are dropped, 1 is answered from the peer's base", [] {
    OutboundBench bench;
    for (const uint8_t ttl : {0, 1, 2}) {
      test::PacketSpec spec;
      spec.ttl = ttl;
      bench.kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec)));
    }
    bench.Run();
    CHECK_EQUAL(bench.kernel.udp_output.size(), 1);
    CHECK_EQUAL(bench.kernel.udp_output[0].data[8], 1);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_ttl_expired), 2);
    CHECK_EQUAL(bench.kernel.tun_output.size(), 1);
    const uint8_t* icmp = bench.kernel.tun_output[0].data() + sizeof(VnetHeader);
    CHECK_EQUAL(LoadBe32(icmp + 12), 0x0a050200);
    CHECK_EQUAL(icmp[20], kIcmpTimeExceeded);
  });

  test::Case("no route: answered from the Network's base", [] {
    OutboundBench bench;
    bench.AddSingles(1);
    bench.Run(static_cast<int32_t>(Outbound::k_drop_no_route));
    CHECK_EQUAL(bench.kernel.udp_output.size(), 0);
    const uint8_t* icmp = bench.kernel.tun_output.at(0).data() + sizeof(VnetHeader);
    CHECK_EQUAL(LoadBe32(icmp + 12), 0x0a050000);
    CHECK_EQUAL(icmp[20], kIcmpUnreachable);
    CHECK_EQUAL(icmp[21], kIcmpCodeNetwork);
  });

  test::Case("too big: with DF one answer for the whole superpacket, without DF sent alone", [] {
    OutboundBench bench;
    bench.AddSuperpacket(40);
    bench.Run(0, 900);
    CHECK_EQUAL(bench.kernel.udp_output.size(), 0);
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_too_big), 40);
    CHECK_EQUAL(bench.kernel.tun_output.size(), 1);
    CHECK_EQUAL(LoadBe16(bench.kernel.tun_output[0].data() + sizeof(VnetHeader) + 26), 900);
    bench.AddSuperpacket(40, 1000, 0);
    bench.Run(0, 900);
    CHECK_EQUAL(bench.kernel.udp_output.size(), 40);
    for (const test::Message& message : bench.kernel.udp_output) CHECK_EQUAL(message.segment, 0);
  });

  test::Case("our own datagrams are not encapsulated again", [] {
    OutboundBench bench;
    test::PacketSpec spec;
    spec.protocol = kProtocolUdp;
    spec.source = bench.engine->options().listen[0]->words[0];
    spec.source_port = bench.engine->options().port;
    bench.kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec)));
    // Queues send from ports of their own; the destination port gives those away.
    spec.source_port = 40000;
    spec.destination_port = bench.engine->options().port;
    bench.kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec)));
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_recursion), 2);
  });

  const std::vector<std::pair<const char*, VnetHeader>> lies = {
      {"checksum start before the header's end", {kVnetNeedsCsum, 0, 0, 0, 10, 16}},
      {"checksum field past the end", {kVnetNeedsCsum, 0, 0, 0, 20, 5000}},
      {"segments of no bytes", {kVnetNeedsCsum, kVnetGsoTcpV4, 40, 0, 20, 16}},
      {"UDP segments of a TCP packet", {kVnetNeedsCsum, kVnetGsoUdpL4, 28, 100, 20, 6}},
      {"IPv6 segments", {kVnetNeedsCsum, 4, 40, 100, 20, 16}},
      {"an unknown kind", {kVnetNeedsCsum, 77, 40, 100, 20, 16}},
  };
  for (const auto& [name, vnet] : lies) {
    const VnetHeader header = vnet;
    test::Case((std::string("virtio_net_hdr that lies: ") + name).c_str(), [header] {
      OutboundBench bench;
      test::PacketSpec spec;
      spec.payload.assign(500, 1);
      bench.kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec), header));
      bench.Run();
      CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_vnet_header), 1);
    });
  }

  struct PieceRow {
    const char* name;
    size_t payload;
    uint16_t gso_size;
    uint64_t sent;
  };
  const std::vector<PieceRow> pieces = {
      {"60,000 of one byte are dropped", 60000, 1, 0},
      {"1,025 are dropped", 1025, 1, 0},
      {"1,024 are sent", 1024, 1, 1024},
      {"1,024 with a shorter last one are sent", 1023 * 63 + 1, 63, 1024},
      {"730 of an MSS of 88 are sent", 64200, 88, 730},
  };
  for (const PieceRow& row : pieces) {
    test::Case((std::string("pieces of a superpacket: ") + row.name).c_str(), [&row] {
      for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
        OutboundBench bench;
        test::PacketSpec spec;
        spec.protocol = protocol;
        spec.payload.assign(row.payload, 5);
        const bool tcp = protocol == kProtocolTcp;
        const VnetHeader vnet{kVnetNeedsCsum, tcp ? kVnetGsoTcpV4 : kVnetGsoUdpL4, 0, row.gso_size, 20,
                              static_cast<uint16_t>(tcp ? kTcpCsumOffset : kUdpCsumOffset)};
        bench.kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec), vnet));
        bench.AddSingles(1);
        bench.Run();
        CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), row.sent + 1);
        CHECK_EQUAL(Count(bench.queue, Outbound::k_drop_too_many_pieces), row.sent == 0 ? 1 : 0);
        CHECK_EQUAL(bench.DatagramsSent(), row.sent + 1);
        for (const test::Message& m : bench.kernel.udp_output) {
          const size_t size = m.segment == 0 ? m.data.size() : static_cast<size_t>(m.segment);
          for (size_t at = 0; at < m.data.size(); at += size) {
            CHECK(test::ChecksumsRight(m.data.data() + at, std::min(size, m.data.size() - at)));
          }
        }
      }
    });
  }

  test::Case("a step is bounded in pieces, and the packets behind them follow", [] {
    OutboundBench bench;
    for (int i = 0; i < 150; i++) bench.AddSuperpacket(1000, 1);
    bench.AddSingles(1);
    for (int32_t count = bench.port.Step(); count > 0; count = bench.port.Step()) {
      int32_t pieces = 0;
      for (int32_t i = 0; i < count; i++) {
        pieces += bench.arena.At(outbound_field::kSegments, i);
        bench.arena.At(outbound_field::kVerdict, i) = 0;
        bench.arena.At(outbound_field::kPeerMtu, i) = 1472;
        bench.arena.At(outbound_field::kPeerId, i) = -1;
      }
      CHECK(pieces < 4096 + 1024);
    }
    CHECK_EQUAL(Count(bench.queue, Outbound::k_packets_out), 150001);
    CHECK(test::CountersAddUp(bench.queue));
  });

  test::Case("a deleted device ends the outbound port with EBADFD", [] {
    OutboundBench bench;
    bench.kernel.read_errors = {EBADFD};
    CHECK_EQUAL(bench.port.Step(), -EBADFD);
  });

  test::Case("a stopped engine ends both ports, after what they hold", [] {
    OutboundBench bench;
    bench.AddSingles(3);
    CHECK_EQUAL(bench.port.Step(), 3);
    for (int32_t i = 0; i < 3; i++) {
      bench.arena.At(outbound_field::kVerdict, i) = 0;
      bench.arena.At(outbound_field::kPeerMtu, i) = 1472;
      bench.arena.At(outbound_field::kPeerId, i) = -1;
    }
    bench.engine->Stop();
    CHECK_EQUAL(bench.port.Step(), -ECANCELED);
    CHECK_EQUAL(bench.kernel.udp_output.size(), 3);
  });

  test::Case("a train becomes one superpacket", [] {
    InboundBench bench;
    bench.AddTrain(40);
    bench.Run();
    CHECK_EQUAL(bench.kernel.tun_output.size(), 1);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_out), 40);
    CHECK_EQUAL(bench.kernel.tun_output[0].size(), sizeof(VnetHeader) + 40 + 40 * 1000);
  });

  for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
    for (const bool partial : {false, true}) {
      const std::string name = std::string(partial ? "half a" : "a whole") + " checksum of protocol ";
      test::Case((name + std::to_string(protocol)).c_str(), [protocol, partial] {
        InboundBench bench;
        test::PacketSpec spec;
        spec.protocol = protocol;
        spec.payload.assign(1000, 9);
        const size_t field = protocol == kProtocolTcp ? kTcpCsumOffset : kUdpCsumOffset;
        for (int i = 0; i < 2; i++) {
          Bytes packet = test::MakePacket(spec);
          const auto length = static_cast<uint32_t>(packet.size() - kMinIpHeader);
          const uint16_t half = Fold(PseudoSum(packet.data(), false, protocol) + Be16AsSum(length));
          if (partial) StoreWord(packet.data() + kMinIpHeader + field, half);
          bench.Add(packet);
          spec.sequence += 1000;
          spec.id++;
        }
        bench.Run();
        const bool merged = !partial;
        CHECK_EQUAL(bench.kernel.tun_output.size(), merged ? 1 : 2);
        CHECK_EQUAL(Count(bench.queue, Inbound::k_checksum_bad), 0);
        VnetHeader vnet;
        std::memcpy(&vnet, bench.kernel.tun_output.at(0).data(), sizeof vnet);
        CHECK_EQUAL(vnet.flags, kVnetNeedsCsum);
        CHECK_EQUAL(vnet.csum_start, kMinIpHeader);
        CHECK_EQUAL(vnet.csum_offset, field);
      });
    }
  }

  test::Case("a refused superpacket is written packet by packet; after eight in a row none is made", [] {
    InboundBench bench;
    bench.kernel.refuse_superpackets = EINVAL;
    for (int i = 0; i < 12; i++) {
      bench.AddTrain(10);
      bench.Run();
    }
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_out), 120);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_gso_refused), 8);
    CHECK(!bench.engine->tcp_merge());
    CHECK(bench.engine->udp_merge());
    for (const Bytes& frame : bench.kernel.tun_output) {
      CHECK(test::ChecksumsRight(frame.data() + sizeof(VnetHeader), frame.size() - sizeof(VnetHeader)));
    }
  });

  const std::vector<std::pair<int, Inbound>> write_errors = {{EIO, Inbound::k_drop_tun_down},
                                                            {EAGAIN, Inbound::k_drop_tun_blocked},
                                                            {ENOBUFS, Inbound::k_drop_tun_blocked},
                                                            {EPERM, Inbound::k_drop_tun_failed}};
  for (const auto& [error, reason] : write_errors) {
    const int e = error;
    const Inbound r = reason;
    test::Case((std::string("a write that fails is counted: ") + std::to_string(error)).c_str(), [e, r] {
      InboundBench bench;
      bench.AddTrain(10);
      bench.kernel.write_errors = {e};
      CHECK_EQUAL(bench.Run(), 0);
      CHECK_EQUAL(Count(bench.queue, r), 10);
    });
  }

  test::Case("packets of a protocol without ports leave in the order in which they came", [] {
    for (const uint8_t protocol : {1, 4, 41, 47, 50, 51, 112}) {
      OutboundBench bench;
      for (uint32_t i = 0; i < 60; i++) {
        test::PacketSpec spec;
        spec.protocol = protocol;
        // Two lengths in turn make two trains; the first bytes, which are no ports, differ from packet to packet.
        spec.payload.assign(i % 2 == 0 ? 100 : 200, static_cast<uint8_t>(i));
        bench.kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec)));
      }
      bench.Run();
      uint32_t next = 0;
      for (const test::Message& message : bench.kernel.udp_output) {
        const size_t step = message.segment == 0 ? message.data.size() : static_cast<size_t>(message.segment);
        for (size_t at = 0; at < message.data.size(); at += step) CHECK_EQUAL(message.data[at + 20], next++);
      }
      CHECK_EQUAL(next, 60);
    }
  });

  test::Case("a deleted device ends the inbound port with EBADFD, the packets counted", [] {
    InboundBench bench;
    bench.AddTrain(10);
    bench.kernel.write_errors = {EBADFD};
    CHECK_EQUAL(bench.Run(), -EBADFD);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_tun_gone), 10);
  });

  test::Case("odd receptions: empty, truncated, 65,507 bytes, odd GRO sizes", [] {
    InboundBench bench;
    bench.Add({});
    bench.Add(Bytes(100, 0x45), 0, true);
    test::PacketSpec spec;
    spec.payload.assign(65507 - 40, 1);
    bench.Add(test::MakePacket(spec));
    bench.Add(Bytes(1000, 0), 7);
    bench.Add(Bytes(1000, 0), 1);
    spec.payload.assign(10, 1);
    bench.Add(test::MakePacket(spec), 50000);
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_truncated), 1);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_out), 2);
    CHECK(Count(bench.queue, Inbound::k_drop_short) > 100);
  });

  test::Case("more trains than one batch holds are all delivered, in order", [] {
    InboundBench bench;
    for (int i = 0; i < 60; i++) bench.AddTrain(60, 100);
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_out), 3600);
  });

  test::Case("a burst of full trains after single datagrams is not copied whole before the first delivery", [] {
    InboundBench bench;
    test::PacketSpec spec;
    spec.payload.assign(1000, 1);
    for (int i = 0; i < 600; i++) bench.Add(test::MakePacket(spec));
    CHECK(bench.port.Step() > 0);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_in), 256);
    CHECK_EQUAL(bench.kernel.udp_input.size(), 600 - 256);
    bench.kernel.udp_input.clear();
    for (int i = 0; i < 256; i++) bench.AddTrain(44, 1400);
    CHECK(bench.port.Step() > 0);
    CHECK(bench.kernel.udp_input.size() >= 256 - 16);
    CHECK_EQUAL(bench.port.Step() > 0, true);
    // The next call expects trains again.
    const size_t left = bench.kernel.udp_input.size();
    CHECK(left >= 256 - 24);
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_out), 256 + 256 * 44);
  });

  test::Case("a new port receives few messages before it knows what they hold", [] {
    InboundBench bench;
    for (int i = 0; i < 256; i++) bench.AddTrain(44, 1400);
    CHECK(bench.port.Step() > 0);
    CHECK_EQUAL(bench.kernel.udp_input.size(), 256 - 8);
    bench.Run();
  });

  test::Case("a stopped inbound port delivers all it has received, and receives no more", [] {
    InboundBench bench;
    for (int i = 0; i < 20; i++) bench.AddTrain(120, 50);
    bench.Add(Bytes(10, 0));
    const int32_t first = bench.port.Step();
    CHECK(first > 0);
    const size_t unread = bench.kernel.udp_input.size();
    bench.engine->Stop();
    CHECK_EQUAL(bench.Run(), -ECANCELED);
    CHECK_EQUAL(bench.kernel.udp_input.size(), unread);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_stopped), 0);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_packets_in), Count(bench.queue, Inbound::k_packets_out) +
                                                               Count(bench.queue, Inbound::k_drop_short));
    CHECK_EQUAL(Count(bench.queue, Inbound::k_messages), 21 - unread);
  });

  test::Case("malformed datagrams alone raise the heartbeat, within one step", [] {
    InboundBench bench;
    for (int i = 0; i < 2000; i++) bench.Add(Bytes(10, 0));
    CHECK_EQUAL(bench.port.Step(), 0);
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_short), 2000);
    // A beat for each reception of 256 messages at most, and one for the last, which finds nothing.
    CHECK(bench.queue.inbound_beats.load() > 2000 / 256);
  });

  for (const bool gone : {false, true}) {
    test::Case(gone ? "a port whose device is gone counts what it has received"
                    : "a port that is closed before the verdicts counts what it has received", [gone] {
      test::FakeKernel kernel;
      const std::shared_ptr<Engine> engine = test::OpenFakeEngine();
      Queue& queue = engine->queue(0);
      std::vector<int32_t> words(kInboundArenaWords);
      size_t messages = 0;
      {
        InboundPort port(engine, 0, words.data());
        test::PacketSpec spec;
        spec.payload.assign(60, 1);
        const size_t length = test::MakePacket(spec).size();
        for (; messages < 40; messages++) {
          Bytes data;
          for (int i = 0; i < 127; i++) {
            const Bytes packet = test::MakePacket(spec);
            data.insert(data.end(), packet.begin(), packet.end());
          }
          data.resize(data.size() + 30);  // a shorter last one
          kernel.udp_input.push_back({kPeer, 8285, std::move(data), static_cast<int>(length)});
        }
        CHECK(port.Step() > 0);
        if (gone) {
          kernel.write_errors.assign(20000, EBADFD);
          CHECK_EQUAL(port.Step(), -EBADFD);
        }
        messages -= kernel.udp_input.size();
      }
      CHECK(messages > 16);
      CHECK_EQUAL(Count(queue, Inbound::k_messages), messages);
      CHECK_EQUAL(Count(queue, Inbound::k_packets_in), messages * 128);
      CHECK(Count(queue, Inbound::k_drop_stopped) > 0);
      CHECK(test::CountersAddUp(queue));
      CloseEngine(engine->id());
    });
  }

  test::Case("an outbound port that is closed before the verdicts counts what it has read", [] {
    test::FakeKernel kernel;
    const std::shared_ptr<Engine> engine = test::OpenFakeEngine();
    Queue& queue = engine->queue(0);
    std::vector<int32_t> words(kOutboundArenaWords);
    {
      OutboundPort port(engine, 0, words.data());
      test::PacketSpec spec;
      spec.payload.assign(40 * 1000, 5);
      const VnetHeader vnet{kVnetNeedsCsum, kVnetGsoTcpV4, 40, 1000, 20, 16};
      kernel.tun_input.push_back(test::TunFrame(test::MakePacket(spec), vnet));
      kernel.tun_input.push_back(test::TunFrame(test::MakePacket({})));
      CHECK_EQUAL(port.Step(), 2);
    }
    CHECK_EQUAL(Count(queue, Outbound::k_drop_stopped), 41);
    CHECK(test::CountersAddUp(queue));
    CloseEngine(engine->id());
  });

  for (const int error : {EIO, ENOBUFS, EAGAIN}) {
    test::Case(("a probe of merging that fails for a moment is made again: " + std::to_string(error)).c_str(), [error] {
      test::FakeKernel kernel;
      const std::shared_ptr<Engine> engine = test::OpenFakeEngine(true, false);
      kernel.write_errors = {error, error, 0, error, 0};
      CHECK_EQUAL(engine->ProbeMerging(), -error);
      CHECK(!engine->tcp_merge() && !engine->udp_merge());
      CHECK_EQUAL(engine->ProbeMerging(), -error);
      CHECK(engine->tcp_merge() && !engine->udp_merge());
      CHECK_EQUAL(engine->ProbeMerging(), 0);
      CHECK(engine->tcp_merge() && engine->udp_merge());
      CHECK_EQUAL(engine->ProbeMerging(), 0);
      CHECK_EQUAL(kernel.tun_output.size(), 2);
      CloseEngine(engine->id());
    });
  }

  test::Case("each offload is off alone when it is switched off", [] {
    bool OffloadSwitches::* const switches[] = {&OffloadSwitches::udp_segment, &OffloadSwitches::udp_gro,
                                                &OffloadSwitches::tun_tso,     &OffloadSwitches::tun_uso,
                                                &OffloadSwitches::merge_tcp,   &OffloadSwitches::merge_udp,
                                                &OffloadSwitches::tun_queue_bound};
    constexpr unsigned kTso = kTunTso4 | kTunTso6 | kTunTsoEcn, kUso = kTunUso4 | kTunUso6;
    for (bool OffloadSwitches::* const off : switches) {
      test::FakeKernel kernel;
      OffloadSwitches wanted = {true, true, true, true, true, true, true};
      wanted.*off = false;
      const std::shared_ptr<Engine> engine = test::OpenFakeEngine(wanted);
      const Granted& granted = engine->granted();
      CHECK_EQUAL(granted.udp_segments > 1, wanted.udp_segment);
      CHECK_EQUAL(granted.udp_gro, wanted.udp_gro);
      CHECK_EQUAL(granted.tun, kTunCsum | (wanted.tun_tso ? kTso : 0) | (wanted.tun_uso ? kUso : 0));
      if (!wanted.tun_queue_bound) CHECK_EQUAL(granted.queue_bytes, 0);  // else it needs privileges
      CHECK_EQUAL(engine->tcp_merge(), wanted.merge_tcp);
      CHECK_EQUAL(engine->udp_merge(), wanted.merge_udp);
      CloseEngine(engine->id());
    }
    const std::shared_ptr<Engine> engine = test::OpenFakeEngine(false);
    CHECK_EQUAL(engine->granted().tun, 0);
    CloseEngine(engine->id());
  });

  test::Case("a probe of merging that is refused is not made again, nor is a kind that was given up", [] {
    test::FakeKernel kernel;
    const std::shared_ptr<Engine> engine = test::OpenFakeEngine(true, false);
    kernel.write_errors = {EINVAL};
    CHECK_EQUAL(engine->ProbeMerging(), 0);
    CHECK(!engine->tcp_merge() && engine->udp_merge());
    engine->RefuseUdpMerge();
    CHECK_EQUAL(engine->ProbeMerging(), 0);
    CHECK(!engine->tcp_merge() && !engine->udp_merge());
    CHECK_EQUAL(kernel.tun_output.size(), 1);
    CloseEngine(engine->id());
  });

  test::Case("an inbound TTL of 1 is answered to the peer, at its port, from our address", [] {
    InboundBench bench;
    test::PacketSpec spec;
    spec.ttl = 1;
    bench.Add(test::MakePacket(spec));
    bench.Run();
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_ttl_expired), 1);
    CHECK_EQUAL(bench.kernel.udp_output.size(), 1);
    CHECK_EQUAL(bench.kernel.udp_output[0].address, kPeer);
    CHECK_EQUAL(LoadBe32(bench.kernel.udp_output[0].data.data() + 12), 0x0a050100);
  });

  test::Case("a refused run is counted whole, under its reason", [] {
    InboundBench bench;
    bench.AddTrain(33);
    bench.Run(static_cast<int32_t>(Inbound::k_drop_spoofed_source));
    CHECK_EQUAL(Count(bench.queue, Inbound::k_drop_spoofed_source), 33);
    CHECK_EQUAL(bench.kernel.tun_output.size(), 0);
  });
  return test::Finish();
}
