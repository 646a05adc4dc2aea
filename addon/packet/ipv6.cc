#include "packet/ipv6.h"

#include "packet/hash.h"

namespace twill {

namespace {

constexpr uint8_t kHopByHop = 0;
constexpr uint8_t kRouting = 43;
constexpr uint8_t kFragment = 44;
constexpr uint8_t kAuthentication = 51;
constexpr uint8_t kDestinationOptions = 60;

constexpr uint8_t kRouteType0 = 0;  // RFC 5095

constexpr uint8_t kPad1 = 0;
constexpr uint8_t kMayChange = 0x20;
constexpr uint8_t kJumboPayload = 0xc2;
constexpr uint8_t kHomeAddress = 0xc9;  // RFC 6275 section 6.3

// One extension header. It lies in the packet with all its bytes.
struct Extension {
  uint8_t type;
  const uint8_t* at;
  size_t length;
};

// The extension headers of a packet of `total_length` bytes, one after the other.
class ExtensionWalk {
 public:
  ExtensionWalk(const uint8_t* packet, size_t total_length) noexcept
      : packet_(packet), end_(total_length), next_(packet[kIpv6NextHeader]) {}

  // False at the end: fault() says whether it is a right one.
  bool Next(Extension* extension) noexcept {
    const bool is_first = at_ == kIpv6Header;
    if (ends_ || !IsExtension(next_)) return false;
    // 8 bytes is what the shortest has, and where all of them keep their length.
    if (++count_ > kMaxExtensions || at_ + 8 > end_ || (next_ == kHopByHop && !is_first) ||
        (next_ == kFragment && is_fragmented_)) {
      return Fail();
    }
    const uint8_t* at = packet_ + at_;
    size_t length = (at[1] + 1u) * 8;
    if (next_ == kFragment) length = 8;
    if (next_ == kAuthentication) length = (at[1] + 2u) * 4;  // RFC 4302 section 2.2
    if (length < 8 || at_ + length > end_ || at_ + length > kIpv6Header + kMaxExtensionBytes) return Fail();
    *extension = {next_, at, length};
    if (next_ == kFragment) {
      is_fragmented_ = true;
      ends_ = LoadBe16(at + 2) >> 3 != 0;
    }
    next_ = at[0];
    at_ += length;
    return true;
  }

  HeaderFault fault() const noexcept { return fault_; }
  size_t header_length() const noexcept { return at_; }
  uint8_t protocol() const noexcept { return next_; }

 private:
  static bool IsExtension(uint8_t type) noexcept {
    return type == kHopByHop || type == kRouting || type == kFragment || type == kAuthentication ||
           type == kDestinationOptions;
  }
  bool Fail() noexcept {
    fault_ = HeaderFault::kHeaderLength;
    return false;
  }

