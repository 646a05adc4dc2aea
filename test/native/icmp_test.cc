// ICMP errors: about what, how many, and how they look.

#include "../../addon/packet/icmp.h"

#include <memory>

#include "../support/check.h"
#include "../support/make_packet.h"

using namespace twill;

namespace {

constexpr uint32_t kBroadcast = 0x0a05ffff;

bool Allowed(test::PacketSpec spec) {
  const auto packet = test::MakePacket(spec);
  return MayAnswer(packet.data(), packet.size(), test::Parsed(packet), kBroadcast);
}

test::PacketSpec Ipv6Spec() {
  test::PacketSpec spec;
  spec.is_v6 = true;
  return spec;
}

bool AllowedIcmpV6(uint8_t type) {
  test::PacketSpec spec = Ipv6Spec();
  spec.protocol = kProtocolIcmpV6;
  spec.payload = {type, 0, 0, 0};
  return Allowed(spec);
}

bool AllowedIcmp(uint8_t type) {
  test::PacketSpec spec;
  spec.protocol = kProtocolUdp;
  auto packet = test::MakePacket(spec);
  packet[9] = kProtocolIcmp;
  packet[20] = type;
  return MayAnswer(packet.data(), packet.size(), test::Parsed(packet), kBroadcast);
}

}  // namespace

