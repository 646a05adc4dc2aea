// The address of a host, of either family, where it is handled by itself. On the way of every packet addresses are
// compared in its buffer.
#pragma once

#include <cstdint>

#include "packet/wire.h"

namespace twill {

// Words in host order, the most significant first; IPv4 has one, and zeros behind it.
struct Address {
  uint32_t words[4];

  static constexpr Address V4(uint32_t address) noexcept { return {{address, 0, 0, 0}}; }
  bool operator==(const Address& other) const noexcept {
    return words[0] == other.words[0] && words[1] == other.words[1] && words[2] == other.words[2] &&
           words[3] == other.words[3];
  }
};

// A host of either family, where the family does not follow from the packet at hand.
struct HostAddress {
  Address address;
  bool is_v6;

  static constexpr HostAddress V4(uint32_t address) noexcept { return {Address::V4(address), false}; }
  bool operator==(const HostAddress& other) const noexcept {
    return address == other.address && is_v6 == other.is_v6;
  }
};

// As it lies in a packet: 4 bytes, or 16.
inline void StoreAddress(uint8_t* at, const Address& address, bool is_v6) noexcept {
  for (int i = 0; i < (is_v6 ? 4 : 1); i++) StoreBe32(at + 4 * i, address.words[i]);
}
inline Address LoadAddress(const uint8_t* at, bool is_v6) noexcept {
  if (!is_v6) return Address::V4(LoadBe32(at));
  return {{LoadBe32(at), LoadBe32(at + 4), LoadBe32(at + 8), LoadBe32(at + 12)}};
}

}  // namespace twill
