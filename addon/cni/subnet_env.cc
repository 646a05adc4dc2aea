#include "subnet_env.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "fault.h"
#include "json.h"

namespace twill::cni {

namespace {

// Digits and nothing else, at most `max`.
bool ParseNumber(std::string_view text, uint32_t max, uint32_t* value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && stop == end && *value <= max;
}

// "10.1.17.1/24" is "10.1.17.0/24". Returns whether it is a network of the family.
bool Mask(int family, std::string_view text, std::string* network) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string address(text.substr(0, slash));
  uint8_t bytes[sizeof(in6_addr)];
  const uint32_t size = family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr);
  uint32_t length;
  if (!ParseNumber(text.substr(slash + 1), size * 8, &length)) return false;
  if (::inet_pton(family, address.c_str(), bytes) != 1) return false;
  for (uint32_t i = 0; i < size; i++) {
    const uint32_t kept = std::min(8u, length - std::min(length, i * 8));
    bytes[i] &= static_cast<uint8_t>(0xff00 >> kept);
  }
  char masked[INET6_ADDRSTRLEN];
  ::inet_ntop(family, bytes, masked, sizeof masked);
  *network = std::string(masked) + "/" + std::to_string(length);
  return true;
}

class Reader {
 public:
  Reader(std::string_view text, const std::string& path) : path_(path) {
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      const size_t at = line.find('=');
      if (at != std::string_view::npos) values_[std::string(line.substr(0, at))] = line.substr(at + 1);
    }
  }

  bool Has(const char* key) const { return values_.count(key) > 0; }
  std::string Get(const char* key) const { return Has(key) ? values_.at(key) : ""; }

  // A list with commas, behind what is there already.
  void AddNetworks(const char* key, int family, std::vector<std::string>* networks) const {
    const std::string list = Get(key) + ",";
    for (size_t at = 0, comma; (comma = list.find(',', at)) != std::string::npos; at = comma + 1) {
      if (comma == at) continue;
      std::string network;
      if (!Mask(family, list.substr(at, comma - at), &network)) ThrowWrong(key, "networks in CIDR notation");
      if (std::find(networks->begin(), networks->end(), network) == networks->end()) networks->push_back(network);
    }
  }

  uint32_t GetNumber(const char* key) const {
    uint32_t value;
    if (!ParseNumber(Get(key), UINT32_MAX, &value)) ThrowWrong(key, "a number of bytes");
    return value;
  }

 private:
  [[noreturn]] void ThrowWrong(const char* key, const char* expected) const {
    throw Fault(kBadConfig, path_ + ": " + key + " is " + Quote(Get(key)) + ": expected " + expected);
  }

  const std::string& path_;
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace

SubnetEnv ParseSubnetEnv(std::string_view text, const std::string& path) {
  const Reader reader(text, path);
  SubnetEnv env;
  reader.AddNetworks("FLANNEL_NETWORK", AF_INET, &env.networks);
  reader.AddNetworks("FLANNEL_IPV6_NETWORK", AF_INET6, &env.networks);
  reader.AddNetworks("FLANNEL_SUBNET", AF_INET, &env.subnets);
  reader.AddNetworks("FLANNEL_IPV6_SUBNET", AF_INET6, &env.subnets);
  std::string missing;
  if (env.networks.empty()) missing += ", FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK";
  if (env.subnets.empty()) missing += ", FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET";
  for (const char* key : {"FLANNEL_MTU", "FLANNEL_IPMASQ"}) {
    if (!reader.Has(key)) missing += std::string(", ") + key;
  }
  if (!missing.empty()) throw Fault(kBadConfig, path + " is missing " + missing.substr(2));
  env.mtu_bytes = reader.GetNumber("FLANNEL_MTU");
  env.ip_masq = reader.Get("FLANNEL_IPMASQ") == "true";
  return env;
}

}  // namespace twill::cni