  const uint8_t* packet_;
  size_t end_;
  size_t at_ = kIpv6Header;
  uint32_t count_ = 0;
  uint8_t next_;
  bool is_fragmented_ = false;
  bool ends_ = false;
  HeaderFault fault_ = HeaderFault::kNone;
};

uint32_t HashOf(const uint8_t* address) noexcept {
  return Mix(Mix(LoadBe32(address), LoadBe32(address + 4)), Mix(LoadBe32(address + 8), LoadBe32(address + 12)));
}

bool OptionsOfAreHarmless(const Extension& extension) noexcept {
  for (size_t at = 2; at < extension.length;) {
    const uint8_t type = extension.at[at];
    if (type == kPad1) {
      at++;
      continue;
    }
    if (at + 1 >= extension.length || (type & kMayChange) != 0 || type == kJumboPayload || type == kHomeAddress) {
      return false;
    }
    at += 2u + extension.at[at + 1];
    if (at > extension.length) return false;
  }
  return true;
}

bool HasRouteType0(const uint8_t* packet, const InnerHeader& header) noexcept {
  ExtensionWalk walk(packet, header.total_length);
  for (Extension extension; walk.Next(&extension);) {
    if (extension.type == kRouting && extension.at[2] == kRouteType0) return true;
  }
  return false;
}

// Apart from the ordinary packet, which has none.
[[gnu::noinline]] HeaderFault ParseExtensions(const uint8_t* packet, InnerHeader* header) noexcept {
  ExtensionWalk walk(packet, header->total_length);
  for (Extension extension; walk.Next(&extension);) {
    if (extension.type == kRouting) header->has_route = true;
    if (extension.type != kFragment) continue;
    const uint16_t word = LoadBe16(extension.at + 2);
    header->fragment = static_cast<uint16_t>(kDontFragment | word >> 3 | ((word & 1) != 0 ? kMoreFragments : 0));
  }
  header->header_length = static_cast<uint16_t>(walk.header_length());
  header->protocol = walk.protocol();
  return walk.fault();
}

}  // namespace

// HOT
HeaderFault ParseIpv6(const uint8_t* packet, size_t length, InnerHeader* header) noexcept {
  if (length < kIpv6Header) return HeaderFault::kShort;
  if (packet[0] >> 4 != 6) return HeaderFault::kVersion;
  const size_t total = kIpv6Header + LoadBe16(packet + kIpv6PayloadLength);
  if (total > length || total > kMaxPacket) return HeaderFault::kTotalLength;
  header->total_length = static_cast<uint16_t>(total);
  header->header_length = kIpv6Header;
  header->id = 0;
  header->fragment = kDontFragment;
  header->tos = static_cast<uint8_t>(LoadBe16(packet) >> 4);
  header->ttl = packet[kIpv6HopLimit];
  header->protocol = packet[kIpv6NextHeader];
  header->version = 6;
  header->has_route = false;
  header->source = HashOf(packet + kIpv6Source);
  header->destination = HashOf(packet + kIpv6Destination);
  if (header->protocol == kProtocolTcp || header->protocol == kProtocolUdp) return HeaderFault::kNone;
  return ParseExtensions(packet, header);
}

// HOT
HeaderFault CheckReceivedIpv6(const uint8_t* packet, const InnerHeader& header, ReceivedRules rules) noexcept {
  if (header.header_length > kIpv6Header) {
    if (rules.any_option ? HasRouteType0(packet, header) : !Ipv6OptionsAreHarmless(packet, header)) {
      return HeaderFault::kOptions;
    }
    // Beyond it the reassembled packet could not state its own length. The fragment header will be gone from it.
    const uint32_t offset = (header.fragment & kFragmentOffset) * 8u;
    if (offset != 0 && offset + header.total_length - 8u - kIpv6Header > 0xffff) return HeaderFault::kFragmentOverflow;
  }
  if (header.ttl == 0) return HeaderFault::kTtlZero;
  if (!IsUnicastIpv6(packet + kIpv6Source)) return HeaderFault::kMartianSource;
  if (!IsUnicastIpv6(packet + kIpv6Destination)) return HeaderFault::kMartianDestination;
  return HeaderFault::kNone;
}

bool Ipv6OptionsAreHarmless(const uint8_t* packet, const InnerHeader& header) noexcept {
  ExtensionWalk walk(packet, header.total_length);
  for (Extension extension; walk.Next(&extension);) {
    if (extension.type == kRouting) return false;
    const bool has_options = extension.type == kHopByHop || extension.type == kDestinationOptions;
    if (has_options && !OptionsOfAreHarmless(extension)) return false;
  }
  return true;
}

// HOT
bool IsUnicastIpv6(const uint8_t* address) noexcept {
  if (address[0] == 0xff) return false;                                 // multicast
  if (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) return false;  // link-local
  if ((LoadBe32(address) | LoadBe32(address + 4)) != 0) return true;
  const uint32_t third = LoadBe32(address + 8);
  if (third == 0xffff) return false;                // ::ffff:0:0/96, IPv4-mapped
  return third != 0 || LoadBe32(address + 12) > 1;  // :: and ::1
}

}  // namespace twill
