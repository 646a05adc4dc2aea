#include "packet/ipv4.h"

namespace twill {

namespace {

// By option number, whatever the copied flag says (RFC 791 section 3.1). The class for debugging and measurement holds
// those that record: timestamp, traceroute (RFC 1393), experiments (RFC 4727). Of the class for control, source routes
// and selective directed broadcast (RFC 6814) route, and record route, MTU probe and reply (RFC 1063) and Quick-Start
// (RFC 4782) are written to on the way.
bool RoutesOrRecords(uint8_t type) noexcept {
  constexpr uint8_t kControl = 0;
  constexpr uint8_t kMeasurement = 2;
  const int option_class = (type >> 5) & 3;
  if (option_class == kMeasurement) return true;
  if (option_class != kControl) return false;
  switch (type & 31) {
    case 3:   // loose source route
    case 7:   // record route
    case 9:   // strict source route
    case 11:  // MTU probe
    case 12:  // MTU reply
    case 21:  // selective directed broadcast
    case 25:  // Quick-Start
      return true;
    default:
      return false;
  }
}

}  // namespace

bool Ipv4OptionsAreHarmless(const uint8_t* packet, const InnerHeader& header) noexcept {
  size_t at = kMinIpHeader;
  while (at < header.header_length) {
    const uint8_t type = packet[at];
    if (type == 0) return true;  // end of the list
    if (type == 1) {             // no operation
      at++;
      continue;
    }
    if (at + 1 >= header.header_length || RoutesOrRecords(type)) return false;
    const uint8_t length = packet[at + 1];
    if (length < 2 || at + length > header.header_length) return false;
    at += length;
  }
  return true;
}

// HOT
HeaderFault ParseIpv4(const uint8_t* packet, size_t length, InnerHeader* header) noexcept {
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
  header->version = 4;
  header->has_route = false;
  header->source = LoadBe32(packet + 12);
  header->destination = LoadBe32(packet + 16);
  return HeaderFault::kNone;
}

// HOT
HeaderFault CheckReceivedIpv4(const uint8_t* packet, const InnerHeader& header, ReceivedRules rules) noexcept {
  if (header.header_length > kMinIpHeader && !rules.any_option && !Ipv4OptionsAreHarmless(packet, header)) {
    return HeaderFault::kOptions;
  }
  const uint32_t offset = (header.fragment & kFragmentOffset) * 8u;
  // 65515 = 65535 - 20: beyond it the reassembled packet could not state its own length.
  if (offset + (header.total_length - header.header_length) > kMaxPacket - kMinIpHeader) {
    return HeaderFault::kFragmentOverflow;
  }
  if (header.ttl == 0) return HeaderFault::kTtlZero;
  if (!IsUnicast(header.source, rules.reserved)) return HeaderFault::kMartianSource;
  if (!IsUnicast(header.destination, rules.reserved)) return HeaderFault::kMartianDestination;
  return HeaderFault::kNone;
}

}  // namespace twill
