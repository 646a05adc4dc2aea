// Which packets are one flow, and what a table by epoch remembers.

#include "../../addon/packet/flow.h"

#include <algorithm>

#include "../../addon/packet/epoch_table.h"
#include "../support/check.h"
#include "../support/make_packet.h"

using namespace twill;

namespace {

FlowKey KeyOf(const test::PacketSpec& spec) {
  const auto packet = test::MakePacket(spec);
  return FlowKeyOf(packet.data(), test::Parsed(packet));
}

constexpr uint8_t kWithPorts[] = {kProtocolTcp, kProtocolUdp, kProtocolUdpLite, kProtocolSctp, kProtocolDccp};

bool IsWithPorts(uint32_t protocol) {
  return std::find(std::begin(kWithPorts), std::end(kWithPorts), protocol) != std::end(kWithPorts);
}

// Behind the number of an extension header comes one, not payload.
bool IsExtension(uint32_t protocol) {
  return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60;
}

void TestFamily(bool is_v6) {
  const auto Case = [is_v6](const std::string& name, const std::function<void()>& body) {
    test::Case(((is_v6 ? "IPv6: " : "") + name).c_str(), body);
  };
  Case("packets of one pair and protocol are one flow whatever they carry, in every protocol without ports", [&] {
    test::Random random(21);
    for (uint32_t protocol = 0; protocol < 256; protocol++) {
      if (IsWithPorts(protocol) || (is_v6 && IsExtension(protocol))) continue;
      test::PacketSpec spec;
      spec.is_v6 = is_v6;
      spec.protocol = static_cast<uint8_t>(protocol);
      const FlowKey empty = KeyOf(spec);
      for (int i = 0; i < 20; i++) {
        spec.payload = test::RandomBytes(random, random.Below(50));
        CHECK_EQUAL(KeyOf(spec).flow, empty.flow);
      }
      spec.source++;
      CHECK(KeyOf(spec).flow != empty.flow);
    }
  });

  Case("ports tell the flows of TCP, UDP, UDP-Lite, SCTP and DCCP apart", [&] {
    for (const uint8_t protocol : kWithPorts) {
      test::PacketSpec spec;
      spec.is_v6 = is_v6;
      spec.protocol = protocol;
      spec.payload.assign(30, 1);
      const FlowKey key = KeyOf(spec);
      spec.payload.assign(31, 2);
      spec.sequence++;
      spec.ip_options = {1, 1, 1, 0};
      CHECK_EQUAL(KeyOf(spec).flow, key.flow);
      test::PacketSpec other = spec;
      other.source_port++;
      CHECK(KeyOf(other).flow != key.flow);
      CHECK_EQUAL(KeyOf(other).pair, key.pair);
      other = spec;
      other.destination_port++;
      CHECK(KeyOf(other).flow != key.flow);
    }
  });

  Case("no port is read from a fragment, nor from a packet too short for ports", [&] {
    for (const uint8_t protocol : kWithPorts) {
      for (const uint16_t fragment : {kMoreFragments, uint16_t{1}, uint16_t{kMoreFragments | 100}}) {
        test::PacketSpec spec;
        spec.is_v6 = is_v6;
        spec.protocol = protocol;
        spec.fragment = fragment;
        spec.payload.assign(30, 1);
        const FlowKey key = KeyOf(spec);
        CHECK(key.is_fragment);
        spec.source_port++;
        CHECK_EQUAL(KeyOf(spec).flow, key.flow);
      }
      const size_t ip = is_v6 ? kIpv6Header : kMinIpHeader;
      for (size_t length = ip; length < ip + 4; length++) {
        test::PacketSpec spec;
        spec.is_v6 = is_v6;
        spec.protocol = protocol;
        auto whole = test::MakePacket(spec);
        WriteTotalLength(whole.data(), is_v6, static_cast<uint32_t>(length));
        // Exactly as long as the packet, so that reading on is found.
        const std::vector<uint8_t> packet(whole.begin(), whole.begin() + static_cast<long>(length));
        FlowKeyOf(packet.data(), test::Parsed(packet));
      }
    }
  });
}

}  // namespace

int main() {
  for (const bool is_v6 : {false, true}) TestFamily(is_v6);

  test::Case("an entry is found until the table is cleared, and never again, however often that is", [] {
    EpochTable<uint32_t, 4, uint8_t> table;
    CHECK(table.Find(1) == nullptr);
    table.Put(1, 42);
    CHECK(table.Find(1) != nullptr);
    CHECK_EQUAL(*table.Find(1), 42);
    CHECK(table.Find(2) == nullptr);
    table.Erase(1);
    CHECK(table.Find(1) == nullptr);
    for (int start = 0; start < 300; start++) {
      table.Put(3, 7);
      CHECK(table.Find(3) != nullptr);
      for (int turn = 0; turn < 600; turn++) {
        table.Clear();
        for (uint32_t hash = 0; hash < 4; hash++) CHECK(table.Find(hash) == nullptr);
      }
      table.Clear();
    }
  });
  return test::Finish();
}
