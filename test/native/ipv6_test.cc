// IPv6: which packets are taken, and what is read of them.

#include "../../addon/packet/ipv6.h"

#include "../../addon/packet/flow.h"
#include "../support/check.h"
#include "../support/make_packet.h"

using namespace twill;
using Bytes = std::vector<uint8_t>;
using test::Extension;

namespace {

test::PacketSpec Spec() {
  test::PacketSpec spec;
  spec.is_v6 = true;
  spec.payload.resize(100);
  return spec;
}

HeaderFault Judge(const Bytes& packet, ReceivedRules rules = {}) {
  // A heap copy of the exact size, so that a read past the end is found.
  const Bytes exact(packet);
  InnerHeader header{};
  const HeaderFault fault = ParseIpv6(exact.data(), exact.size(), &header);
  return fault != HeaderFault::kNone ? fault : CheckReceived(exact.data(), header, rules);
}

Bytes Edited(const std::function<void(Bytes&)>& edit) {
  Bytes packet = test::MakePacket(Spec());
  edit(packet);
  return packet;
}

Bytes With(std::vector<Extension> extensions) {
  test::PacketSpec spec = Spec();
  spec.extensions = std::move(extensions);
  return test::MakePacket(spec);
}

// A header of `type` and `length` bytes, all zeros.
Extension Zeros(uint8_t type, size_t length) {
  Extension extension = {type, Bytes(length - 1)};
  extension.rest[0] = static_cast<uint8_t>(length / 8 - 1);
  return extension;
}

Extension Route(uint8_t type, uint8_t left) {
  Extension route = Zeros(43, 24);
  route.rest[1] = type;
  route.rest[2] = left;
  return route;
}

// Options up to 14 bytes in a header of 16.
Extension Options(uint8_t type, const Bytes& options) {
  Extension extension = Zeros(type, 16);
  std::copy(options.begin(), options.end(), extension.rest.begin() + 1);
  return extension;
}

Extension Fragment(uint32_t offset, bool more) {
  Extension fragment = Zeros(44, 8);
  StoreBe16(&fragment.rest[1], offset | (more ? 1 : 0));
  return fragment;
}

Bytes Truncated(const Bytes& packet, size_t length) {
  Bytes cut(packet.begin(), packet.begin() + static_cast<long>(length));
  StoreBe16(&cut[4], static_cast<uint32_t>(length - kIpv6Header));
  return cut;
}

Bytes WithSource(const Bytes& address) {
  return Edited([&](auto& p) { std::copy(address.begin(), address.end(), p.begin() + 8); });
}

// 16 bytes that begin and end so.
Bytes Address16(const Bytes& begin, const Bytes& end) {
  Bytes address(16);
  std::copy(begin.begin(), begin.end(), address.begin());
  std::copy(end.rbegin(), end.rend(), address.rbegin());
  return address;
}

}  // namespace

