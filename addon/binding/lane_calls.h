// Opening, filling and reading the lane of an engine, for JavaScript.
#pragma once

#include <napi.h>

namespace twill {

// Adds the calls to `exports`.
void AddLaneCalls(Napi::Env env, Napi::Object exports);

}  // namespace twill
