// Random but right packets and superpackets for the tests.
#pragma once

#include <vector>

#include "../../addon/packet/inner.h"
#include "check.h"

namespace test {

struct Extension {
  uint8_t type;
  std::vector<uint8_t> rest;  // behind the byte that says what comes next
};

struct PacketSpec {
  uint8_t protocol = twill::kProtocolTcp;
  bool is_v6 = false;
  uint32_t source = 0x0a050102;  // of IPv6 the last word, in fd00::/96
  uint32_t destination = 0x0a050202;
  uint16_t source_port = 40000;
  uint16_t destination_port = 5201;
  uint16_t id = 1;
  uint16_t fragment = twill::kDontFragment;  // in IPv6, a fragment header when it is one
  uint8_t tos = 0;
  uint32_t flow_label = 0;           // IPv6
  uint8_t ttl = 64;
  uint32_t sequence = 1;
  uint32_t acknowledgement = 1;
  uint8_t flags = twill::kTcpAck;
  uint16_t window = 500;
  std::vector<uint8_t> ip_options;   // a multiple of 4; for IPv6 the options of a hop-by-hop header
  std::vector<Extension> extensions;  // IPv6, between hop-by-hop and fragment header
  std::vector<uint8_t> tcp_options;  // a multiple of 4
  std::vector<uint8_t> payload;
  bool zero_checksum = false;        // UDP
};

inline std::vector<uint8_t> MakeIpv4Header(const PacketSpec& spec, size_t payload) {
  using namespace twill;
  std::vector<uint8_t> header(kMinIpHeader + spec.ip_options.size());
  uint8_t* ip = header.data();
  ip[0] = static_cast<uint8_t>(0x40 | header.size() / 4);
  ip[1] = spec.tos;
  StoreBe16(ip + 2, static_cast<uint32_t>(header.size() + payload));
  StoreBe16(ip + 4, spec.id);
  StoreBe16(ip + 6, spec.fragment);
  ip[8] = spec.ttl;
  ip[9] = spec.protocol;
  StoreBe32(ip + 12, spec.source);
  StoreBe32(ip + 16, spec.destination);
  if (!spec.ip_options.empty()) std::memcpy(ip + kMinIpHeader, spec.ip_options.data(), spec.ip_options.size());
  StoreBe16(ip + 10, SlowChecksum(ip, header.size()));
  return header;
}

inline std::vector<uint8_t> MakeIpv6Header(const PacketSpec& spec, size_t payload) {
  using namespace twill;
  std::vector<Extension> extensions = spec.extensions;
  if (!spec.ip_options.empty()) {
    Extension options = {0, {0}};
    options.rest.insert(options.rest.end(), spec.ip_options.begin(), spec.ip_options.end());
    options.rest.resize((options.rest.size() + 8) / 8 * 8 - 1);
    options.rest[0] = static_cast<uint8_t>(options.rest.size() / 8);
    extensions.insert(extensions.begin(), options);
  }
  if ((spec.fragment & (kMoreFragments | kFragmentOffset)) != 0) {
    const auto word = static_cast<uint16_t>(spec.fragment << 3 | ((spec.fragment & kMoreFragments) != 0 ? 1 : 0));
    extensions.push_back({44, {0, static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word), 0, 0,
                               static_cast<uint8_t>(spec.id >> 8), static_cast<uint8_t>(spec.id)}});
  }
  std::vector<uint8_t> header(kIpv6Header);
  StoreBe32(header.data(), 6u << 28 | static_cast<uint32_t>(spec.tos) << 20 | spec.flow_label);
  header[7] = spec.ttl;
  header[8] = header[24] = 0xfd;
  StoreBe32(&header[20], spec.source);
  StoreBe32(&header[36], spec.destination);
  size_t next = 6;
  for (const Extension& extension : extensions) {
    header[next] = extension.type;
    next = header.size();
    header.push_back(0);
    header.insert(header.end(), extension.rest.begin(), extension.rest.end());
  }
  header[next] = spec.protocol;
  StoreBe16(&header[4], static_cast<uint32_t>(header.size() - kIpv6Header + payload));
  return header;
}

