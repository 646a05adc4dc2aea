// Trains: one length each, within the limits, and never a packet past another of its flow. The keys are those of real
// packets of every protocol; what a flow is, the test says by itself.

#include "../../addon/packet/trains.h"

#include <cstring>
#include <map>

#include "../support/check.h"
#include "../support/make_packet.h"

using namespace twill;

namespace {

struct Sent {
  uint32_t flow;
  uint32_t pair;
  uint32_t number;
  bool fragment;
};

constexpr uint8_t kIpip = 4, kIpv6 = 41, kGre = 47, kEsp = 50;
constexpr uint8_t kProtocols[] = {kProtocolTcp,  kProtocolUdp,  kProtocolUdpLite, kProtocolSctp, kProtocolDccp,
                                  kProtocolIcmp, kIpip,         kIpv6,            kGre,          kEsp};

// Flow `flow`, three to an address pair and each of its own ports or, without ports, of its own protocol. The payload
// is never the same twice.
FlowKey KeyOf(test::Random& random, uint32_t flow, bool fragment) {
  test::PacketSpec spec;
  spec.protocol = kProtocols[flow % std::size(kProtocols)];
  spec.source = 0x0a050100 + flow / 3;
  spec.source_port = static_cast<uint16_t>(flow);
  spec.fragment = fragment ? static_cast<uint16_t>(random.OneIn(2) ? kMoreFragments : random.Between(1, 100)) : 0;
  spec.payload = test::RandomBytes(random, random.Below(64));
  const auto packet = test::MakePacket(spec);
  return FlowKeyOf(packet.data(), test::Parsed(packet));
}

}  // namespace

int main() {
  test::Case("300 random batches: lengths, limits and order", [] {
    test::Random random(11);
    TrainSet trains;
    FlowOrder order;
    for (int round = 0; round < 300; round++) {
      trains.Clear();
      order.Clear();
      const uint32_t flows = random.Between(1, 40);
      const uint32_t peers = random.Between(1, 6);
      uint32_t number = 0;
      std::vector<uint8_t> payload;
      for (int i = 0; i < 400; i++) {
        const uint32_t flow = random.Below(flows);
        const uint32_t pair = flow / 3;
        const bool fragment = random.OneIn(10);
        const FlowKey key = KeyOf(random, flow, fragment);
        const auto limit = static_cast<uint16_t>(pair % 4 == 3 ? 1 : 64);
        const Destination to = {HostAddress::V4(0x0a000001 + pair % peers), 8285, limit, -1};
        const uint32_t pieces = random.OneIn(4) ? random.Between(2, 50) : 1;
        const auto length = static_cast<uint16_t>(sizeof(Sent) + (pieces > 1 ? 1400 : 16 * random.Below(8)));
        uint32_t at = order.Earliest(key);
        bool full = false;
        for (uint32_t piece = 0; piece < pieces && !full; piece++) {
          const bool tail = pieces > 1 && piece + 1 == pieces;
          const auto this_length = static_cast<uint16_t>(tail ? random.Between(sizeof(Sent), length) : length);
          uint8_t* room = trains.Reserve(to, this_length, piece > 0, &at);
          if (room == nullptr) {
            full = true;
            break;
          }
          const Sent sent = {flow, pair, number++, fragment};
          std::memset(room, 0, this_length);
          std::memcpy(room, &sent, sizeof sent);
        }
        if (full) break;
        order.Note(key, at);
      }
      std::map<uint32_t, uint32_t> last_of_flow, last_of_pair, last_fragment_of_pair;
      uint32_t seen = 0;
      for (uint32_t t = 0; t < trains.size(); t++) {
        const Train& train = trains[t];
        CHECK(train.count <= train.to.limit);
        CHECK(train.bytes <= kMaxTrainBytes);
        CHECK(train.count >= 1);
        uint32_t offset = 0;
        for (uint32_t d = 0; d < train.count; d++) {
          const uint32_t length = std::min<uint32_t>(train.size, train.bytes - offset);
          CHECK(length == train.size || d + 1u == train.count);
          Sent sent;
          std::memcpy(&sent, train.data + offset, sizeof sent);
          CHECK_EQUAL(train.to.host.address.words[0], 0x0a000001 + sent.pair % peers);
          const auto newer = [&](const std::map<uint32_t, uint32_t>& last, uint32_t key) {
            const auto found = last.find(key);
            return found == last.end() || found->second < sent.number;
          };
          CHECK(newer(last_fragment_of_pair, sent.pair));
          CHECK(newer(last_of_flow, sent.flow));
          if (sent.fragment) CHECK(newer(last_of_pair, sent.pair));
          last_of_flow[sent.flow] = sent.number;
          uint32_t& of_pair = last_of_pair[sent.pair];
          of_pair = std::max(of_pair, sent.number);
          if (sent.fragment) last_fragment_of_pair[sent.pair] = sent.number;
          offset += length;
          seen++;
        }
        CHECK_EQUAL(offset, train.bytes);
      }
      CHECK_EQUAL(seen, number);
    }
  });

  test::Case("acknowledgements of many flows to one peer share a train", [] {
    test::Random random(12);
    TrainSet trains;
    FlowOrder order;
    for (uint32_t flow = 0; flow < 60; flow++) {
      const FlowKey key = KeyOf(random, flow, false);
      uint32_t at = order.Earliest(key);
      CHECK(trains.Reserve({HostAddress::V4(1), 8285, 64, 0}, 52, false, &at) != nullptr);
      order.Note(key, at);
    }
    CHECK_EQUAL(trains.size(), 1);
    CHECK_EQUAL(trains[0].count, 60);
  });

  test::Case("full pieces go on in the train of the superpacket before", [] {
    test::Random random(13);
    TrainSet trains;
    FlowOrder order;
    for (int superpacket = 0; superpacket < 4; superpacket++) {
      const FlowKey key = KeyOf(random, 0, false);
      uint32_t at = order.Earliest(key);
      for (int piece = 0; piece < 46; piece++) {
        CHECK(trains.Reserve({HostAddress::V4(1), 8285, 128, 0}, 1472, piece > 0, &at) != nullptr);
      }
      order.Note(key, at);
    }
    // 4 × 46 = 184 datagrams, 44 to a message: five messages, not eight.
    CHECK_EQUAL(trains.size(), 5);
  });
  return test::Finish();
}
