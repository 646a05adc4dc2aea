// Runs another CNI plugin, found in the folders of CNI_PATH, with a configuration on its stdin. Its stderr is ours.
#pragma once

#include <string>
#include <vector>

#include "json.h"
#include "request.h"

namespace twill::cni {

// Runs the plugin that `delegate.type` names and returns its stdout. Throws Fault 5 when it is not there, 7 for a type
// that is no name, else the plugin's own.
std::string RunPlugin(Command command, const Json& delegate, const std::vector<std::string>& path);

// Whether the plugin speaks a version of the specification. Throws Fault 5 when it is not there.
bool Speaks(const Json& delegate, const std::string& version, const std::vector<std::string>& path);

}  // namespace twill::cni
