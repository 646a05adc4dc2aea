// The CNI plugin: reads subnet.env, makes a configuration for another plugin (bridge by default), and runs that.
//
//   ADD     compose ─► keep ─► delegate ADD; its result is ours
//   DEL     what was kept ─► delegate DEL ─► forget, and only then; nothing kept is success
//   CHECK   what was kept ─► delegate CHECK with the runtime's prevResult, its routes completed
//   STATUS  subnet.env can be read and the delegate is there ─► delegate STATUS, if it speaks that version
//   GC      delegate GC ─► forget attachments of this network that are no longer valid
#pragma once

#include <string>

#include "request.h"

namespace twill::cni {

// Carries out a command, but VERSION, and returns what belongs on stdout. Throws Fault.
std::string RunCni(const Environment& request, const Configuration& config);

}  // namespace twill::cni
