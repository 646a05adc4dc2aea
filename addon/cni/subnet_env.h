// subnet.env as the plugin reads it: what the daemon of this host, twilld or flanneld, wrote about its subnet.
//
// The rules are those of flannel's plugin: lines are split at the first "=", keys match exactly, values are neither
// quoted nor trimmed. A dual-stack flanneld writes IPv6 lines too; they are passed on to the delegate's IPAM.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace twill::cni {

struct SubnetEnv {
  std::vector<std::string> networks;  // of the overlay in CIDR notation, masked, IPv4 before IPv6, each once
  std::vector<std::string> subnets;   // of this host, masked, IPv4 before IPv6
  uint32_t mtu_bytes;
  bool ip_masq;
};

// Reads the text of a subnet.env. Throws Fault 7 that names the file and what is missing or wrong in it.
SubnetEnv ParseSubnetEnv(std::string_view text, const std::string& path);

}  // namespace twill::cni