int main() {
  struct Row {
    const char* name;
    Bytes packet;
    HeaderFault expected;
  };
  const Bytes nine_headers = With(std::vector<Extension>(9, Zeros(60, 8)));
  const std::vector<Row> rows = {
      {"a right packet", Edited([](auto&) {}), HeaderFault::kNone},
      {"empty", {}, HeaderFault::kShort},
      {"39 bytes", Edited([](auto& p) { p.resize(39); }), HeaderFault::kShort},
      {"version 4", Edited([](auto& p) { p[0] = 0x45; }), HeaderFault::kVersion},
      {"payload past the end", Edited([](auto& p) { StoreBe16(&p[4], 121); }), HeaderFault::kTotalLength},
      {"trailing bytes", Edited([](auto& p) { p.resize(p.size() + 7); }), HeaderFault::kNone},
      {"longer than 65,535 bytes", Edited([](auto& p) { p.resize(65575); StoreBe16(&p[4], 65535); }),
       HeaderFault::kTotalLength},
      {"65,535 bytes", Edited([](auto& p) { p.resize(65535); StoreBe16(&p[4], 65495); }), HeaderFault::kNone},
      {"a jumbogram", Edited([](auto& p) {
         p[6] = 0;
         StoreBe16(&p[4], 0);
         const uint8_t jumbo[] = {6, 0, 0xc2, 4, 0, 1, 0, 0};
         std::copy(std::begin(jumbo), std::end(jumbo), p.begin() + 40);
       }), HeaderFault::kHeaderLength},
      {"a jumbo option in a packet that states its length", With({Options(0, {0xc2, 4, 0, 1, 0, 0})}),
       HeaderFault::kOptions},
      {"hop limit 0", Edited([](auto& p) { p[7] = 0; }), HeaderFault::kTtlZero},
      {"hop limit 1", Edited([](auto& p) { p[7] = 1; }), HeaderFault::kNone},

      {"no next header", With({{59, Bytes(7)}}), HeaderFault::kNone},
      {"hop-by-hop first", With({Zeros(0, 8), Zeros(60, 8)}), HeaderFault::kNone},
      {"hop-by-hop second", With({Zeros(60, 8), Zeros(0, 8)}), HeaderFault::kHeaderLength},
      {"eight headers", With(std::vector<Extension>(8, Zeros(60, 8))), HeaderFault::kNone},
      {"nine headers", nine_headers, HeaderFault::kHeaderLength},
      {"headers of 512 bytes", With({Zeros(60, 256), Zeros(60, 256)}), HeaderFault::kNone},
      {"headers of 520 bytes", With({Zeros(60, 256), Zeros(60, 264)}), HeaderFault::kHeaderLength},
      {"a header that ends past the packet", Truncated(With({Zeros(60, 64)}), 100), HeaderFault::kHeaderLength},
      {"a header of which 7 bytes are there", Truncated(With({Zeros(60, 8)}), 47), HeaderFault::kHeaderLength},
      {"nothing behind the last header", Truncated(With({Zeros(60, 8)}), 48), HeaderFault::kNone},
      {"authentication header", With({{51, {4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}),
       HeaderFault::kNone},
      {"two fragment headers", With({Fragment(0, false), Fragment(0, true)}), HeaderFault::kHeaderLength},

      {"routing header type 0", With({Route(0, 1)}), HeaderFault::kOptions},
      {"routing header type 0 without segments left", With({Route(0, 0)}), HeaderFault::kOptions},
      {"routing header type 2", With({Route(2, 1)}), HeaderFault::kOptions},
      {"segment routing", With({Route(4, 1)}), HeaderFault::kOptions},
      {"a routing header behind the header of a first fragment", With({Fragment(0, true), Route(0, 1)}),
       HeaderFault::kOptions},
      {"what looks like one in a later fragment", With({Fragment(8, true), Route(0, 1)}), HeaderFault::kNone},
      {"router alert", With({Options(0, {5, 2, 0, 0, 1, 6})}), HeaderFault::kNone},
      {"CALIPSO", With({Options(0, {7, 8, 0, 0, 0, 1, 0, 0, 0, 0})}), HeaderFault::kNone},
      {"tunnel encapsulation limit", With({Options(60, {4, 1, 4, 1, 0})}), HeaderFault::kNone},
      {"unknown option", With({Options(60, {0x9e, 4, 1, 2, 3, 4, 1, 4})}), HeaderFault::kNone},
      {"Quick-Start", With({Options(0, {0x26, 6, 0, 0, 0, 0, 0, 0})}), HeaderFault::kOptions},
      {"in-situ measurement", With({Options(0, {0x31, 6, 0, 0, 0, 0, 0, 0})}), HeaderFault::kOptions},
      {"home address", With({Options(60, {0xc9, 10})}), HeaderFault::kOptions},
      {"option past the end of its header", With({Options(60, {0x9e, 13})}), HeaderFault::kOptions},
      {"option without its length", With({Options(60, {1, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x9e})}),
       HeaderFault::kOptions},

      {"fragment that ends at 65,535", With({Fragment(65416 - 8, false)}), HeaderFault::kNone},
      {"fragment that ends past it", With({Fragment(65416 + 8, false)}), HeaderFault::kFragmentOverflow},

      {"source ::", WithSource(Bytes(16)), HeaderFault::kMartianSource},
      {"source ::1", WithSource(Address16({}, {1})), HeaderFault::kMartianSource},
      {"source ::2", WithSource(Address16({}, {2})), HeaderFault::kNone},
      {"source IPv4-mapped", WithSource(Address16({}, {0xff, 0xff, 10, 5, 1, 2})), HeaderFault::kMartianSource},
      {"source multicast", WithSource(Address16({0xff, 2}, {1})), HeaderFault::kMartianSource},
      {"source link-local", WithSource(Address16({0xfe, 0x80}, {1})), HeaderFault::kMartianSource},
      {"source at the end of link-local", WithSource(Address16({0xfe, 0xbf}, {1})), HeaderFault::kMartianSource},
      {"source behind link-local", WithSource(Address16({0xfe, 0xc0}, {1})), HeaderFault::kNone},
      {"source unique local", WithSource(Address16({0xfc}, {1})), HeaderFault::kNone},
      {"source NAT64", WithSource(Address16({0, 0x64, 0xff, 0x9b}, {10, 5, 1, 2})), HeaderFault::kNone},
      {"destination multicast", Edited([](auto& p) { p[24] = 0xff; }), HeaderFault::kMartianDestination},
      {"destination link-local", Edited([](auto& p) { p[24] = 0xfe; p[25] = 0x80; }),
       HeaderFault::kMartianDestination},
      // RFC 4861: from a link-local address, or it is none.
      {"router advertisement", Edited([](auto& p) {
         const Bytes router = Address16({0xfe, 0x80}, {1});
         std::copy(router.begin(), router.end(), p.begin() + 8);
         p[6] = kProtocolIcmpV6;
         p[7] = 255;
         p[40] = 134;
       }), HeaderFault::kMartianSource},
  };
  for (const Row& row : rows) {
    test::Case(row.name, [&] { CHECK_EQUAL(Judge(row.packet), row.expected); });
  }

  test::Case("any option may be let in, but no routing header of type 0, and all else is still checked", [] {
    const ReceivedRules rules{false, true};
    CHECK_EQUAL(Judge(With({Route(4, 1)}), rules), HeaderFault::kNone);
    CHECK_EQUAL(Judge(With({Options(0, {0x26, 6})}), rules), HeaderFault::kNone);
    CHECK_EQUAL(Judge(With({Route(0, 1)}), rules), HeaderFault::kOptions);
    Bytes packet = With({Route(4, 1)});
    packet[7] = 0;
    CHECK_EQUAL(Judge(packet, rules), HeaderFault::kTtlZero);
  });

  test::Case("the fields of a packet with every kind of extension header", [] {
    test::PacketSpec spec = Spec();
    spec.tos = 0xb9;
    spec.flow_label = 0xfffff;
    spec.ttl = 63;
    spec.ip_options = {5, 2, 0, 0};
    spec.extensions = {Zeros(60, 24), Route(2, 0), {51, Bytes(11)}};
    spec.extensions[2].rest[0] = 1;
    spec.fragment = kMoreFragments;
    const InnerHeader header = test::Parsed(test::MakePacket(spec));
    CHECK_EQUAL(header.version, 6);
    CHECK_EQUAL(header.header_length, 40 + 8 + 24 + 24 + 12 + 8);
    CHECK_EQUAL(header.total_length, header.header_length + 20 + 100);
    CHECK_EQUAL(header.protocol, kProtocolTcp);
    CHECK_EQUAL(header.tos, 0xb9);
    CHECK_EQUAL(header.ttl, 63);
    CHECK(header.has_route && header.IsFragment() && !header.IsLaterFragment() && header.DontFragment());
    CHECK(!header.IsPlain());
    CHECK(test::Parsed(test::MakePacket(Spec())).IsPlain());
  });

  test::Case("a later fragment is one, whatever it begins with, and an atomic one is none", [] {
    const InnerHeader later = test::Parsed(With({Fragment(1400, true), Zeros(60, 8)}));
    CHECK(later.IsLaterFragment());
    CHECK_EQUAL(later.header_length, 48);
    CHECK_EQUAL(later.protocol, 60);
    CHECK_EQUAL(later.fragment & kFragmentOffset, 175);
    CHECK((later.fragment & kMoreFragments) != 0);
    const InnerHeader atomic = test::Parsed(With({Fragment(0, false)}));
    CHECK(!atomic.IsFragment());
    CHECK_EQUAL(atomic.protocol, kProtocolTcp);
  });

  test::Case("a network of one family takes packets of the other for a wrong version", [] {
    const Bytes four = test::MakePacket({}), six = test::MakePacket(Spec());
    const auto parse = [](const Bytes& packet, Families families) {
      InnerHeader header{};
      return ParseInner(packet.data(), packet.size(), families, &header);
    };
    for (const Families families : {Families{true, false}, Families{false, true}, Families{true, true}}) {
      CHECK_EQUAL(parse(four, families), families.v4 ? HeaderFault::kNone : HeaderFault::kVersion);
      CHECK_EQUAL(parse(six, families), families.v6 ? HeaderFault::kNone : HeaderFault::kVersion);
      CHECK_EQUAL(parse({}, families), HeaderFault::kShort);
      CHECK_EQUAL(parse(Bytes(60), families), HeaderFault::kVersion);
    }
  });

  test::Case("hosts are the same when all of their addresses are", [] {
    const Bytes packet = test::MakePacket(Spec());
    const InnerHeader header = test::Parsed(packet);
    for (size_t at = 8; at < 40; at++) {
      Bytes other = packet;
      other[at] ^= 1;
      const InnerHeader of_other = test::Parsed(other);
      CHECK(!SameHosts(packet.data(), header, other.data(), of_other));
      CHECK(of_other.source != header.source || of_other.destination != header.destination);
      InnerHeader same_hash = of_other;
      same_hash.source = header.source;
      same_hash.destination = header.destination;
      CHECK(!SameHosts(packet.data(), header, other.data(), same_hash));
    }
    CHECK(SameHosts(packet.data(), header, packet.data(), header));
  });

  test::Case("the flow label tells no flows apart", [] {
    test::PacketSpec spec = Spec();
    const Bytes one = test::MakePacket(spec);
    spec.flow_label = 0x12345;
    const Bytes other = test::MakePacket(spec);
    CHECK_EQUAL(FlowKeyOf(one.data(), test::Parsed(one)).flow, FlowKeyOf(other.data(), test::Parsed(other)).flow);
  });

  test::Case("DecrementTtl() lowers the hop limit and nothing else", [] {
    for (uint32_t ttl = 1; ttl < 256; ttl++) {
      test::PacketSpec spec = Spec();
      spec.ttl = static_cast<uint8_t>(ttl);
      Bytes packet = test::MakePacket(spec);
      DecrementTtl(packet.data());
      spec.ttl--;
      CHECK(packet == test::MakePacket(spec));
    }
  });

  test::Case("TransportChecksumValid() finds every flipped bit, and in the addresses too", [] {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      test::PacketSpec spec = Spec();
      spec.protocol = protocol;
      spec.payload = {1, 2, 3, 4, 5};
      Bytes packet = test::MakePacket(spec);
      const InnerHeader header = test::Parsed(packet);
      CHECK(HeaderChecksumValid(packet.data(), header));
      CHECK(TransportChecksumValid(packet.data(), header));
      for (size_t bit = 64; bit < packet.size() * 8; bit++) {
        packet[bit / 8] = static_cast<uint8_t>(packet[bit / 8] ^ 1 << bit % 8);
        CHECK(!TransportChecksumValid(packet.data(), header));
        packet[bit / 8] = static_cast<uint8_t>(packet[bit / 8] ^ 1 << bit % 8);
      }
    }
  });

  test::Case("random bytes and chains of headers are judged without reading past them", [] {
    static constexpr uint8_t kTypes[] = {0, 43, 44, 51, 60, 60, 60, 6, 17, 58, 59, 50};
    test::Random random(7);
    for (int i = 0; i < 200000; i++) {
      Bytes bytes = test::RandomBytes(random, random.Below(200));
      if (!bytes.empty() && !random.OneIn(8)) bytes[0] = static_cast<uint8_t>(0x60 | random.Below(16));
      if (bytes.size() > 40 && !random.OneIn(8)) StoreBe16(&bytes[4], static_cast<uint32_t>(bytes.size() - 40));
      if (bytes.size() > 40) bytes[6] = kTypes[random.Below(std::size(kTypes))];
      for (size_t at = 40; at + 1 < bytes.size(); at += 8) {
        if (!random.OneIn(3)) bytes[at] = kTypes[random.Below(std::size(kTypes))];
        if (!random.OneIn(3)) bytes[at + 1] = static_cast<uint8_t>(random.Below(4));
      }
      for (const bool any_option : {false, true}) Judge(bytes, {false, any_option});
      InnerHeader header{};
      if (ParseIpv6(bytes.data(), bytes.size(), &header) != HeaderFault::kNone) continue;
      CHECK(header.total_length <= bytes.size());
      CHECK(header.header_length >= kIpv6Header && header.header_length <= header.total_length);
      CHECK(header.header_length <= kIpv6Header + kMaxExtensionBytes);
      const test::Transport transport = test::TransportOf(bytes.data());
      CHECK_EQUAL(header.header_length, transport.at);
      CHECK_EQUAL(header.protocol, transport.protocol);
      CHECK_EQUAL(header.IsFragment(), transport.fragment);
      FlowKeyOf(bytes.data(), header);
    }
  });
  return test::Finish();
}
