// The configuration of the plugin that does the work (bridge, unless told otherwise), made from the network
// configuration and subnet.env. Nothing here does anything.
#pragma once

#include "json.h"
#include "request.h"
#include "subnet_env.h"

namespace twill::cni {

// What the delegate gets. Keys the operator gave are kept; `name`, `ipam.ranges` and, when the network has one,
// `cniVersion` are always ours. Throws Fault 7 for a delegate that sets what only this plugin can know.
Json ComposeDelegate(const Configuration& config, const SubnetEnv& env);

// `prevResult` with a gateway in every route, as the delegate's CHECK needs it. A route that names none, as ours to the
// Network, is made through the first gateway of its family (ConfigureIface in pkg/ipam of containernetworking/plugins);
// CHECK compares literally with what the kernel has, and does not find it. Whatever is no result is left to the
// delegate to refuse.
Json WithGateways(const Json& prev_result);

}  // namespace twill::cni
