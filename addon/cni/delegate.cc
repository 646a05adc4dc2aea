#include "delegate.h"

#include <algorithm>

#include "fault.h"

namespace twill::cni {

namespace {

void CheckDelegate(const Json& delegate) {
  const Json* type = delegate.Find("type");
  if (type != nullptr && !type->IsString()) {
    throw Fault(kBadConfig, "'delegate' dictionary, if present, must have (string) 'type' field");
  }
  for (const char* key : {"name", "ipam"}) {
    if (delegate.Find(key) != nullptr) {
      throw Fault(kBadConfig, std::string("'delegate' must not have '") + key + "': it is set by this plugin");
    }
  }
}

void SetDefault(Json* object, const char* key, Json value) {
  if (object->FindValue(key) == nullptr) object->Set(key, std::move(value));
}

bool IsRoute(const Json& route) {
  const Json* dst = route.Find("dst");
  return dst != nullptr && dst->IsString();
}

// An object with this one member.
Json With(const char* key, const std::string& text) {
  Json object = Json::Object();
  object.Set(key, Json::String(text));
  return object;
}

Json RoutesOf(const Json& ipam) {
  const Json* routes = ipam.FindValue("routes");
  if (routes == nullptr) return Json::Array();
  if (!routes->IsArray() || !std::all_of(routes->items().begin(), routes->items().end(), IsRoute)) {
    throw Fault(kBadConfig, "\"ipam.routes\" is " + routes->Write() + ": expected a list of {dst}");
  }
  return *routes;
}

bool IsIpv6(const Json& text) { return text.text().find(':') != std::string::npos; }

bool IsGiven(const Json* value) { return value != nullptr && !(value->IsString() && value->text().empty()); }

Json WithGateway(const Json& route, const std::vector<Json>& gateways) {
  if (!IsRoute(route) || IsGiven(route.FindValue("gw"))) return route;
  const bool is_ipv6 = IsIpv6(*route.Find("dst"));
  for (const Json& gateway : gateways) {
    if (IsIpv6(gateway) != is_ipv6) continue;
    Json completed = route;
    completed.Set("gw", gateway);
    return completed;
  }
  return route;
}

}  // namespace

Json ComposeDelegate(const Configuration& config, const SubnetEnv& env) {
  CheckDelegate(config.delegate);
  Json composed = config.delegate;
  composed.Set("name", Json::String(config.name));
  if (config.runtime_config) composed.Set("runtimeConfig", *config.runtime_config);
  SetDefault(&composed, "type", Json::String("bridge"));
  // Who masquerades, the daemon or the bridge: never both, never neither.
  SetDefault(&composed, "ipMasq", Json::Boolean(!env.ip_masq));
  SetDefault(&composed, "mtu", Json::Number(env.mtu_bytes));
  if (composed.Find("type")->text() == "bridge") SetDefault(&composed, "isGateway", Json::Boolean(true));
  if (config.has_version) composed.Set("cniVersion", Json::String(config.version));

  Json ipam = config.ipam;
  SetDefault(&ipam, "type", Json::String("host-local"));
  Json ranges = Json::Array();
  for (const std::string& subnet : env.subnets) {
    Json set = Json::Array();
    set.Append(With("subnet", subnet));
    ranges.Append(std::move(set));
  }
  ipam.Set("ranges", std::move(ranges));
  Json routes = RoutesOf(config.ipam);
  for (const std::string& network : env.networks) routes.Append(With("dst", network));
  ipam.Set("routes", std::move(routes));
  composed.Set("ipam", std::move(ipam));
  return composed;
}

Json WithGateways(const Json& prev_result) {
  const Json* routes = prev_result.Find("routes");
  if (routes == nullptr || !routes->IsArray()) return prev_result;
  std::vector<Json> gateways;
  if (const Json* ips = prev_result.Find("ips")) {
    for (const Json& ip : ips->items()) {
      const Json* gateway = ip.Find("gateway");
      if (gateway != nullptr && gateway->IsString() && !gateway->text().empty()) gateways.push_back(*gateway);
    }
  }
  Json completed = Json::Array();
  for (const Json& route : routes->items()) completed.Append(WithGateway(route, gateways));
  Json result = prev_result;
  result.Set("routes", std::move(completed));
  return result;
}

}  // namespace twill::cni
