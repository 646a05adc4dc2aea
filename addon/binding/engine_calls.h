// Opening, probing, reading and closing engines, for JavaScript, which knows an engine by its number.
#pragma once

#include <napi.h>

#include <memory>

#include "engine/engine.h"

namespace twill {

// Adds the calls to `exports`, and closes what this environment has opened and not closed when it is torn down.
void AddEngineCalls(Napi::Env env, Napi::Object exports);

// The engine whose number is the first of `count` arguments; nullptr when there is none, or with an exception.
std::shared_ptr<Engine> EngineOf(const Napi::CallbackInfo& info, size_t count, const char* usage);

}  // namespace twill
