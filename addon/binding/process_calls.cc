#include "binding/process_calls.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "binding/arguments.h"
#include "kernel/udp_socket.h"
#include "kernel/unix_socket.h"

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

// sdNotify(path, text, descriptors?: number[]) → 0 or -errno
Napi::Value SdNotifyCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 2, "sdNotify(path, text)")) return info.Env().Undefined();
  const std::string path = info[0].ToString().Utf8Value(), text = info[1].ToString().Utf8Value();
  return ToNumber(info.Env(), SdNotify(path, text, Descriptors(info[2])));
}

// sdBarrier(path, timeoutMs) → 0 or -errno. Blocks the thread.
Napi::Value SdBarrierCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 2, "sdBarrier(path, timeoutMs)")) return info.Env().Undefined();
  return ToNumber(info.Env(), SdBarrier(info[0].ToString().Utf8Value(), info[1].ToNumber().Int32Value()));
}

// connectUnix(path) → the descriptor of a stream, which is the caller's to close; -errno
Napi::Value ConnectUnixCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 1, "connectUnix(path)")) return info.Env().Undefined();
  Result<UniqueFd> connected = ConnectUnix(info[0].ToString().Utf8Value());
  if (!connected.ok()) return ToNumber(info.Env(), -connected.failure().error);
  return ToNumber(info.Env(), connected.value().Release());
}

// sendMessage(socket, text, descriptors: number[]) → 0 or -errno
Napi::Value SendMessageCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 3, "sendMessage(socket, text, descriptors)")) return info.Env().Undefined();
  const int socket = info[0].ToNumber().Int32Value();
  return ToNumber(info.Env(), SendMessage(socket, info[1].ToString().Utf8Value(), Descriptors(info[2])));
}

// receiveMessage(socket, timeoutMs) → {text, descriptors: number[]}, which are the caller's to close; or {errno,
// operation}. Blocks the thread.
Napi::Value ReceiveMessageCall(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!CheckArguments(info, 2, "receiveMessage(socket, timeoutMs)")) return env.Undefined();
  Result<ReceivedMessage> got = ReceiveMessage(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int32Value());
  if (!got.ok()) return ToObject(env, got.failure());
  Napi::Array descriptors = Napi::Array::New(env);
  uint32_t count = 0;
  for (UniqueFd& fd : got.value().descriptors) descriptors.Set(count++, fd.Release());
  auto object = Napi::Object::New(env);
  object.Set("text", got.value().text);
  object.Set("descriptors", descriptors);
  return object;
}

// peerUser(socket) → the user id that has connected to a unix socket; -errno
Napi::Value PeerUserCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 1, "peerUser(socket)")) return info.Env().Undefined();
  return ToNumber(info.Env(), static_cast<double>(PeerUser(info[0].ToNumber().Int32Value())));
}

// peerProcess(socket) → a descriptor of the process that has connected to a unix socket, the caller's to close; -errno
Napi::Value PeerProcessCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 1, "peerProcess(socket)")) return info.Env().Undefined();
  Result<UniqueFd> process = PeerProcess(info[0].ToNumber().Int32Value());
  return ToNumber(info.Env(), process.ok() ? process.value().Release() : -process.failure().error);
}

// killProcess(process) → 0 or -errno
Napi::Value KillProcessCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 1, "killProcess(process)")) return info.Env().Undefined();
  return ToNumber(info.Env(), KillProcess(info[0].ToNumber().Int32Value()));
}

// memoryFile(name) → a descriptor of an empty file in memory, the caller's to close; -errno
Napi::Value MemoryFile(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 1, "memoryFile(name)")) return info.Env().Undefined();
  const int fd = ::memfd_create(info[0].ToString().Utf8Value().c_str(), MFD_CLOEXEC);
  return ToNumber(info.Env(), fd < 0 ? -errno : fd);
}

// ownDescriptor(fd, duplicate) → a descriptor of the same file, or with duplicate = false itself, that no child process
// inherits; -errno
Napi::Value OwnDescriptor(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 2, "ownDescriptor(fd, duplicate)")) return info.Env().Undefined();
  const int fd = info[0].ToNumber().Int32Value();
  const bool duplicate = info[1].ToBoolean().Value();
  const int result = duplicate ? ::fcntl(fd, F_DUPFD_CLOEXEC, 3) : ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return ToNumber(info.Env(), result < 0 ? -errno : duplicate ? result : fd);
}

}  // namespace

void AddProcessCalls(Napi::Env env, Napi::Object exports) {
  exports.Set("nameThread", Napi::Function::New(env, NameThread, "nameThread"));
  exports.Set("exitNow", Napi::Function::New(env, ExitNow, "exitNow"));
  exports.Set("innerPathMtu", Napi::Function::New(env, InnerPathMtu, "innerPathMtu"));
  exports.Set("sdNotify", Napi::Function::New(env, SdNotifyCall, "sdNotify"));
  exports.Set("sdBarrier", Napi::Function::New(env, SdBarrierCall, "sdBarrier"));
  exports.Set("connectUnix", Napi::Function::New(env, ConnectUnixCall, "connectUnix"));
  exports.Set("sendMessage", Napi::Function::New(env, SendMessageCall, "sendMessage"));
  exports.Set("receiveMessage", Napi::Function::New(env, ReceiveMessageCall, "receiveMessage"));
  exports.Set("peerUser", Napi::Function::New(env, PeerUserCall, "peerUser"));
  exports.Set("peerProcess", Napi::Function::New(env, PeerProcessCall, "peerProcess"));
  exports.Set("killProcess", Napi::Function::New(env, KillProcessCall, "killProcess"));
  exports.Set("memoryFile", Napi::Function::New(env, MemoryFile, "memoryFile"));
  exports.Set("ownDescriptor", Napi::Function::New(env, OwnDescriptor, "ownDescriptor"));
}

}  // namespace twill