// Ports are written for the protocols that have them; for the others the payload follows the IP header.
inline std::vector<uint8_t> MakePacket(const PacketSpec& spec) {
  using namespace twill;
  const bool tcp = spec.protocol == kProtocolTcp, udp = spec.protocol == kProtocolUdp;
  const bool other_ports =
      spec.protocol == kProtocolUdpLite || spec.protocol == kProtocolSctp || spec.protocol == kProtocolDccp;
  const size_t transport = tcp ? 20 + spec.tcp_options.size() : udp ? kUdpHeader : other_ports ? 12 : 0;
  const size_t payload = transport + spec.payload.size();
  std::vector<uint8_t> packet = spec.is_v6 ? MakeIpv6Header(spec, payload) : MakeIpv4Header(spec, payload);
  const size_t ip_length = packet.size();
  packet.resize(ip_length + payload);
  uint8_t* ip = packet.data();
  uint8_t* at = ip + ip_length;
  if (!spec.payload.empty()) std::memcpy(at + transport, spec.payload.data(), spec.payload.size());
  if (tcp || udp || other_ports) {
    StoreBe16(at, spec.source_port);
    StoreBe16(at + 2, spec.destination_port);
  }
  if (!tcp && !udp) return packet;
  if (tcp) {
    StoreBe32(at + 4, spec.sequence);
    StoreBe32(at + 8, spec.acknowledgement);
    at[12] = static_cast<uint8_t>(transport / 4 << 4);
    at[13] = spec.flags;
    StoreBe16(at + 14, spec.window);
    if (!spec.tcp_options.empty()) std::memcpy(at + 20, spec.tcp_options.data(), spec.tcp_options.size());
  } else {
    StoreBe16(at + 4, static_cast<uint32_t>(kUdpHeader + spec.payload.size()));
  }
  const size_t offset = tcp ? kTcpCsumOffset : kUdpCsumOffset;
  if (udp && spec.zero_checksum) return packet;
  const uint32_t length = static_cast<uint32_t>(packet.size() - ip_length);
  const uint16_t checksum = SlowChecksum(at, length, SlowPseudoSum(ip, length));
  StoreBe16(at + offset, udp && checksum == 0 ? 0xffff : checksum);
  return packet;
}

inline twill::InnerHeader Parsed(const std::vector<uint8_t>& packet) {
  twill::InnerHeader header{};
  CHECK(twill::ParseInner(packet.data(), packet.size(), {true, true}, &header) == twill::HeaderFault::kNone);
  return header;
}

inline std::vector<uint8_t> RandomBytes(Random& random, size_t length) {
  std::vector<uint8_t> bytes(length);
  random.Fill(bytes.data(), length);
  return bytes;
}

// Any TCP or UDP packet of a family whose payload is cut into `gso_size` pieces; at most 65535 bytes.
inline PacketSpec RandomSuperpacket(Random& random, bool is_v6, uint16_t* gso_size, uint32_t max_pieces = 100) {
  using namespace twill;
  PacketSpec spec;
  spec.is_v6 = is_v6;
  if (is_v6) spec.flow_label = random.Below(1 << 20);
  spec.protocol = random.OneIn(3) ? kProtocolUdp : kProtocolTcp;
  spec.source = 0x0a050100 + random.Below(200);
  spec.destination = 0x0a050200 + random.Below(200);
  spec.source_port = static_cast<uint16_t>(random.Word());
  spec.destination_port = static_cast<uint16_t>(1024 + random.Below(3000));
  spec.id = random.OneIn(2) ? static_cast<uint16_t>(65535 - random.Below(20)) : static_cast<uint16_t>(random.Word());
  spec.fragment = random.OneIn(2) ? kDontFragment : 0;
  spec.tos = static_cast<uint8_t>(random.Word());
  spec.ttl = static_cast<uint8_t>(random.Between(2, 255));
  spec.sequence = random.OneIn(3) ? 0xffffff00 + random.Below(256) : random.Word();
  spec.acknowledgement = random.Word();
  spec.window = static_cast<uint16_t>(random.Word());
  spec.tcp_options = RandomBytes(random, 4 * random.Below(11));
  *gso_size = static_cast<uint16_t>(random.OneIn(4) ? random.Between(1, 64) : random.Between(64, 1460));
  const uint32_t room = static_cast<uint32_t>(kMaxPacket - 140);
  const uint32_t most = std::min<uint32_t>(room, *gso_size * max_pieces);
  spec.payload = RandomBytes(random, random.Between(1, most));
  return spec;
}

}  // namespace test
