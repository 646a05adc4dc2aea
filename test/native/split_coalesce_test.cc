// What is split is right in every field, and what is split and coalesced is what it was.

#include <algorithm>

#include "../../addon/packet/coalesce.h"
#include "../../addon/packet/split.h"
#include "../support/check.h"
#include "../support/make_packet.h"

using namespace twill;
using Bytes = std::vector<uint8_t>;

namespace {

std::vector<Bytes> Split(const Bytes& packet, uint16_t gso_size, bool keep_zero = false) {
  const InnerHeader header = test::Parsed(packet);
  const size_t headers = header.protocol == kProtocolTcp
                             ? header.header_length + (packet[header.header_length + 12u] >> 4) * 4u
                             : header.header_length + kUdpHeader;
  SegmentTemplate segment;
  segment.Init(packet.data(), header, headers, keep_zero);
  std::vector<Bytes> pieces;
  uint32_t offset = 0;
  const uint32_t payload = static_cast<uint32_t>(packet.size() - headers);
  while (offset < payload) {
    const uint32_t length = std::min<uint32_t>(gso_size, payload - offset);
    Bytes piece(headers + length);
    segment.Write(piece.data(), packet.data() + headers + offset, length, static_cast<uint32_t>(pieces.size()), offset,
                  offset + length == payload);
    pieces.push_back(std::move(piece));
    offset += length;
  }
  return pieces;
}

struct Merged {
  std::vector<InnerPacket> packets;
  std::vector<std::vector<uint32_t>> chains;  // packet numbers, in order of output
  std::vector<Bytes> output;                  // superpackets without virtio_net_hdr; singles as they are
  uint32_t bad_checksums = 0;
};

Merged Merge(std::vector<Bytes>& input) {
  Merged merged;
  merged.packets.resize(input.size());
  for (size_t i = 0; i < input.size(); i++) {
    merged.packets[i].data = input[i].data();
    merged.packets[i].header = test::Parsed(input[i]);
  }
  Coalescer coalescer(merged.packets.data(), static_cast<uint32_t>(input.size()));
  coalescer.Clear();
  for (uint32_t i = 0; i < input.size(); i++) merged.bad_checksums += coalescer.Add(i, true, true);
  for (uint32_t c = 0; c < coalescer.size(); c++) {
    const Chain& chain = coalescer[c];
    std::vector<uint32_t> numbers;
    for (uint32_t i = chain.first; i != kNoPacket; i = merged.packets[i].next) numbers.push_back(i);
    CHECK_EQUAL(numbers.size(), chain.count);
    if (chain.count == 1) {
      merged.output.push_back(input[chain.first]);
    } else {
      uint8_t headers[kSuperpacketHeaders];
      const size_t length = BuildSuperpacketHeaders(headers, chain, merged.packets.data());
      Bytes whole(headers + sizeof(VnetHeader), headers + length);
      for (uint32_t i : numbers) {
        const InnerPacket& packet = merged.packets[i];
        const uint8_t* payload = packet.data + packet.header.header_length + packet.transport_length;
        whole.insert(whole.end(), payload, static_cast<const uint8_t*>(packet.data) + packet.header.total_length);
      }
      VnetHeader vnet;
      std::memcpy(&vnet, headers, sizeof vnet);
      CHECK_EQUAL(vnet.flags, kVnetNeedsCsum);
      CHECK_EQUAL(vnet.hdr_len, length - sizeof vnet);
      CHECK_EQUAL(vnet.gso_size, chain.piece);
      const size_t ip = test::TransportOf(whole.data()).at;
      CHECK_EQUAL(vnet.csum_start, ip);
      // Finish the checksum as the kernel does: from what the field holds.
      const uint32_t transport = static_cast<uint32_t>(whole.size() - ip);
      const uint16_t partial = LoadBe16(&whole[ip + vnet.csum_offset]);
      uint32_t pseudo = test::SlowPseudoSum(whole.data(), transport);
      while (pseudo > 0xffff) pseudo = (pseudo & 0xffff) + (pseudo >> 16);
      CHECK_EQUAL(partial, pseudo);
      const uint16_t checksum = test::SlowChecksum(&whole[ip], transport);
      const bool udp = test::TransportOf(whole.data()).protocol == kProtocolUdp;
      CHECK_EQUAL(vnet.gso_type, udp ? kVnetGsoUdpL4 : test::IsV6(whole.data()) ? kVnetGsoTcpV6 : kVnetGsoTcpV4);
      StoreBe16(&whole[ip + vnet.csum_offset], udp && checksum == 0 ? 0xffff : checksum);
      merged.output.push_back(std::move(whole));
    }
    merged.chains.push_back(std::move(numbers));
  }
  return merged;
}

void CheckPieces(const test::PacketSpec& spec, const Bytes& whole, const std::vector<Bytes>& pieces,
                 uint16_t gso_size) {
  const InnerHeader original = test::Parsed(whole);
  size_t offset = 0;
  for (size_t i = 0; i < pieces.size(); i++) {
    const Bytes& piece = pieces[i];
    const InnerHeader header = test::Parsed(piece);
    const bool last = i + 1 == pieces.size();
    CHECK(test::ChecksumsRight(piece.data(), piece.size()));
    CHECK_EQUAL(header.total_length, piece.size());
    CHECK_EQUAL(header.version, original.version);
    if (!spec.is_v6) CHECK_EQUAL(header.id, static_cast<uint16_t>(original.id + i));
    else CHECK(std::memcmp(piece.data(), whole.data(), 4) == 0);
    CHECK(std::memcmp(piece.data() + 20, whole.data() + 20, header.header_length - 20u) == 0);
    CHECK_EQUAL(header.ttl, original.ttl - 1);
    CHECK_EQUAL(header.tos, original.tos);
    CHECK_EQUAL(header.fragment, original.fragment);
    const uint8_t* transport = piece.data() + header.header_length;
    const uint8_t* before = whole.data() + original.header_length;
    size_t headers = header.header_length + kUdpHeader;
    if (spec.protocol == kProtocolTcp) {
      headers = header.header_length + (transport[12] >> 4) * 4u;
      CHECK_EQUAL(LoadBe32(transport + 4), static_cast<uint32_t>(spec.sequence + offset));
      uint8_t flags = spec.flags;
      if (!last) flags &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
      if (i > 0) flags &= static_cast<uint8_t>(~kTcpCwr);
      CHECK_EQUAL(transport[13], flags);
      CHECK(std::memcmp(transport + 8, before + 8, 5) == 0);
      CHECK(std::memcmp(transport + 14, before + 14, 2) == 0);
      CHECK(std::memcmp(transport + 18, before + 18, headers - header.header_length - 18) == 0);
    } else {
      CHECK_EQUAL(LoadBe16(transport + 4), piece.size() - header.header_length);
    }
    const size_t length = piece.size() - headers;
    CHECK(last ? length >= 1 && length <= gso_size : length == gso_size);
    CHECK(std::memcmp(piece.data() + headers, spec.payload.data() + offset, length) == 0);
    offset += length;
  }
  CHECK_EQUAL(offset, spec.payload.size());
}

// Two neighbours of one flow that merge, to be spoiled one field at a time.
struct Pair {
  test::PacketSpec first, second;
};

Pair Neighbours(uint8_t protocol, bool is_v6 = false) {
  Pair pair;
  pair.first.is_v6 = is_v6;
  pair.first.protocol = protocol;
  pair.first.payload.assign(100, 7);
  pair.first.tcp_options = {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2};
  pair.second = pair.first;
  pair.second.id = static_cast<uint16_t>(pair.first.id + 1);
  pair.second.sequence = pair.first.sequence + 100;
  return pair;
}

size_t ChainsOf(const Pair& pair) {
  std::vector<Bytes> input = {test::MakePacket(pair.first), test::MakePacket(pair.second)};
  return Merge(input).chains.size();
}

}  // namespace

