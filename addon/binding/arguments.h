// What crosses to JavaScript and back, in one place: arguments that are checked, and errors.
//
// Wrong arguments are a TypeError, the only thing that is ever thrown. An error is a number, -errno, where the call
// says what failed; where it may be one of several system calls it is a Failure, which becomes `{errno, operation}`.
#pragma once

#include <napi.h>

#include <optional>
#include <vector>

#include "kernel/failure.h"
#include "packet/address.h"

namespace twill {

inline void ThrowTypeError(const Napi::Env& env, const char* message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
}

// Whether there are `count` arguments; else throws, with `usage` for a message.
inline bool CheckArguments(const Napi::CallbackInfo& info, size_t count, const char* usage) {
  bool good = info.Length() >= count;
  for (size_t i = 0; good && i < count; i++) good = !info[i].IsUndefined();
  if (!good) ThrowTypeError(info.Env(), usage);
  return good;
}

// A host: a number of IPv4 in host order, or an array of the four words of IPv6. All zeros, which no host has, when it
// is neither.
inline HostAddress HostOf(const Napi::Value& value) {
  HostAddress host{};
  host.is_v6 = value.IsArray();
  if (!host.is_v6) {
    if (value.IsNumber()) host.address.words[0] = value.As<Napi::Number>().Uint32Value();
    return host;
  }
  const auto words = value.As<Napi::Array>();
  for (uint32_t i = 0; i < 4; i++) host.address.words[i] = words.Get(i).ToNumber().Uint32Value();
  return host;
}

// Numbers of descriptors; none for what is no array.
inline std::vector<int> Descriptors(const Napi::Value& value) {
  std::vector<int> numbers;
  if (!value.IsArray()) return numbers;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) numbers.push_back(array.Get(i).ToNumber().Int32Value());
  return numbers;
}

inline Napi::Value ToNumber(const Napi::Env& env, double value) { return Napi::Number::New(env, value); }

inline Napi::Object ToObject(const Napi::Env& env, const Failure& failure) {
  auto object = Napi::Object::New(env);
  object.Set("errno", failure.error);
  object.Set("operation", failure.operation);
  return object;
}

// `value` as a typed array of `least` elements or more.
template <typename Array, napi_typedarray_type Type>
std::optional<Array> TypedArray(const Napi::Value& value, size_t least) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != Type) return {};
  auto array = value.As<Array>();
  if (array.ElementLength() < least) return {};
  return array;
}
inline constexpr auto Float64s = TypedArray<Napi::Float64Array, napi_float64_array>;
inline constexpr auto Uint32s = TypedArray<Napi::Uint32Array, napi_uint32_array>;
inline constexpr auto Int32s = TypedArray<Napi::Int32Array, napi_int32_array>;

}  // namespace twill
