// IcmpSocket, for JavaScript: the raw ICMP socket on the event loop of the thread that made it.
//
//   new IcmpSocket(buffer: ArrayBuffer, ends: Uint32Array, onBatch: (count) => void, wide = false)
//   open() → 0 or -errno      send(to, message: Uint8Array) → 0 or -errno      close(), idempotent
//
// `wide` is for ICMPv6: `to` is then the four words of an address, and the source stands before each packet.
//
// One crossing for what has come: onBatch(count) when `count` packets lie in `buffer`, the i-th ending at ends[i]. They
// are overwritten when it has returned. The handle of the event loop does not keep the process alive, and outlives this
// object: libuv lets go of it a turn later. So it has a struct of its own; the cleanup of the environment waits for it.
#pragma once

#include <napi.h>
#include <uv.h>

#include <cerrno>
#include <memory>

#include "kernel/icmp_socket.h"

namespace twill {

class IcmpSocket : public Napi::ObjectWrap<IcmpSocket> {
 public:
  static Napi::Function Class(const Napi::Env& env) {
    return DefineClass(env, "IcmpSocket",
                       {InstanceMethod("open", &IcmpSocket::Open), InstanceMethod("send", &IcmpSocket::Send),
                        InstanceMethod("close", &IcmpSocket::CloseSocket)});
  }

  explicit IcmpSocket(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const bool good = info.Length() >= 3 && info[0].IsArrayBuffer() && info[1].IsTypedArray() && info[2].IsFunction() &&
                      info[0].As<Napi::ArrayBuffer>().ByteLength() >= kMaxIcmpBytes &&
                      info[1].As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array &&
                      info[1].As<Napi::TypedArray>().ElementLength() > 0;
    if (!good) {
      Napi::TypeError::New(info.Env(), "new IcmpSocket(buffer, ends, onBatch): buffer holds one packet at least")
          .ThrowAsJavaScriptException();
      return;
    }
    auto buffer = info[0].As<Napi::ArrayBuffer>();
    auto ends = info[1].As<Napi::Uint32Array>();
    bytes_ = static_cast<uint8_t*>(buffer.Data());
    capacity_ = buffer.ByteLength();
    ends_ = ends.Data();
    count_ = ends.ElementLength();
    buffer_ = Napi::Persistent(buffer);
    ends_array_ = Napi::Persistent(ends);
    on_batch_ = Napi::Persistent(info[2].As<Napi::Function>());
    wide_ = info.Length() > 3 && info[3].ToBoolean().Value();
  }

  ~IcmpSocket() override { CloseNow(); }

 private:
  struct Poll {
    uv_poll_t handle;
    IcmpSocket* owner;  // null once it is closing
    napi_async_cleanup_hook_handle cleanup;
  };

  Napi::Value Open(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (poll_ != nullptr || on_batch_.IsEmpty()) return Napi::Number::New(env, -EBADF);
    int32_t error = 0;
    fd_ = OpenIcmp(wide_, &error);
    if (error != 0) return Napi::Number::New(env, error);
    uv_loop_t* loop = nullptr;
    auto poll = std::make_unique<Poll>();
    // Errors of libuv are -errno.
    error = napi_get_uv_event_loop(env, &loop) == napi_ok ? uv_poll_init(loop, &poll->handle, fd_.get()) : -EINVAL;
    if (error != 0) {
      fd_.Reset();
      return Napi::Number::New(env, error);
    }
    poll_ = poll.release();
    poll_->owner = this;
    poll_->handle.data = poll_;
    napi_add_async_cleanup_hook(env, OnCleanup, poll_, &poll_->cleanup);
    uv_unref(reinterpret_cast<uv_handle_t*>(&poll_->handle));
    error = uv_poll_start(&poll_->handle, UV_READABLE, OnReadable);
    if (error != 0) CloseNow();
    return Napi::Number::New(env, error);
  }

  Napi::Value Send(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 2 || !(wide_ ? IsWords(info[0]) : info[0].IsNumber()) || !info[1].IsTypedArray() ||
        info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
      Napi::TypeError::New(env, "send(to, message: Uint8Array)").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    if (!fd_.valid()) return Napi::Number::New(env, -EBADF);
    auto message = info[1].As<Napi::Uint8Array>();
    if (wide_) {
      uint32_t words[4];
      for (uint32_t i = 0; i < 4; i++) words[i] = info[0].As<Napi::Array>().Get(i).ToNumber().Uint32Value();
      return Napi::Number::New(env, SendIcmp6(fd_.get(), words, message.Data(), message.ElementLength()));
    }
    const uint32_t to = info[0].As<Napi::Number>().Uint32Value();
    return Napi::Number::New(env, SendIcmp(fd_.get(), to, message.Data(), message.ElementLength()));
  }

  static bool IsWords(const Napi::Value& value) {
    if (!value.IsArray() || value.As<Napi::Array>().Length() != 4) return false;
    for (uint32_t i = 0; i < 4; i++)
      if (!value.As<Napi::Array>().Get(i).IsNumber()) return false;
    return true;
  }

  Napi::Value CloseSocket(const Napi::CallbackInfo& info) {
    CloseNow();
    buffer_.Reset();
    ends_array_.Reset();
    on_batch_.Reset();
    return info.Env().Undefined();
  }

  void CloseNow() noexcept {
    if (poll_ != nullptr) {
      poll_->owner = nullptr;
      uv_close(reinterpret_cast<uv_handle_t*>(&poll_->handle), OnClosed);
      poll_ = nullptr;
    }
    fd_.Reset();
  }

  static void OnClosed(uv_handle_t* handle) {
    auto* poll = static_cast<Poll*>(handle->data);
    napi_remove_async_cleanup_hook(poll->cleanup);
    delete poll;
  }

  static void OnCleanup(napi_async_cleanup_hook_handle, void* data) {
    auto* poll = static_cast<Poll*>(data);
    if (poll->owner != nullptr) poll->owner->CloseNow();
  }

  static void OnReadable(uv_poll_t* handle, int status, int) {
    IcmpSocket* self = static_cast<Poll*>(handle->data)->owner;
    const int32_t count = status < 0 ? status : self->Receive();
    if (count == 0) return;
    const Napi::Env env = self->Env();
    const Napi::HandleScope scope(env);
    // It stays while it is called, although the callback may close and forget it.
    const Napi::Object receiver = self->Value();
    self->on_batch_.MakeCallback(receiver, {Napi::Number::New(env, count)});
    if (!env.IsExceptionPending()) return;
    napi_value error = nullptr;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }

  int32_t Receive() noexcept { return ReceiveIcmp(fd_.get(), bytes_, capacity_, ends_, count_, wide_); }

  UniqueFd fd_;
  bool wide_ = false;
  Poll* poll_ = nullptr;
  uint8_t* bytes_ = nullptr;
  size_t capacity_ = 0;
  uint32_t* ends_ = nullptr;
  size_t count_ = 0;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
  Napi::Reference<Napi::Uint32Array> ends_array_;
  Napi::FunctionReference on_batch_;
};

}  // namespace twill