void TestFamily(bool is_v6) {
  const auto Case = [is_v6](const std::string& name, const std::function<void()>& body) {
    test::Case(((is_v6 ? "IPv6: " : "") + name).c_str(), body);
  };
  Case("2,000 random superpackets: every packet is right in every field", [&] {
    test::Random random(1);
    for (int i = 0; i < 2000; i++) {
      uint16_t gso_size;
      test::PacketSpec spec = test::RandomSuperpacket(random, is_v6, &gso_size);
      spec.flags = static_cast<uint8_t>(kTcpAck | random.Word());
      if (random.OneIn(3)) spec.ip_options = {1, 1, 1, 0};
      if (is_v6 && random.OneIn(4)) spec.extensions = {{60, {0, 1, 4, 0, 0, 0, 0}}, {51, Bytes(11)}};
      if (spec.extensions.size() > 1) spec.extensions[1].rest[0] = 1;
      const Bytes whole = test::MakePacket(spec);
      CheckPieces(spec, whole, Split(whole, gso_size), gso_size);
    }
  });

  Case("pieces of one to eight bytes are right in every field, and join up again", [&] {
    test::Random random(4);
    for (uint16_t gso_size = 1; gso_size <= 8; gso_size++) {
      uint16_t ignored;
      test::PacketSpec spec = test::RandomSuperpacket(random, is_v6, &ignored);
      spec.ttl = 64;
      spec.payload.assign(gso_size * 60u - gso_size / 2u, 7);
      const Bytes whole = test::MakePacket(spec);
      std::vector<Bytes> pieces = Split(whole, gso_size);
      CheckPieces(spec, whole, pieces, gso_size);
      Merged merged = Merge(pieces);
      spec.ttl = 62;
      CHECK_EQUAL(merged.output.size(), 1);
      CHECK(merged.output[0] == test::MakePacket(spec));
    }
  });

  Case("a UDP checksum of zero stays zero", [&] {
    test::PacketSpec spec;
    spec.is_v6 = is_v6;
    spec.protocol = kProtocolUdp;
    spec.zero_checksum = true;
    spec.payload.assign(1000, 3);
    const size_t at = is_v6 ? 46 : 26;
    for (const Bytes& piece : Split(test::MakePacket(spec), 300, true)) CHECK_EQUAL(LoadBe16(&piece[at]), 0);
  });

  Case("split and coalesced, 2,000 random superpackets are what they were, two hops later", [&] {
    test::Random random(2);
    for (int i = 0; i < 2000; i++) {
      uint16_t gso_size;
      test::PacketSpec spec = test::RandomSuperpacket(random, is_v6, &gso_size, kMaxChainPackets);
      spec.flags = static_cast<uint8_t>(kTcpAck | (random.OneIn(2) ? kTcpPsh : 0) | (random.OneIn(4) ? kTcpEce : 0));
      spec.ttl = static_cast<uint8_t>(random.Between(3, 255));
      const Bytes whole = test::MakePacket(spec);
      std::vector<Bytes> pieces = Split(whole, gso_size);
      Merged merged = Merge(pieces);
      CHECK_EQUAL(merged.output.size(), 1);
      CHECK_EQUAL(merged.bad_checksums, 0);
      spec.ttl = static_cast<uint8_t>(spec.ttl - (pieces.size() == 1 ? 1 : 2));
      CHECK(merged.output[0] == test::MakePacket(spec));
    }
  });

  Case("flows that are mixed at random come out whole, each in its order", [&] {
    test::Random random(3);
    for (int round = 0; round < 200; round++) {
      const uint32_t flows = random.Between(1, 12);
      std::vector<std::vector<Bytes>> queues(flows);
      for (uint32_t f = 0; f < flows; f++) {
        uint16_t gso_size;
        test::PacketSpec spec = test::RandomSuperpacket(random, is_v6, &gso_size, 30);
        spec.source_port = static_cast<uint16_t>(1000 + f);
        for (Bytes& piece : Split(test::MakePacket(spec), gso_size)) queues[f].push_back(std::move(piece));
        if (random.OneIn(3)) {  // something that does not merge
          spec.flags = kTcpAck | kTcpFin;
          spec.payload.resize(1);
          queues[f].push_back(test::MakePacket(spec));
        }
      }
      std::vector<Bytes> input;
      std::vector<uint32_t> flow_of;
      std::vector<size_t> next(flows, 0);
      for (size_t left = 1; left != 0;) {
        left = 0;
        for (uint32_t f = 0; f < flows; f++) {
          for (uint32_t n = random.Below(5); n > 0 && next[f] < queues[f].size(); n--) {
            input.push_back(queues[f][next[f]++]);
            flow_of.push_back(f);
          }
          left += queues[f].size() - next[f];
        }
      }
      const Merged merged = Merge(input);
      std::vector<bool> seen(input.size());
      std::vector<int64_t> last(flows, -1);
      for (const auto& chain : merged.chains) {
        for (uint32_t i : chain) {
          CHECK(!seen[i]);
          seen[i] = true;
          CHECK_EQUAL(flow_of[i], flow_of[chain[0]]);
          CHECK(static_cast<int64_t>(i) > last[flow_of[i]]);
          last[flow_of[i]] = i;
        }
      }
      for (const bool found : seen) CHECK(found);
    }
  });

  Case("neighbours merge", [&] {
    CHECK_EQUAL(ChainsOf(Neighbours(kProtocolTcp, is_v6)), 1);
    CHECK_EQUAL(ChainsOf(Neighbours(kProtocolUdp, is_v6)), 1);
  });

  std::vector<std::pair<const char*, std::function<void(Pair&)>>> spoilers = {
      {"another source", [](Pair& p) { p.second.source++; }},
      {"another destination", [](Pair& p) { p.second.destination++; }},
      {"another source port", [](Pair& p) { p.second.source_port++; }},
      {"another destination port", [](Pair& p) { p.second.destination_port++; }},
      {"another TTL", [](Pair& p) { p.second.ttl--; }},
      {"another TOS", [](Pair& p) { p.second.tos ^= 8; }},
      {"another ECN", [](Pair& p) { p.second.tos ^= 3; }},
      {"a longer second", [](Pair& p) { p.second.payload.push_back(1); }},
      {"IP options", [](Pair& p) { p.first.ip_options = p.second.ip_options = {1, 1, 1, 0}; }},
      {"an empty second", [](Pair& p) { p.second.payload.clear(); }},
      {"a first fragment", [](Pair& p) { p.second.fragment = kMoreFragments; }},
      {"another family", [](Pair& p) { p.second.is_v6 = !p.first.is_v6; }},
  };
  const std::vector<std::pair<const char*, std::function<void(Pair&)>>> ipv4_spoilers = {
      {"DF on one only", [](Pair& p) { p.second.fragment = 0; }},
      {"an IP ID that does not count up, without DF",
       [](Pair& p) { p.first.fragment = p.second.fragment = 0; p.second.id += 5; }},
  };
  const std::vector<std::pair<const char*, std::function<void(Pair&)>>> ipv6_spoilers = {
      {"another flow label", [](Pair& p) { p.second.flow_label++; }},
      {"destination options",
       [](Pair& p) { p.first.extensions = p.second.extensions = {{60, {0, 1, 4, 0, 0, 0, 0}}}; }},
      {"an atomic fragment", [](Pair& p) { p.first.extensions = p.second.extensions = {{44, Bytes(7)}}; }},
  };
  const auto& family_spoilers = is_v6 ? ipv6_spoilers : ipv4_spoilers;
  spoilers.insert(spoilers.end(), family_spoilers.begin(), family_spoilers.end());
  for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
    for (const auto& [name, spoil] : spoilers) {
      Case(std::string(protocol == kProtocolTcp ? "TCP" : "UDP") + " is not merged: " + name, [&] {
        Pair pair = Neighbours(protocol, is_v6);
        spoil(pair);
        CHECK_EQUAL(ChainsOf(pair), 2);
      });
    }
  }
  const std::vector<std::pair<const char*, std::function<void(Pair&)>>> tcp_spoilers = {
      {"a gap in the sequence", [](Pair& p) { p.second.sequence++; }},
      {"another acknowledgement", [](Pair& p) { p.second.acknowledgement++; }},
      {"another window", [](Pair& p) { p.second.window++; }},
      {"other options", [](Pair& p) { p.second.tcp_options[7]++; }},
      {"longer options", [](Pair& p) { p.second.tcp_options.resize(16); p.second.payload.resize(96); }},
      {"PSH on the first", [](Pair& p) { p.first.flags |= kTcpPsh; }},
      {"SYN", [](Pair& p) { p.second.flags |= kTcpSyn; }},
      {"FIN", [](Pair& p) { p.second.flags |= kTcpFin; }},
      {"RST", [](Pair& p) { p.second.flags |= kTcpRst; }},
      {"URG", [](Pair& p) { p.second.flags |= kTcpUrg; }},
      {"CWR", [](Pair& p) { p.second.flags |= kTcpCwr; }},
      {"ECE on one only", [](Pair& p) { p.second.flags |= kTcpEce; }},
      {"no ACK", [](Pair& p) { p.first.flags = p.second.flags = 0; }},
  };
  for (const auto& [name, spoil] : tcp_spoilers) {
    Case(std::string("TCP is not merged: ") + name, [&] {
      Pair pair = Neighbours(kProtocolTcp, is_v6);
      spoil(pair);
      CHECK_EQUAL(ChainsOf(pair), 2);
    });
  }
  Case("UDP is not merged: without a checksum", [&] {
    Pair pair = Neighbours(kProtocolUdp, is_v6);
    pair.first.zero_checksum = pair.second.zero_checksum = true;
    CHECK_EQUAL(ChainsOf(pair), 2);
  });
  Case("UDP is not merged: into a tunnel inside the tunnel", [&] {
    for (const uint16_t port : {4789, 8472, 6081, 8285}) {
      Pair pair = Neighbours(kProtocolUdp, is_v6);
      pair.first.destination_port = pair.second.destination_port = port;
      CHECK_EQUAL(ChainsOf(pair), 2);
    }
  });

  Case("a packet whose checksum is wrong is passed on as it is, and ends the chain", [&] {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      for (size_t broken = 0; broken < 2; broken++) {
        const Pair pair = Neighbours(protocol, is_v6);
        std::vector<Bytes> input = {test::MakePacket(pair.first), test::MakePacket(pair.second)};
        input[broken].back() ^= 1;
        const std::vector<Bytes> sent = input;
        const Merged merged = Merge(input);
        CHECK_EQUAL(merged.chains.size(), 2);
        CHECK_EQUAL(merged.bad_checksums, 1);
        CHECK(merged.output == sent);
      }
    }
  });

  if (!is_v6) Case("a packet whose header checksum is wrong is passed on as it is, and ends the chain", [&] {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      for (size_t broken = 0; broken < 2; broken++) {
        for (const size_t at : {10, 11}) {
          const Pair pair = Neighbours(protocol, is_v6);
          std::vector<Bytes> input = {test::MakePacket(pair.first), test::MakePacket(pair.second)};
          input[broken][at] ^= 0x40;
          const std::vector<Bytes> sent = input;
          const Merged merged = Merge(input);
          CHECK_EQUAL(merged.chains.size(), 2);
          CHECK_EQUAL(merged.bad_checksums, 1);
          CHECK(merged.output == sent);
        }
      }
    }
  });

  Case("a packet with a wrong checksum inside a flow is counted once, and the rest of the flow merges", [&] {
    for (const bool in_header : {false, true}) {
      if (in_header && is_v6) continue;
      for (size_t broken = 0; broken < 6; broken++) {
        test::PacketSpec spec;
        spec.is_v6 = is_v6;
        spec.payload.assign(100, 7);
        std::vector<Bytes> input;
        for (int i = 0; i < 6; i++) {
          input.push_back(test::MakePacket(spec));
          spec.sequence += 100;
          spec.id++;
        }
        input[broken][in_header ? 10 : is_v6 ? 70 : 50] ^= 1;
        const Merged merged = Merge(input);
        CHECK_EQUAL(merged.bad_checksums, 1);
        CHECK_EQUAL(merged.chains.size(), broken == 0 || broken == 5 ? 2 : 3);
        for (const auto& chain : merged.chains) {
          const bool has_broken = std::find(chain.begin(), chain.end(), broken) != chain.end();
          CHECK(!has_broken || chain.size() == 1);
        }
      }
    }
  });

  Case("a fragment ends the chains of its address pair and of no other", [&] {
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      const Pair pair = Neighbours(protocol, is_v6);
      for (const uint16_t bits : {kMoreFragments, uint16_t{20}}) {
        test::PacketSpec fragment = pair.first;
        fragment.fragment = bits;
        const auto between = [&] {
          std::vector<Bytes> input = {test::MakePacket(pair.first), test::MakePacket(fragment),
                                      test::MakePacket(pair.second)};
          return Merge(input);
        };
        CHECK_EQUAL(between().chains.size(), 3);
        fragment.source++;
        const Merged merged = between();
        CHECK_EQUAL(merged.chains.size(), 2);
        CHECK_EQUAL(merged.chains[0].size(), 2);
      }
    }
  });

  Case("a chain that began behind a fragment goes on", [&] {
    const Pair pair = Neighbours(kProtocolTcp, is_v6);
    test::PacketSpec fragment = pair.first;
    fragment.fragment = kMoreFragments;
    std::vector<Bytes> input = {test::MakePacket(fragment), test::MakePacket(pair.first),
                                test::MakePacket(pair.second)};
    CHECK_EQUAL(Merge(input).chains.size(), 2);
  });

  Case("nothing is merged when the device takes none", [&] {
    const Pair pair = Neighbours(kProtocolTcp, is_v6);
    std::vector<Bytes> input = {test::MakePacket(pair.first), test::MakePacket(pair.second)};
    std::vector<InnerPacket> packets(2);
    for (uint32_t i = 0; i < 2; i++) packets[i] = {input[i].data(), test::Parsed(input[i]), 0, kNoPacket};
    Coalescer coalescer(packets.data(), 2);
    for (uint32_t i = 0; i < 2; i++) coalescer.Add(i, false, true);
    CHECK_EQUAL(coalescer.size(), 2);
  });
}

int main() {
  for (const bool is_v6 : {false, true}) TestFamily(is_v6);
  return test::Finish();
}
