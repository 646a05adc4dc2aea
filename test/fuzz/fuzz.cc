// Mutated packets through both ports, on a fake kernel, under sanitizers: `fuzz [inputs] [seed]`.
//
// Inputs are structure-aware: right packets, superpackets and trains of every kind the parsers know, which are then
// spoiled (or not): flipped bits, lengths that lie, truncation, splices of two packets, virtio_net_hdr of pure chance,
// GRO sizes that do not fit, of both families inside and outside. After every batch, what came out is checked: a
// datagram is one packet, each TUN write is one well-formed packet or superpacket, every packet is in one counter, and
// what a superpacket holds came in with right checksums; where nothing was spoiled, every checksum is right and every
// flow, of every protocol, has kept its order. The same count and seed always give the same inputs.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "../../addon/engine/inbound.h"
#include "../../addon/engine/outbound.h"
#include "../support/check.h"
#include "../native/fake_kernel.h"
#include "../support/make_packet.h"

using namespace twill;
using test::Bytes;
using test::Random;

namespace {

constexpr uint32_t kBatch = 64;

// A host of either family; those of one number are alike in the word that IPv4 has.
HostAddress RandomHost(Random& random, bool is_v6) {
  const uint32_t number = 0xac140000 + random.Below(3);
  return is_v6 ? HostAddress{{{number, 0, random.Below(2), 2}}, true} : HostAddress::V4(number);
}

bool IsExtension(uint8_t type) { return type == 0 || type == 43 || type == 44 || type == 51 || type == 60; }

test::PacketSpec RandomSpec(Random& random) {
  test::PacketSpec spec;
  static constexpr uint8_t kOthers[] = {
      kProtocolUdpLite, kProtocolSctp, kProtocolDccp, kProtocolIcmp, 4, 41, 47, 50, 51};
  spec.protocol = random.OneIn(2)   ? kProtocolTcp
                  : random.OneIn(2) ? kProtocolUdp
                  : random.OneIn(8) ? static_cast<uint8_t>(random.Word())
                                    : kOthers[random.Below(std::size(kOthers))];
  spec.is_v6 = random.OneIn(2);
  if (spec.is_v6 && IsExtension(spec.protocol)) spec.protocol = kProtocolIcmpV6;  // its payload is none
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
    const size_t end = random.OneIn(3) ? packet->size() : 60;
    const size_t at = random.Below(static_cast<uint32_t>(std::min(packet->size(), end)));
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
        if (packet->size() >= 4) {
          const auto length = static_cast<uint32_t>(packet->size());
          const size_t field = random.OneIn(2) || packet->size() < 6 ? 2 : 4;  // IPv4, IPv6
          StoreBe16(packet->data() + field, random.OneIn(2) ? random.Word() & 0xffff : length);
        }
        break;
      default:
        (*packet)[0] = static_cast<uint8_t>((random.OneIn(2) ? 0x40 : 0x60) | random.Below(16));
    }
  }
}

