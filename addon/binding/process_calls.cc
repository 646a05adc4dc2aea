#include "binding/process_calls.h"

#include <sys/prctl.h>
#include <unistd.h>

#include "binding/arguments.h"
#include "kernel/sd_notify.h"
#include "kernel/udp_socket.h"

namespace twill {

namespace {

// nameThread(name): the name of the calling thread, of which the kernel keeps 15 bytes; for top -H and /proc. Node
// names a worker's thread from 22 on only.
Napi::Value NameThread(const Napi::CallbackInfo& info) {
  if (CheckArguments(info, 1, "nameThread(name)")) {
    ::prctl(PR_SET_NAME, info[0].ToString().Utf8Value().c_str(), 0, 0, 0);
  }
  return info.Env().Undefined();
}

// exitNow(code): ends the process without waiting for its threads, which exit() of Node joins.
Napi::Value ExitNow(const Napi::CallbackInfo& info) {
  if (CheckArguments(info, 1, "exitNow(code)")) ::_exit(info[0].ToNumber().Int32Value());
  return info.Env().Undefined();
}

// innerPathMtu(source, peer, port) → bytes, or -errno. Addresses are a number, or four words of IPv6.
Napi::Value InnerPathMtu(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 3, "innerPathMtu(source, peer, port)")) return info.Env().Undefined();
  const HostAddress source = HostOf(info[0]), peer = HostOf(info[1]);
  const auto port = static_cast<uint16_t>(info[2].ToNumber().Uint32Value());
  return ToNumber(info.Env(), QueryInnerPathMtu(source, peer, port));
}

// sdNotify(path, text) → 0 or -errno
Napi::Value SdNotifyCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 2, "sdNotify(path, text)")) return info.Env().Undefined();
  return ToNumber(info.Env(), SdNotify(info[0].ToString().Utf8Value(), info[1].ToString().Utf8Value()));
}

}  // namespace

void AddProcessCalls(Napi::Env env, Napi::Object exports) {
  exports.Set("nameThread", Napi::Function::New(env, NameThread, "nameThread"));
  exports.Set("exitNow", Napi::Function::New(env, ExitNow, "exitNow"));
  exports.Set("innerPathMtu", Napi::Function::New(env, InnerPathMtu, "innerPathMtu"));
  exports.Set("sdNotify", Napi::Function::New(env, SdNotifyCall, "sdNotify"));
}

}  // namespace twill