int main() {
  test::Case("answered: a unicast packet, a first fragment, an echo", [] {
    test::PacketSpec spec;
    CHECK(Allowed(spec));
    spec.fragment = kMoreFragments;
    CHECK(Allowed(spec));
    CHECK(AllowedIcmp(8));
    CHECK(AllowedIcmp(0));
  });
  test::Case("not answered: ICMP errors", [] {
    for (const uint8_t type : {3, 4, 5, 11, 12}) CHECK(!AllowedIcmp(type));
  });
  test::Case("not answered: ICMP whose type was not received", [] {
    test::PacketSpec spec;
    spec.protocol = kProtocolUdp;
    auto packet = test::MakePacket(spec);
    packet[9] = kProtocolIcmp;
    StoreBe16(&packet[2], 20);
    const std::vector<uint8_t> exact(packet.begin(), packet.begin() + 20);
    CHECK(!MayAnswer(exact.data(), 20, test::Parsed(exact), kBroadcast));
  });
  test::Case("not answered: later fragments, multicast, broadcast, martians", [] {
    test::PacketSpec spec;
    spec.fragment = 100;
    CHECK(!Allowed(spec));
    for (const uint32_t address : {0xe0000001u, 0xffffffffu, kBroadcast, 0x7f000001u, 1u, 0xf0000001u}) {
      spec = {};
      spec.destination = address;
      CHECK(!Allowed(spec));
      spec = {};
      spec.source = address;
      CHECK(!Allowed(spec));
    }
  });

  test::Case("the error is a right packet and quotes only what was received", [] {
    test::Random random(5);
    for (const size_t payload : {size_t{0}, size_t{1}, size_t{8}, size_t{500}, size_t{1432}}) {
      test::PacketSpec spec;
      spec.payload = test::RandomBytes(random, payload);
      const auto packet = test::MakePacket(spec);
      // Exactly as long as the packet, so that reading on is found.
      auto exact = std::make_unique<uint8_t[]>(packet.size());
      std::memcpy(exact.get(), packet.data(), packet.size());
      uint8_t error[kMaxIcmpError];
      const size_t length =
          BuildIcmpError(error, {IcmpCause::kTooBig, 1272, Address::V4(0x0a050200)}, exact.get(),
                         packet.size(), test::Parsed(packet));
      CHECK_EQUAL(length, std::min<size_t>(kMaxIcmpError, 28 + packet.size()));
      CHECK_EQUAL(LoadBe16(error + 2), length);
      CHECK_EQUAL(test::SlowChecksum(error, 20), 0);
      CHECK_EQUAL(test::SlowChecksum(error + 20, length - 20), 0);
      CHECK_EQUAL(error[9], kProtocolIcmp);
      CHECK_EQUAL(LoadBe32(error + 12), 0x0a050200);
      CHECK_EQUAL(LoadBe32(error + 16), spec.source);
      CHECK_EQUAL(error[20], 3);
      CHECK_EQUAL(error[21], 4);
      CHECK_EQUAL(LoadBe16(error + 26), 1272);
      CHECK(std::memcmp(error + 28, packet.data(), length - 28) == 0);
    }
  });

  test::Case("about a superpacket, the first packet is quoted with its own length", [] {
    test::PacketSpec spec;
    spec.payload.assign(20000, 1);
    const auto packet = test::MakePacket(spec);
    uint8_t error[kMaxIcmpError];
    const size_t length = BuildIcmpError(error, {IcmpCause::kTooBig, 1272, Address::V4(1)},
                                         packet.data(), 1472, test::Parsed(packet));
    CHECK_EQUAL(length, kMaxIcmpError);
    CHECK_EQUAL(LoadBe16(error + 30), 1472);
    CHECK_EQUAL(test::SlowChecksum(error + 28, 20), 0);
  });

  test::Case("a quoted packet of a superpacket agrees with itself: UDP length, TCP flags", [] {
    for (const uint8_t protocol : {kProtocolUdp, kProtocolTcp}) {
      for (const size_t options : {size_t{0}, size_t{40}}) {
        test::PacketSpec spec;
        spec.protocol = protocol;
        spec.flags = kTcpAck | kTcpPsh | kTcpFin;
        spec.ip_options.assign(options, 1);
        spec.payload.assign(20000, 1);
        const auto packet = test::MakePacket(spec);
        const size_t ip = 20 + options;
        for (const size_t length : {size_t{1472}, ip + 20 + 1}) {
          uint8_t error[kMaxIcmpError];
          const IcmpError about = {IcmpCause::kTooBig, 1272, Address::V4(1)};
          BuildIcmpError(error, about, packet.data(), length, test::Parsed(packet));
          const uint8_t* quote = error + 28;
          CHECK_EQUAL(LoadBe16(quote + 2), length);
          CHECK_EQUAL(test::SlowChecksum(quote, ip), 0);
          if (protocol == kProtocolUdp) CHECK_EQUAL(LoadBe16(quote + ip + 4), length - ip);
          if (protocol == kProtocolTcp) CHECK_EQUAL(quote[ip + 13], kTcpAck);
        }
      }
    }
  });

  test::Case("IPv6, answered: a unicast packet, a first fragment, an echo, an unknown informational message", [] {
    test::PacketSpec spec = Ipv6Spec();
    CHECK(Allowed(spec));
    spec.fragment = kMoreFragments;
    CHECK(Allowed(spec));
    for (const uint8_t type : {128, 129, 200}) CHECK(AllowedIcmpV6(type));
  });
  test::Case("IPv6, not answered: errors of every number, redirects, messages whose type was not received", [] {
    for (uint32_t type = 0; type < 128; type++) CHECK(!AllowedIcmpV6(static_cast<uint8_t>(type)));
    CHECK(!AllowedIcmpV6(137));
    test::PacketSpec spec = Ipv6Spec();
    spec.protocol = kProtocolIcmpV6;
    CHECK(!Allowed(spec));
    // Behind extension headers too.
    spec.payload = {3};
    spec.extensions = {{60, {0, 1, 4, 0, 0, 0, 0}}};
    CHECK(!Allowed(spec));
    spec.payload = {128};
    CHECK(Allowed(spec));
  });
  test::Case("IPv6, not answered: later fragments, multicast, link-local, martians", [] {
    test::PacketSpec spec = Ipv6Spec();
    spec.fragment = 100;
    CHECK(!Allowed(spec));
    const auto packet = test::MakePacket(Ipv6Spec());
    for (const size_t at : {8, 24}) {
      for (const uint16_t begin : {0xff02, 0xfe80}) {
        auto edited = packet;
        StoreBe16(&edited[at], begin);
        CHECK(!MayAnswer(edited.data(), edited.size(), test::Parsed(edited), kBroadcast));
      }
      auto edited = packet;
      std::fill_n(edited.begin() + static_cast<long>(at), 16, 0);
      CHECK(!MayAnswer(edited.data(), edited.size(), test::Parsed(edited), kBroadcast));
    }
  });
  test::Case("IPv6: what hashes to the broadcast address of IPv4 is answered", [] {
    const auto packet = test::MakePacket(Ipv6Spec());
    const InnerHeader header = test::Parsed(packet);
    CHECK(MayAnswer(packet.data(), packet.size(), header, header.source));
  });

  test::Case("IPv6: the error is a right packet of at most 1,280 bytes and quotes only what was received", [] {
    test::Random random(5);
    const Address from = {{0xfd000000, 0, 0, 0x0a050200}};
    struct Row {
      IcmpError error;
      uint8_t type;
      uint32_t mtu;
    };
    for (const Row& row : {Row{{IcmpCause::kNoRoute, 0, from}, 1, 0}, Row{{IcmpCause::kTooBig, 1400, from}, 2, 1400},
                           Row{{IcmpCause::kTooBig, 1000, from}, 2, 1280},
                           Row{{IcmpCause::kTimeExceeded, 0, from}, 3, 0}}) {
      for (const size_t payload : {0, 1, 8, 1171, 1172, 1173, 1432}) {
        test::PacketSpec spec = Ipv6Spec();
        spec.payload = test::RandomBytes(random, payload);
        const auto packet = test::MakePacket(spec);
        auto exact = std::make_unique<uint8_t[]>(packet.size());
        std::memcpy(exact.get(), packet.data(), packet.size());
        uint8_t error[kMaxIcmpV6Error];
        const size_t length = BuildIcmpError(error, row.error, exact.get(), packet.size(), test::Parsed(packet));
        CHECK_EQUAL(length, std::min<size_t>(1280, 48 + packet.size()));
        const InnerHeader header = test::Parsed(std::vector<uint8_t>(error, error + length));
        CHECK_EQUAL(header.total_length, length);
        CHECK_EQUAL(header.protocol, kProtocolIcmpV6);
        const auto icmp_length = static_cast<uint32_t>(length - 40);
        CHECK_EQUAL(test::SlowChecksum(error + 40, icmp_length, test::SlowPseudoSum(error, icmp_length)), 0);
        CHECK(LoadAddress(error + 8, true) == from);
        CHECK(std::memcmp(error + 24, packet.data() + 8, 16) == 0);
        CHECK_EQUAL(error[40], row.type);
        CHECK_EQUAL(error[41], 0);
        CHECK_EQUAL(LoadBe32(error + 44), row.mtu);
        CHECK(std::memcmp(error + 48, packet.data(), length - 48) == 0);
      }
    }
  });

  test::Case("IPv6: a quoted packet of a superpacket agrees with itself", [] {
    for (const uint8_t protocol : {kProtocolUdp, kProtocolTcp}) {
      for (const bool options : {false, true}) {
        test::PacketSpec spec = Ipv6Spec();
        spec.protocol = protocol;
        spec.flags = kTcpAck | kTcpPsh | kTcpFin;
        if (options) spec.ip_options = {5, 2, 0, 0};
        spec.payload.assign(20000, 1);
        const auto packet = test::MakePacket(spec);
        const size_t ip = options ? 48 : 40;
        uint8_t error[kMaxIcmpV6Error];
        BuildIcmpError(error, {IcmpCause::kTooBig, 1400, {{0xfd000000, 0, 0, 1}}}, packet.data(), 1472,
                       test::Parsed(packet));
        const uint8_t* quote = error + 48;
        CHECK_EQUAL(LoadBe16(quote + 4), 1432);
        if (protocol == kProtocolUdp) CHECK_EQUAL(LoadBe16(quote + ip + 4), 1472 - ip);
        if (protocol == kProtocolTcp) CHECK_EQUAL(quote[ip + 13], kTcpAck);
      }
    }
  });

  test::Case("one host: a burst of 5, then 20 a second", [] {
    IcmpLimiter limiter;
    int allowed = 0;
    for (int i = 0; i < 100; i++) allowed += limiter.Allow(1, 1000);
    CHECK_EQUAL(allowed, 5);
    for (uint64_t ms = 1001; ms <= 2000; ms++) allowed += limiter.Allow(1, ms);
    CHECK(allowed >= 24 && allowed <= 26);
  });
  test::Case("in the place of another one: from nothing on", [] {
    IcmpLimiter limiter(true);
    limiter.Look(1000);
    CHECK(!limiter.Allow(1, 1000));
    int allowed = 0;
    for (uint64_t ms = 1000; ms <= 2000; ms++) {
      limiter.Look(ms);
      allowed += limiter.Allow(1, ms);
    }
    CHECK(allowed >= 19 && allowed <= 20);
    allowed = 0;
    for (int i = 0; i < 10; i++) allowed += limiter.Allow(2, 2000);
    CHECK_EQUAL(allowed, 5);
    allowed = 0;
    for (uint32_t to = 10; to < 200; to++) allowed += limiter.Allow(to, 2000);
    CHECK(allowed >= 44 && allowed <= 50);

    IcmpLimiter flooded(true);
    flooded.Look(1000);
    for (uint32_t to = 10; to < 1000; to++) CHECK(!flooded.Allow(to, 1000));
  });
  test::Case("all hosts: 1,000 a second and a burst of 50", [] {
    IcmpLimiter limiter;
    int allowed = 0;
    for (uint64_t ms = 0; ms < 2000; ms++) {
      const uint32_t first = 0x0a000000 + static_cast<uint32_t>(ms) * 5;
      for (uint32_t i = 0; i < 5; i++) allowed += limiter.Allow(first + i, 1000 + ms);
    }
    CHECK(allowed >= 1990 && allowed <= 2060);
  });
  return test::Finish();
}
