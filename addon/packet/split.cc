#include "packet/split.h"

namespace twill {

void SegmentTemplate::Init(const uint8_t* packet, const InnerHeader& header, size_t headers_length,
                           bool keep_zero_checksum) noexcept {
  std::memcpy(headers_, packet, headers_length);
  headers_length_ = headers_length;
  ip_length_ = header.header_length;
  id_ = header.id;
  protocol_ = header.protocol;
  is_v6_ = header.IsV6();
  keep_zero_checksum_ = keep_zero_checksum;

  if (is_v6_) {
    headers_[kIpv6HopLimit] = static_cast<uint8_t>(header.ttl - 1);
    ip_sum_ = 0;
  } else {
    headers_[8] = static_cast<uint8_t>(header.ttl - 1);
    StoreWord(headers_ + 2, 0);
    StoreWord(headers_ + 4, 0);
    StoreWord(headers_ + 10, 0);
    ip_sum_ = Sum(headers_, ip_length_);
  }

  uint8_t* transport = headers_ + ip_length_;
  if (protocol_ == kProtocolTcp) {
    sequence_ = LoadBe32(transport + 4);
    flags_word_ = LoadBe16(transport + 12);
    StoreBe32(transport + 4, 0);
    StoreWord(transport + 12, 0);
    StoreWord(transport + kTcpCsumOffset, 0);
  } else {
    sequence_ = 0;
    flags_word_ = 0;
    StoreWord(transport + 4, 0);
    StoreWord(transport + kUdpCsumOffset, 0);
  }
  transport_sum_ = PseudoSum(headers_, is_v6_, protocol_) + Sum(transport, headers_length_ - ip_length_);
}

// HOT
void SegmentTemplate::Write(uint8_t* to, const uint8_t* payload, size_t payload_length, uint32_t index,
                            uint32_t offset, bool last) const noexcept {
  std::memcpy(to, headers_, headers_length_);
  const uint64_t payload_sum = CopyAndSum(to + headers_length_, payload, payload_length);

  const uint32_t total_length = static_cast<uint32_t>(headers_length_ + payload_length);
  const uint32_t transport_length = static_cast<uint32_t>(total_length - ip_length_);
  WriteTotalLength(to, is_v6_, total_length);
  if (!is_v6_) {
    StoreBe16(to + 4, id_ + index);
    StoreWord(to + 10, Finish(ip_sum_ + LoadWord(to + 2) + LoadWord(to + 4)));
  }

  uint8_t* transport = to + ip_length_;
  uint64_t sum = transport_sum_ + payload_sum + Be16AsSum(transport_length);
  if (protocol_ == kProtocolTcp) {
    uint16_t flags = flags_word_;
    if (!last) flags &= static_cast<uint16_t>(~(kTcpFin | kTcpPsh));
    if (index != 0) flags &= static_cast<uint16_t>(~kTcpCwr);
    StoreBe32(transport + 4, sequence_ + offset);
    StoreBe16(transport + 12, flags);
    sum += LoadWord(transport + 4);
    sum += LoadWord(transport + 6);
    sum += LoadWord(transport + 12);
    StoreWord(transport + kTcpCsumOffset, Finish(sum));
  } else {
    StoreBe16(transport + 4, transport_length);
    if (keep_zero_checksum_) return;
    sum += LoadWord(transport + 4);
    const uint16_t checksum = Finish(sum);
    StoreWord(transport + kUdpCsumOffset, checksum == 0 ? 0xffff : checksum);  // RFC 768, RFC 8200 8.1: 0 means "none"
  }
}

}  // namespace twill
