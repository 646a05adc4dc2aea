#include "packet.h"

namespace twill {

namespace {

// Options that neither route nor record: end of list, no operation, router alert (RFC 2113).
bool OptionsAreHarmless(const uint8_t* options, size_t length) noexcept {
  size_t at = 0;
  while (at < length) {
    const uint8_t type = options[at];
    if (type == 0) return true;
    if (type == 1) {
      at++;
      continue;
    }
    if (type != 148 || at + 1 >= length) return false;
    const uint8_t option_length = options[at + 1];
    if (option_length != 4 || at + option_length > length) return false;
    at += option_length;
  }
  return true;
}

}  // namespace

// HOT
HeaderFault ParseIpv4(const uint8_t* packet, size_t length, Ipv4Header* header) noexcept {
  if (length < kMinIpHeader) return HeaderFault::kShort;
  if (packet[0] >> 4 != 4) return HeaderFault::kVersion;
  header->header_length = static_cast<uint16_t>((packet[0] & 15) * 4);
  header->total_length = LoadBe16(packet + 2);
  if (header->header_length < kMinIpHeader) return HeaderFault::kHeaderLength;
  if (header->total_length > length) return HeaderFault::kTotalLength;
  if (header->header_length > header->total_length) return HeaderFault::kHeaderLength;
  header->tos = packet[1];
  header->id = LoadBe16(packet + 4);
  header->fragment = LoadBe16(packet + 6);
  header->ttl = packet[8];
  header->protocol = packet[9];
  header->source = LoadBe32(packet + 12);
  header->destination = LoadBe32(packet + 16);
  return HeaderFault::kNone;
}

// HOT
HeaderFault CheckReceived(const uint8_t* packet, const Ipv4Header& header) noexcept {
  if (header.header_length > kMinIpHeader &&
      !OptionsAreHarmless(packet + kMinIpHeader, header.header_length - kMinIpHeader)) {
    return HeaderFault::kOptions;
  }
  const uint32_t offset = (header.fragment & kFragmentOffset) * 8u;
  // 65515 = 65535 - 20: beyond it the reassembled packet could not state its own length.
  if (offset + (header.total_length - header.header_length) > kMaxPacket - kMinIpHeader) {
    return HeaderFault::kFragmentOverflow;
  }
  if (header.ttl == 0) return HeaderFault::kTtlZero;
  if (!IsUnicast(header.source)) return HeaderFault::kMartianSource;
  if (!IsUnicast(header.destination)) return HeaderFault::kMartianDestination;
  return HeaderFault::kNone;
}

// HOT
bool TransportChecksumValid(const uint8_t* packet, const Ipv4Header& header) noexcept {
  const size_t length = header.total_length - header.header_length;
  const uint64_t sum = PseudoSum(packet, header.protocol) + Be16AsSum(static_cast<uint32_t>(length)) +
                       Sum(packet + header.header_length, length);
  return Fold(sum) == 0xffff;
}

}  // namespace twill
