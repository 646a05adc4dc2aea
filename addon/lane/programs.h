// The two programs of the lane, written for one host: its addresses and devices are constants of their instructions.
//
// encap runs for what leaves by the TUN device, decap for what arrives at the uplink. What they do not take goes on as
// if they were not there. Each is one way down through checks; encap.cc and decap.cc say them in their order.
#pragma once

#include <cstdint>

#include "lane/assembler.h"

namespace twill {

// Descriptors.
struct LaneMapFds {
  int config;
  int routes;
  int peers;
  int flows;
  int behind;
  int workers;
  int totals;
};

// Addresses in host order.
struct LaneHost {
  uint32_t own_network;
  uint32_t own_mask;
  uint32_t listen_address;
  uint32_t public_ip;
  uint16_t port;
  uint32_t tun_index;
  uint32_t uplink_index;
};

void WriteEncap(bpf::Assembler* program, const LaneHost& host, const LaneMapFds& maps) noexcept;
void WriteDecap(bpf::Assembler* program, const LaneHost& host, const LaneMapFds& maps) noexcept;

// The kernel lends bpf_fib_lookup to programs under the GPL or a licence that goes with it. So these two programs, and
// nothing else of twill, are under the MIT licence or the GPL 2.0 as well, as their user chooses.
inline constexpr const char* kProgramLicense = "Dual MIT/GPL";

}  // namespace twill