VnetHeader RandomVnet(Random& random, const test::PacketSpec& spec, bool spoil) {
  VnetHeader vnet{};
  const auto ip = static_cast<uint16_t>(test::TransportOf(test::MakePacket(spec).data()).at);
  const bool tcp = spec.protocol == kProtocolTcp;
  if ((tcp || spec.protocol == kProtocolUdp) && (spec.fragment & 0x3fff) == 0 && random.OneIn(2)) {
    const uint8_t tcp_type = spec.is_v6 ? kVnetGsoTcpV6 : kVnetGsoTcpV4;
    vnet = {kVnetNeedsCsum, tcp ? tcp_type : kVnetGsoUdpL4, 0, static_cast<uint16_t>(random.Between(1, 1460)), ip,
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

// Where the payload of a packet of MakePacket begins.
size_t PayloadAt(const uint8_t* packet, const InnerHeader& header) {
  const size_t at = header.header_length;
  switch (header.protocol) {
    case kProtocolTcp:
      return at + (packet[at + 12] >> 4) * 4u;
    case kProtocolUdp:
      return at + kUdpHeader;
    case kProtocolUdpLite:
    case kProtocolSctp:
    case kProtocolDccp:
      return at + 12;
    default:
      return at;
  }
}

// What a flow is, told without the code under test; `number` rises with every packet that comes in.
class OrderCheck {
 public:
  // `are_pieces`: those of one superpacket have one number.
  void See(const uint8_t* packet, const InnerHeader& header, uint32_t number, bool are_pieces = false) {
    const bool is_v6 = test::IsV6(packet);
    const Pair pair = is_v6 ? Pair{0x60000000 | LoadBe32(packet + 20), LoadBe32(packet + 36)}
                            : Pair{LoadBe32(packet + 12), LoadBe32(packet + 16)};
    const bool fragment = (header.fragment & 0x3fff) != 0;
    const bool ports = header.protocol == 6 || header.protocol == 17 || header.protocol == 33 ||
                       header.protocol == 132 || header.protocol == 136;
    const uint32_t port_word = ports && !fragment ? LoadBe32(packet + header.header_length) : 0;
    if (fragment) {
      CHECK(IsNext(&pairs_, pair, number));
    } else {
      CHECK(IsNext(&flows_, Flow{pair, header.protocol, port_word}, number, are_pieces));
      const auto found = fragments_.find(pair);
      CHECK(found == fragments_.end() || found->second < number);
    }
    uint32_t& of_pair = pairs_[pair];
    of_pair = std::max(of_pair, number);
    if (fragment) fragments_[pair] = number;
  }

 private:
  using Pair = std::tuple<uint32_t, uint32_t>;
  using Flow = std::tuple<Pair, uint8_t, uint32_t>;

  template <typename Key>
  static bool IsNext(std::map<Key, uint32_t>* last, const Key& key, uint32_t number, bool or_same = false) {
    const auto [found, is_new] = last->try_emplace(key, number);
    if (!is_new && (or_same ? found->second > number : found->second >= number)) return false;
    found->second = number;
    return true;
  }

  std::map<Pair, uint32_t> pairs_, fragments_;
  std::map<Flow, uint32_t> flows_;
};

struct Ports {
  std::shared_ptr<Engine> engine = test::OpenFakeEngine(true, true, {true, true}, true);
  std::vector<int32_t> out_words = std::vector<int32_t>(kOutboundArenaWords);
  std::vector<int32_t> in_words = std::vector<int32_t>(kInboundArenaWords);
  ArenaView out{out_words.data(), kOutboundCapacity, outbound_field::kCount};
  ArenaView in{in_words.data(), kInboundCapacity, inbound_field::kCount};
  OutboundPort outbound{engine, 0, out_words.data()};
  InboundPort inbound{engine, 0, in_words.data()};
  ~Ports() { CloseEngine(engine->id()); }
};

void CheckSent(const test::Message& message, OrderCheck* clean) {
  CHECK(message.v6 || message.flow_label == 0);
  CHECK(message.flow_label <= 0xfffff);
  const size_t step = message.segment == 0 ? message.data.size() : static_cast<size_t>(message.segment);
  CHECK(step > 0);
  for (size_t at = 0; at < message.data.size(); at += step) {
    const size_t length = std::min(step, message.data.size() - at);
    const auto begin = message.data.begin() + static_cast<long>(at);
    const Bytes datagram(begin, begin + static_cast<long>(length));
    InnerHeader header{};
    CHECK(ParseInner(datagram.data(), datagram.size(), {true, true}, &header) == HeaderFault::kNone);
    CHECK_EQUAL(header.total_length, datagram.size());
    if (clean == nullptr) continue;
    CHECK(test::ChecksumsRight(datagram.data(), datagram.size()));
    const bool is_v6 = header.IsV6();  // it has no ID; the flow label is one number for all pieces
    clean->See(datagram.data(), header, is_v6 ? LoadBe32(datagram.data()) & 0xfffff : header.id, is_v6);
  }
}

// What must be the same in a packet that came in and in the piece of a superpacket that it has become.
std::string Essence(const uint8_t* packet, const uint8_t* payload, size_t length) {
  const bool is_v6 = test::IsV6(packet);
  std::string essence(reinterpret_cast<const char*>(packet) + (is_v6 ? 6 : 9), 1);
  essence.append(reinterpret_cast<const char*>(packet) + (is_v6 ? 8 : 12), is_v6 ? 36 : 12);
  return essence.append(reinterpret_cast<const char*>(payload), length);
}

// The packets of a received message that could be merged: TCP and UDP with right checksums.
void NoteRight(const test::Message& message, std::set<std::string>* right) {
  const size_t step = message.segment > 0 ? static_cast<size_t>(message.segment) : message.data.size();
  for (size_t at = 0; at < message.data.size(); at += step) {
    const uint8_t* packet = message.data.data() + at;
    InnerHeader header{};
    const size_t length = std::min(step, message.data.size() - at);
    if (ParseInner(packet, length, {true, true}, &header) != HeaderFault::kNone) continue;
    if ((header.protocol != kProtocolTcp && header.protocol != kProtocolUdp) || !header.IsPlain() ||
        header.total_length < header.header_length + (header.protocol == kProtocolTcp ? 20 : kUdpHeader) ||
        !test::ChecksumsRight(packet, header.total_length)) {
      continue;
    }
    const size_t payload = PayloadAt(packet, header);
    if (payload >= header.total_length) continue;
    right->insert(Essence(packet, packet + payload, header.total_length - payload));
  }
}

void CheckWritten(const Bytes& frame, const std::set<std::string>* right = nullptr, OrderCheck* clean = nullptr) {
  CHECK(frame.size() > sizeof(VnetHeader) + kMinIpHeader - 1);
  VnetHeader vnet;
  std::memcpy(&vnet, frame.data(), sizeof vnet);
  const uint8_t* packet = frame.data() + sizeof vnet;
  const size_t length = frame.size() - sizeof vnet;
  InnerHeader header{};
  CHECK(ParseInner(packet, length, {true, true}, &header) == HeaderFault::kNone);
  CHECK_EQUAL(header.total_length, length);
  CHECK(header.ttl >= 1);
  if (vnet.gso_type == 0) {
    // By chance a checksum looks like one that a lane left to be finished, and is finished then.
    if (vnet.flags != 0) {
      CHECK_EQUAL(vnet.flags, kVnetNeedsCsum);
      CHECK_EQUAL(vnet.csum_start, header.header_length);
      CHECK(IsChecksumPartial(packet, header));
    }
    if (clean == nullptr) return;
    CHECK(test::ChecksumsRight(packet, length));
    clean->See(packet, header, LoadBe32(packet + PayloadAt(packet, header)));
    return;
  }
  // What the kernel demands (include/linux/virtio_net.h).
  const bool tcp = vnet.gso_type == (header.IsV6() ? kVnetGsoTcpV6 : kVnetGsoTcpV4);
  CHECK(tcp || vnet.gso_type == kVnetGsoUdpL4);
  CHECK_EQUAL(header.protocol, tcp ? kProtocolTcp : kProtocolUdp);
  CHECK_EQUAL(vnet.csum_offset, tcp ? kTcpCsumOffset : kUdpCsumOffset);
  CHECK_EQUAL(vnet.csum_start, header.header_length);
  CHECK(vnet.gso_size > 0 && vnet.hdr_len < length);
  const size_t payload = length - vnet.hdr_len;
  CHECK(payload > vnet.gso_size && payload <= size_t{vnet.gso_size} * kMaxChainPackets);
  if (!header.IsV6()) CHECK_EQUAL(test::SlowChecksum(packet, 20), 0);
  for (size_t at = vnet.hdr_len; at < length; at += vnet.gso_size) {
    const size_t piece = std::min<size_t>(vnet.gso_size, length - at);
    CHECK(right != nullptr && right->count(Essence(packet, packet + at, piece)) == 1);
    if (clean != nullptr) clean->See(packet, header, LoadBe32(packet + at));
  }
}

void FuzzOutbound(Random& random, Ports& ports, test::FakeKernel& kernel) {
  const bool clean = random.OneIn(2);
  uint16_t id = 0;  // of a piece: counts up through all that is sent, for no packet has more than kMaxPieces
  for (uint32_t i = 0; i < kBatch; i++) {
    test::PacketSpec spec = RandomSpec(random);
    VnetHeader vnet = RandomVnet(random, spec, !clean);
    if (clean) {
      const size_t payload = spec.payload.size();
      if (vnet.gso_size != 0) vnet.gso_size = static_cast<uint16_t>(std::max<size_t>(vnet.gso_size, payload / 900));
      spec.id = id;
      spec.flow_label = id;
      id = static_cast<uint16_t>(id + 1 + (vnet.gso_size == 0 ? 0 : payload / vnet.gso_size));
    }
    Bytes packet = test::MakePacket(spec);
    if (clean) packet = Unfinished(std::move(packet), vnet);
    else Spoil(random, &packet);
    Bytes frame = test::TunFrame(packet, vnet);
    if (!clean && random.OneIn(50)) frame.resize(random.Below(static_cast<uint32_t>(frame.size())));
    kernel.tun_input.push_back(std::move(frame));
  }
  if (random.OneIn(16)) kernel.refuse_labels = EINVAL;
  if (random.OneIn(8)) kernel.path_mtu[2] = static_cast<int>(random.Between(1280, 1500));
  if (random.OneIn(8)) kernel.send_at_most = static_cast<int>(random.Between(1, 3));
  if (random.OneIn(16)) kernel.refuse_trains = random.OneIn(2) ? EINVAL : EMSGSIZE;
  for (int32_t count; (count = ports.outbound.Step()) > 0;) {
    for (int32_t i = 0; i < count; i++) {
      ports.out.At(outbound_field::kVerdict, i) =
          random.OneIn(20) ? static_cast<int32_t>(Outbound::k_drop_no_route) : 0;
      // The words behind the first are left as they were where IPv4 does not read them.
      const HostAddress peer = RandomHost(random, random.OneIn(2));
      ports.out.At(outbound_field::kOuterWide, i) = peer.is_v6;
      if (peer.is_v6) {
        ports.out.SetAddress(outbound_field::kPeerAddress, outbound_field::kPeerAddressRest, i, peer.address);
      } else {
        ports.out.At(outbound_field::kPeerAddress, i) = static_cast<int32_t>(peer.address.words[0]);
      }
      ports.out.At(outbound_field::kPeerPort, i) = 8285;
      ports.out.At(outbound_field::kPeerMtu, i) =
          random.OneIn(20) ? static_cast<int32_t>(random.Between(68, 1500)) : 9200;
      ports.out.At(outbound_field::kPeerId, i) = static_cast<int32_t>(random.Below(10));
    }
  }
  OrderCheck order;
  for (const test::Message& message : kernel.udp_output) CheckSent(message, clean ? &order : nullptr);
  for (const Bytes& frame : kernel.tun_output) CheckWritten(frame);  // ICMP errors
}

void FuzzInbound(Random& random, Ports& ports, test::FakeKernel& kernel) {
  const bool clean = random.OneIn(2);
  std::set<std::string> right;
  uint32_t number = 0;  // the first word of each payload
  const auto next = [&random, &number](test::PacketSpec* spec) {
    if (spec->payload.size() < 4) spec->payload.resize(4 + random.Below(4));
    StoreBe32(spec->payload.data(), ++number);
  };
  // A host has one address, of one family, and only what comes to one socket has an order.
  const bool all_v6 = random.OneIn(2);
  uint32_t left = kBatch;
  while (left > 0) {
    test::Message message;
    const HostAddress sender = RandomHost(random, clean ? all_v6 : random.OneIn(2));
    if (sender.is_v6) message.v6 = sender.address;
    else message.address = sender.address.words[0];
    test::PacketSpec spec = RandomSpec(random);
    uint32_t pieces = std::min(left, random.OneIn(2) ? 1 : random.Between(2, 30));
    left -= pieces;
    for (bool first = true; pieces > 0; pieces--, first = false) {
      // Now and then a stranger between two neighbours: of another flow, a fragment, or of this flow and not to merge.
      const bool stranger = !first && random.OneIn(6);
      test::PacketSpec one = stranger ? RandomSpec(random) : spec;
      if (stranger && random.OneIn(2)) {
        one.protocol = spec.protocol;
        one.is_v6 = spec.is_v6;
        one.source = spec.source;
        one.destination = spec.destination;
        one.source_port = spec.source_port;
        one.destination_port = spec.destination_port;
      }
      next(&one);
      Bytes packet = test::MakePacket(one);
      if (first) message.segment = pieces > 1 ? static_cast<int>(packet.size()) : 0;
      const auto segment = static_cast<size_t>(message.segment);
      if (clean) {
        // Padded to the length of its train, or the first packet of another.
        if (!first && packet.size() > segment) break;
        if (!first) packet.resize(segment);
      } else {
        if (random.OneIn(3)) Spoil(random, &packet);
        if (random.OneIn(4) && !first) packet.resize(segment);
      }
      if (message.data.size() + packet.size() > 65000) break;
      message.data.insert(message.data.end(), packet.begin(), packet.end());
      if (stranger) continue;
      spec.payload = one.payload;
      spec.sequence += static_cast<uint32_t>(spec.payload.size());
      spec.id++;
      if (random.OneIn(10)) spec = RandomSpec(random);
    }
    if (!clean && random.OneIn(20)) message.segment = static_cast<int>(random.Below(2000));
    message.truncated = random.OneIn(200);
    NoteRight(message, &right);
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
  OrderCheck order;
  for (const Bytes& frame : kernel.tun_output) CheckWritten(frame, &right, clean ? &order : nullptr);
  for (const test::Message& message : kernel.udp_output) CheckSent(message, nullptr);  // ICMP errors
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
        std::printf("# %llu inputs, %.0f a second\n", static_cast<unsigned long long>(done),
                    static_cast<double>(done) / seconds);
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
