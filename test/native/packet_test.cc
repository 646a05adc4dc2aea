// Header acceptance and the TTL step.

#include "../../addon/packet/inner.h"

#include "../support/check.h"
#include "../support/make_packet.h"

using namespace twill;

namespace {

HeaderFault Judge(const std::vector<uint8_t>& packet) {
  // A heap copy of the exact size, so that a read past the end is found.
  const std::vector<uint8_t> exact(packet);
  InnerHeader header{};
  const HeaderFault fault = ParseIpv4(exact.data(), exact.size(), &header);
  return fault != HeaderFault::kNone ? fault : CheckReceived(exact.data(), header);
}

std::vector<uint8_t> Edited(const std::function<void(std::vector<uint8_t>&)>& edit) {
  test::PacketSpec spec;
  spec.payload.resize(100);
  auto packet = test::MakePacket(spec);
  edit(packet);
  return packet;
}

std::vector<uint8_t> WithOptions(std::vector<uint8_t> options) {
  test::PacketSpec spec;
  spec.ip_options = std::move(options);
  return test::MakePacket(spec);
}

}  // namespace

int main() {
  struct Row {
    const char* name;
    std::vector<uint8_t> packet;
    HeaderFault expected;
  };
  const std::vector<Row> rows = {
      {"a right packet", Edited([](auto&) {}), HeaderFault::kNone},
      {"empty", {}, HeaderFault::kShort},
      {"one byte", {0x45}, HeaderFault::kShort},
      {"19 bytes", Edited([](auto& p) { p.resize(19); }), HeaderFault::kShort},
      {"version 6", Edited([](auto& p) { p[0] = 0x65; }), HeaderFault::kVersion},
      {"version 0", Edited([](auto& p) { p[0] = 0x05; }), HeaderFault::kVersion},
      {"header length 16", Edited([](auto& p) { p[0] = 0x44; }), HeaderFault::kHeaderLength},
      {"header longer than the packet", Edited([](auto& p) { p[0] = 0x4f; StoreBe16(&p[2], 40); }),
       HeaderFault::kHeaderLength},
      {"total length below the header", Edited([](auto& p) { StoreBe16(&p[2], 19); }), HeaderFault::kHeaderLength},
      {"total length past the end", Edited([](auto& p) { StoreBe16(&p[2], static_cast<uint32_t>(p.size() + 1)); }),
       HeaderFault::kTotalLength},
      {"trailing bytes", Edited([](auto& p) { p.resize(p.size() + 7); }), HeaderFault::kNone},
      {"TTL 0", Edited([](auto& p) { p[8] = 0; }), HeaderFault::kTtlZero},
      {"TTL 1", Edited([](auto& p) { p[8] = 1; }), HeaderFault::kNone},
      {"source 0/8", Edited([](auto& p) { p[12] = 0; }), HeaderFault::kMartianSource},
      {"source 127/8", Edited([](auto& p) { p[12] = 127; }), HeaderFault::kMartianSource},
      {"source multicast", Edited([](auto& p) { p[12] = 224; }), HeaderFault::kMartianSource},
      {"source broadcast", Edited([](auto& p) { StoreBe32(&p[12], 0xffffffff); }), HeaderFault::kMartianSource},
      {"destination multicast", Edited([](auto& p) { p[16] = 239; }), HeaderFault::kMartianDestination},
      {"destination 240/4", Edited([](auto& p) { p[16] = 240; }), HeaderFault::kMartianDestination},
      {"destination 127/8", Edited([](auto& p) { p[16] = 127; }), HeaderFault::kMartianDestination},
      {"fragment that ends at 65,535", Edited([](auto& p) { StoreBe16(&p[6], (65515 - 120) / 8); }),
       HeaderFault::kNone},
      {"fragment that ends past it", Edited([](auto& p) { StoreBe16(&p[6], 8189); }), HeaderFault::kFragmentOverflow},
      {"no operation, end of list", WithOptions({1, 1, 1, 0}), HeaderFault::kNone},
      {"router alert", WithOptions({148, 4, 0, 0}), HeaderFault::kNone},
      {"loose source route", WithOptions({131, 7, 4, 10, 0, 0, 1, 0}), HeaderFault::kOptions},
      {"strict source route", WithOptions({137, 7, 4, 10, 0, 0, 1, 0}), HeaderFault::kOptions},
      {"record route", WithOptions({7, 7, 4, 0, 0, 0, 0, 0}), HeaderFault::kOptions},
      {"timestamp", WithOptions({68, 8, 5, 0, 0, 0, 0, 0}), HeaderFault::kOptions},
      {"router alert cut off", WithOptions({1, 1, 1, 148}), HeaderFault::kOptions},
      {"router alert of a wrong length", WithOptions({148, 8, 0, 0}), HeaderFault::kOptions},
      {"unknown option for measurement", WithOptions({200, 4, 0, 0}), HeaderFault::kOptions},
      {"traceroute", WithOptions({82, 4, 0, 0}), HeaderFault::kOptions},
      {"Quick-Start", WithOptions({25, 8, 0, 0, 0, 0, 0, 0}), HeaderFault::kOptions},
      {"record route with the copied flag", WithOptions({135, 7, 4, 0, 0, 0, 0, 0}), HeaderFault::kOptions},
      {"record route after a stream ID", WithOptions({136, 4, 0, 1, 7, 7, 4, 0, 0, 0, 0, 0}), HeaderFault::kOptions},
      {"record route after the end of the list", WithOptions({0, 7, 7, 4}), HeaderFault::kNone},
      {"stream ID", WithOptions({136, 4, 0, 1}), HeaderFault::kNone},
      {"CIPSO", WithOptions({134, 10, 0, 0, 0, 1, 1, 4, 0, 1, 0, 0}), HeaderFault::kNone},
      {"security", WithOptions({130, 3, 171, 0}), HeaderFault::kNone},
      {"unknown option for control", WithOptions({154, 8, 0, 1, 10, 5, 1, 2}), HeaderFault::kNone},
      {"option of length 1", WithOptions({136, 1, 0, 0}), HeaderFault::kOptions},
      {"option of length 0", WithOptions({136, 0, 0, 0}), HeaderFault::kOptions},
      {"option past the end of the header", WithOptions({136, 5, 0, 0}), HeaderFault::kOptions},
  };
  for (const Row& row : rows) {
    test::Case(row.name, [&] { CHECK_EQUAL(Judge(row.packet), row.expected); });
  }

  test::Case("any option may be let in, and all else is still checked", [] {
    auto packet = WithOptions({7, 7, 4, 0, 0, 0, 0, 0});
    const ReceivedRules rules{false, true};
    CHECK_EQUAL(CheckReceived(packet.data(), test::Parsed(packet), rules), HeaderFault::kNone);
    packet[8] = 0;
    CHECK_EQUAL(CheckReceived(packet.data(), test::Parsed(packet), rules), HeaderFault::kTtlZero);
  });

  // test/unit/config/network-config.test.ts has the same ranges.
  test::Case("addresses of hosts by range, with the Network in 240/4 and elsewhere", [] {
    for (uint32_t first = 0; first < 256; first++) {
      const uint32_t address = first << 24 | 0x050102;
      const bool ordinary = first != 0 && first != 127 && first < 224;
      CHECK_EQUAL(IsUnicast(address), ordinary);
      CHECK_EQUAL(IsUnicast(address, true), ordinary || first >= 240);
    }
    CHECK(!IsUnicast(0xffffffff, true));
    CHECK(IsUnicast(0xfffffffe, true));
    auto packet = Edited([](auto& p) { p[12] = p[16] = 240; });
    CHECK_EQUAL(CheckReceived(packet.data(), test::Parsed(packet)), HeaderFault::kMartianSource);
    CHECK_EQUAL(CheckReceived(packet.data(), test::Parsed(packet), {true, false}), HeaderFault::kNone);
  });

  test::Case("random bytes are judged without reading past them", [] {
    test::Random random(7);
    for (int i = 0; i < 200000; i++) {
      auto bytes = test::RandomBytes(random, random.Below(80));
      if (!bytes.empty() && !random.OneIn(4)) bytes[0] = static_cast<uint8_t>(0x40 | random.Below(16));
      if (bytes.size() > 3 && !random.OneIn(4)) StoreBe16(&bytes[2], random.Below(90));
      Judge(bytes);
    }
  });

  test::Case("DecrementTtl() keeps the checksum right, for every TTL and every checksum", [] {
    test::PacketSpec spec;
    for (uint32_t ttl = 1; ttl < 256; ttl++) {
      for (uint32_t id = 0; id < 65536; id += ttl % 5 == 0 ? 1 : 257) {
        spec.ttl = static_cast<uint8_t>(ttl);
        spec.id = static_cast<uint16_t>(id);
        spec.payload.clear();
        auto packet = test::MakePacket(spec);
        DecrementTtl(packet.data());
        CHECK_EQUAL(packet[8], ttl - 1);
        CHECK_EQUAL(test::SlowChecksum(packet.data(), 20), 0);
      }
    }
  });

  test::Case("DecrementTtl() on flannel's wire: TTL 63, 62, 61", [] {
    uint8_t packet[20] = {0x45, 0, 0, 0x21, 0x12, 0x34, 0x40, 0, 0x3f, 0x11, 0xc4, 0x85, 10, 5, 9, 2, 10, 5, 0x48, 7};
    DecrementTtl(packet);
    CHECK_EQUAL(LoadBe16(packet + 10), 0xc585);
    DecrementTtl(packet);
    CHECK_EQUAL(LoadBe16(packet + 10), 0xc685);
    CHECK_EQUAL(packet[8], 0x3d);
  });

  test::Case("TransportChecksumValid() finds every flipped bit", [] {
    test::PacketSpec spec;
    spec.payload = {1, 2, 3, 4, 5};
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      spec.protocol = protocol;
      auto packet = test::MakePacket(spec);
      const InnerHeader header = test::Parsed(packet);
      CHECK(TransportChecksumValid(packet.data(), header));
      for (size_t bit = 160; bit < packet.size() * 8; bit++) {
        packet[bit / 8] = static_cast<uint8_t>(packet[bit / 8] ^ 1 << bit % 8);
        CHECK(!TransportChecksumValid(packet.data(), header));
        packet[bit / 8] = static_cast<uint8_t>(packet[bit / 8] ^ 1 << bit % 8);
      }
    }
  });
  return test::Finish();
}
