// A port for JavaScript: one direction of one queue, owned by the thread that made it.
//
//   new OutboundPort(id, queue, arena), new InboundPort(id, queue, arena): `arena` is an ArrayBuffer of the direction's
//   size, held until close()
//   step() → descriptors to judge, 0 when there is nothing, or -errno. The one crossing for a batch: when there is
//   nothing it sleeps, kMaxWaitMs at most, and looks once more before it returns.
//   close(), idempotent
//
// step is a function of its own for each port, which knows it by its data: a method has to find the port in `this` with
// each call, and a crossing costs more than three times as much.
#pragma once

#include <napi.h>

#include <cerrno>
#include <memory>

#include "binding/arguments.h"
#include "binding/engine_calls.h"

namespace twill {

// `Direction` is OutboundPort or InboundPort.
template <typename Direction>
class Port : public Napi::ObjectWrap<Port<Direction>> {
 public:
  static Napi::Function Class(const Napi::Env& env) {
    return Port::DefineClass(env, Direction::kName, {Port::InstanceMethod("close", &Port::Close)});
  }

  explicit Port(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Port<Direction>>(info) {
    const Napi::Env env = info.Env();
    const auto engine = EngineOf(info, 3, "a port needs: id, queue, arena");
    if (env.IsExceptionPending()) return;
    const size_t queue = info[1].ToNumber().Uint32Value();
    if (!engine || queue >= engine->queue_count() || !info[2].IsArrayBuffer() ||
        info[2].As<Napi::ArrayBuffer>().ByteLength() != Direction::kArenaWords * sizeof(int32_t)) {
      ThrowTypeError(env, "no such engine or queue, or the arena is no ArrayBuffer of the right size");
      return;
    }
    auto arena = info[2].As<Napi::ArrayBuffer>();
    arena_ = Napi::Persistent(arena);
    direction_ = std::make_unique<Direction>(engine, queue, static_cast<int32_t*>(arena.Data()));
    AddStep(env, info.This().As<Napi::Object>());
  }

 private:
  void AddStep(const Napi::Env& env, Napi::Object self) {
    napi_value made = nullptr;
    if (napi_create_function(env, "step", NAPI_AUTO_LENGTH, Step, this, &made) != napi_ok) {
      return ThrowTypeError(env, "step() cannot be made");
    }
    Napi::Function step(env, made);
    step.Set("port", self);  // so that the port is there for as long as its function
    self.Set("step", step);
  }

  static napi_value Step(napi_env env, napi_callback_info info) {
    void* port = nullptr;
    napi_value count = nullptr;
    if (napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &port) != napi_ok) return nullptr;
    napi_create_int32(env, static_cast<Port*>(port)->StepOrSleep(), &count);
    return count;
  }

  int32_t StepOrSleep() noexcept {
    if (!direction_) return -EBADF;
    const int32_t count = direction_->Step();
    if (count != 0) return count;
    const int error = direction_->Wait();
    return error != 0 ? error : direction_->Step();
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    direction_.reset();
    arena_.Reset();
    return info.Env().Undefined();
  }

  Napi::Reference<Napi::ArrayBuffer> arena_;
  std::unique_ptr<Direction> direction_;  // writes to the arena, so it goes first
};

}  // namespace twill
