#include "packet/coalesce.h"

#include "packet/flow.h"

namespace twill {

namespace {

inline uint32_t PayloadLength(const InnerPacket& packet) noexcept {
  return packet.header.total_length - packet.header.header_length - packet.transport_length;
}

// Superpackets into a tunnel inside the tunnel were dropped by kernels up to 6.8: VXLAN (IANA and Linux default port),
// Geneve, and flannel's udp backend.
inline bool IsTunnelPort(uint16_t port) noexcept {
  return port == 4789 || port == 8472 || port == 6081 || port == 8285;
}

inline bool SameBytes(const uint8_t* a, const uint8_t* b, size_t length) noexcept {
  return std::memcmp(a, b, length) == 0;
}

// Whether all that the IP headers of two packets without options state is the same, length, ID and checksum apart.
inline bool SameIpHeaders(const uint8_t* a, const uint8_t* b, bool is_v6) noexcept {
  // Version, traffic class and flow label; next header and hop limit, addresses.
  if (is_v6) return SameBytes(a, b, 4) && SameBytes(a + 6, b + 6, 34);
  // TOS; flags of the fragment word; TTL; addresses.
  return a[1] == b[1] && a[6] == b[6] && a[8] == b[8] && SameBytes(a + 12, b + 12, 8);
}

inline bool ChecksumsValid(const InnerPacket& packet) noexcept {
  return HeaderChecksumValid(packet.data, packet.header) && TransportChecksumValid(packet.data, packet.header);
}

}  // namespace

Coalescer::Coalescer(InnerPacket* packets, uint32_t capacity) : packets_(packets), chains_(new Chain[capacity]) {}

void Coalescer::Clear() noexcept {
  count_ = 0;
  youngest_.Clear();
  fences_.Clear();
}

// HOT
void Coalescer::Start(uint32_t index, bool open) noexcept {
  InnerPacket& packet = packets_[index];
  packet.next = kNoPacket;
  Chain& chain = chains_[count_++];
  chain.first = chain.last = index;
  chain.count = 1;
  chain.open = open;
  chain.verified = false;
  chain.push = false;
  chain.next_sequence = 0;
  if (!open) return;
  const uint32_t payload = PayloadLength(packet);
  chain.piece = static_cast<uint16_t>(payload);
  chain.payload = payload;
  if (packet.header.protocol == kProtocolTcp) {
    const uint8_t* tcp = packet.data + packet.header.header_length;
    chain.next_sequence = LoadBe32(tcp + 4) + payload;
    chain.push = (tcp[13] & kTcpPsh) != 0;
    chain.open = !chain.push;
  }
}

// HOT
bool Coalescer::CanMerge(const InnerPacket& packet, bool merge_tcp, bool merge_udp,
                         uint16_t* transport_length) const noexcept {
  const InnerHeader& header = packet.header;
  if (!header.IsPlain()) return false;
  const uint32_t transport = header.total_length - header.header_length;
  const uint8_t* at = packet.data + header.header_length;
  if (header.protocol == kProtocolTcp) {
    if (!merge_tcp || transport < 20) return false;
    const uint32_t tcp = (at[12] >> 4) * 4u;
    if (tcp < 20 || transport <= tcp) return false;
    if ((at[13] & ~(kTcpPsh | kTcpEce)) != kTcpAck || (at[12] & 15) != 0) return false;
    *transport_length = static_cast<uint16_t>(tcp);
    return true;
  }
  if (header.protocol != kProtocolUdp || !merge_udp) return false;
  if (transport <= kUdpHeader || LoadBe16(at + 4) != transport) return false;
  if (LoadWord(at + kUdpCsumOffset) == 0 || IsTunnelPort(LoadBe16(at + 2))) return false;
  *transport_length = kUdpHeader;
  return true;
}

// HOT
bool Coalescer::Continues(const Chain& chain, const InnerPacket& packet) const noexcept {
  const InnerPacket& first = packets_[chain.first];
  if (!chain.open || packet.header.protocol != first.header.protocol ||
      packet.transport_length != first.transport_length || packet.header.version != first.header.version) {
    return false;
  }
  const uint8_t* a = first.data;
  const uint8_t* b = packet.data;
  const size_t ip = first.header.header_length;
  if (!SameIpHeaders(a, b, first.header.IsV6()) || !SameBytes(a + ip, b + ip, 4)) return false;  // and ports
  const uint32_t payload = PayloadLength(packet);
  if (payload > chain.piece || chain.count >= kMaxChainPackets ||
      ip + first.transport_length + chain.payload + payload > kMaxPacket) {
    return false;
  }
  if (!packet.header.DontFragment() && packet.header.id != static_cast<uint16_t>(packets_[chain.last].header.id + 1)) {
    return false;
  }
  if (packet.header.protocol == kProtocolUdp) return true;
  const uint8_t* s = a + ip;
  const uint8_t* t = b + ip;
  // Acknowledgement and data offset; flags but PSH; window; urgent pointer; options.
  return LoadBe32(t + 4) == chain.next_sequence && SameBytes(s + 8, t + 8, 5) &&
         ((s[13] ^ t[13]) & ~kTcpPsh) == 0 && SameBytes(s + 14, t + 14, 2) && SameBytes(s + 18, t + 18, 2) &&
         SameBytes(s + 20, t + 20, first.transport_length - 20u);
}

// HOT
bool Coalescer::Add(uint32_t index, bool merge_tcp, bool merge_udp) noexcept {
  InnerPacket& packet = packets_[index];
  const FlowKey key = FlowKeyOf(packet.data, packet.header);
  if (key.is_fragment) {
    fences_.Put(key.pair, count_);
    Start(index, false);
    return false;
  }
  if (!CanMerge(packet, merge_tcp, merge_udp, &packet.transport_length)) {
    youngest_.Erase(key.flow);  // ends the flow's chain
    Start(index, false);
    return false;
  }
  const uint32_t* youngest = youngest_.Find(key.flow);
  const uint32_t* fence = fences_.Find(key.pair);
  bool first_is_good = true, is_good = true;
  if (youngest != nullptr && (fence == nullptr || *youngest >= *fence) && Continues(chains_[*youngest], packet)) {
    Chain& chain = chains_[*youngest];
    first_is_good = chain.verified = chain.verified || ChecksumsValid(packets_[chain.first]);
    is_good = !first_is_good || ChecksumsValid(packet);
    if (first_is_good && is_good) {
      const uint32_t payload = PayloadLength(packet);
      packet.next = kNoPacket;
      packets_[chain.last].next = index;
      chain.last = index;
      chain.count++;
      chain.payload += payload;
      chain.next_sequence += payload;
      if (packet.header.protocol == kProtocolTcp) {
        chain.push = (packet.data[packet.header.header_length + 13] & kTcpPsh) != 0;
        if (chain.push) chain.open = false;
      }
      if (payload < chain.piece) chain.open = false;
      return false;
    }
  }
  const InnerPacket* wrong = nullptr;
  if (!first_is_good) wrong = &packets_[chains_[*youngest].first];
  if (!is_good) wrong = &packet;
  youngest_.Put(key.flow, count_);
  Start(index, is_good);  // a packet known to be wrong is counted once: nothing is compared with it
  return wrong != nullptr && !IsChecksumPartial(wrong->data, wrong->header);
}

// HOT
size_t BuildSuperpacketHeaders(uint8_t* to, const Chain& chain, const InnerPacket* packets) noexcept {
  const InnerPacket& first = packets[chain.first];
  const bool tcp = first.header.protocol == kProtocolTcp;
  const bool is_v6 = first.header.IsV6();
  const size_t ip_length = first.header.header_length;
  const size_t headers = ip_length + first.transport_length;
  VnetHeader vnet{};
  vnet.flags = kVnetNeedsCsum;
  vnet.gso_type = !tcp ? kVnetGsoUdpL4 : is_v6 ? kVnetGsoTcpV6 : kVnetGsoTcpV4;
  vnet.hdr_len = static_cast<uint16_t>(headers);
  vnet.gso_size = chain.piece;
  vnet.csum_start = static_cast<uint16_t>(ip_length);
  vnet.csum_offset = tcp ? kTcpCsumOffset : kUdpCsumOffset;
  std::memcpy(to, &vnet, sizeof vnet);

  uint8_t* ip = to + sizeof vnet;
  std::memcpy(ip, first.data, headers);
  WriteTotalLength(ip, is_v6, static_cast<uint32_t>(headers + chain.payload));
  if (is_v6) {
    ip[kIpv6HopLimit]--;
  } else {
    ip[8]--;
    WriteIpChecksum(ip, kMinIpHeader);
  }

  uint8_t* transport = ip + ip_length;
  const uint32_t transport_length = first.transport_length + chain.payload;
  if (tcp) {
    if (chain.push) transport[13] |= kTcpPsh;
  } else {
    StoreBe16(transport + 4, transport_length);
  }
  // The kernel completes the checksum from the folded, not inverted, sum of the pseudo header.
  const uint64_t pseudo = PseudoSum(ip, is_v6, first.header.protocol) + Be16AsSum(transport_length);
  StoreWord(transport + vnet.csum_offset, Fold(pseudo));
  return sizeof vnet + headers;
}

}  // namespace twill
