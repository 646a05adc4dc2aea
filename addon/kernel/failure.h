// What the kernel refused, and which call it was: the one shape in which an error with a name leaves the addon.
//
// Where a caller knows the call, a result below zero is -errno instead. binding/arguments.h turns both into what
// JavaScript sees.
#pragma once

#include <cerrno>
#include <utility>
#include <variant>

namespace twill {

struct Failure {
  int error;              // errno, above zero
  const char* operation;  // the system call, ioctl or option that failed: a literal

  // Of the call that has just failed.
  static Failure Of(const char* operation) noexcept { return {errno, operation}; }
};

// A value, or why there is none. Made by `return value` and `return Failure::Of("bind")`.
template <typename Value>
class Result {
 public:
  Result(Value&& value) noexcept : state_(std::move(value)) {}
  Result(Failure failure) noexcept : state_(failure) {}

  bool ok() const noexcept { return std::holds_alternative<Value>(state_); }
  // Only when ok().
  Value& value() noexcept { return *std::get_if<Value>(&state_); }
  // Only when not ok().
  const Failure& failure() const noexcept { return *std::get_if<Failure>(&state_); }

 private:
  std::variant<Value, Failure> state_;
};

}  // namespace twill
