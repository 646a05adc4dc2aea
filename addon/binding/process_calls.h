// Calls about the process and the host rather than about an engine.
#pragma once

#include <napi.h>

namespace twill {

void AddProcessCalls(Napi::Env env, Napi::Object exports);

}  // namespace twill
