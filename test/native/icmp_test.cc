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
          BuildIcmpError(error, {kIcmpUnreachable, kIcmpCodeFragmentationNeeded, 1272, 0x0a050200}, exact.get(),
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
    const size_t length = BuildIcmpError(error, {kIcmpUnreachable, kIcmpCodeFragmentationNeeded, 1272, 1},
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
          const IcmpError about = {kIcmpUnreachable, kIcmpCodeFragmentationNeeded, 1272, 1};
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

  test::Case("one host: a burst of 5, then 20 a second", [] {
    IcmpLimiter limiter;
    int allowed = 0;
    for (int i = 0; i < 100; i++) allowed += limiter.Allow(1, 1000);
    CHECK_EQUAL(allowed, 5);
    for (uint64_t ms = 1001; ms <= 2000; ms++) allowed += limiter.Allow(1, ms);
    CHECK(allowed >= 24 && allowed <= 26);
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
