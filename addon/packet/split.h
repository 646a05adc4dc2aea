// Splitting a superpacket: one header template, stamped before each piece of the payload.
//
// What each packet of the result carries (RFC 9293, RFC 768, Linux tcp_gso_segment and __udp_gso_segment):
//   IPv4: its own total length, IP ID counting up from the superpacket's, a fresh header checksum, TTL one lower
//   IPv6: its own payload length, hop limit one lower; extension headers as they are
//   TCP:  sequence number advanced by the bytes before it; FIN and PSH on the last only, CWR on the first only
//   UDP:  its own length; a zero checksum stays zero
// Options, acknowledgement, window and all other flags are the superpacket's. The payload is copied and summed in one
// pass; the sums over the constant parts of the headers are taken once.
#pragma once

#include "packet/inner.h"

namespace twill {

// With CAP_NET_RAW a container writes superpackets of any gso_size, 60,000 pieces of one byte in one read. The kernel
// itself makes at most 128 of UDP (UDP_MAX_SEGMENTS), and 862 of TCP at an MSS of 88 with timestamps. Who offers an
// MSS below 76 may lose a full superpacket; TCP then sends smaller ones.
inline constexpr uint32_t kMaxPieces = 1024;

// IPv6 with as many extension headers as are followed, TCP with options.
inline constexpr size_t kMaxHeaders = kIpv6Header + kMaxExtensionBytes + 60;

class SegmentTemplate {
 public:
  // `packet` was parsed into `header`, is TCP or UDP, no fragment, without a routing header, and its transport header
  // ends at `headers_length`.
  void Init(const uint8_t* packet, const InnerHeader& header, size_t headers_length, bool keep_zero_checksum) noexcept;

  // Writes headers and payload at `to`, which has room for the headers and payload_length bytes.
  // `index` counts from 0; `offset` is the number of payload bytes before this piece.
  void Write(uint8_t* to, const uint8_t* payload, size_t payload_length, uint32_t index, uint32_t offset,
             bool last) const noexcept;

 private:
  uint8_t headers_[kMaxHeaders];
  size_t headers_length_;
  size_t ip_length_;
  uint64_t ip_sum_;         // IPv4 header without total length, ID and checksum
  uint64_t transport_sum_;  // pseudo header without length; transport header without sequence, flags word, checksum
  uint32_t sequence_;
  uint16_t id_;
  uint16_t flags_word_;     // TCP data offset and flags
  uint8_t protocol_;
  bool is_v6_;
  bool keep_zero_checksum_;
};

}  // namespace twill
