// What the plugin answers when it cannot do what it was asked: one JSON object on stdout and exit code 1.
//
// Thrown where it happens and answered in main.cc. This program does one thing and ends, so nothing is caught before,
// but where a command means something else by it (STATUS, and asking a delegate for its versions).
#pragma once

#include <string>
#include <utility>

namespace twill::cni {

// Error codes of the CNI specification, section "Error", and of its skeleton.
inline constexpr int kIncompatibleVersion = 1;
inline constexpr int kUnknownContainer = 3;
inline constexpr int kBadEnvironment = 4;
inline constexpr int kIo = 5;
inline constexpr int kUndecodable = 6;
inline constexpr int kBadConfig = 7;
inline constexpr int kSameNamespace = 8;
inline constexpr int kNotAvailable = 50;
inline constexpr int kInternal = 999;

// A failure with the code a runtime expects.
struct Fault {
  Fault(int code, std::string message, std::string details = "")
      : code(code), message(std::move(message)), details(std::move(details)) {}

  int code;
  std::string message;
  std::string details;  // empty: left out
};

}  // namespace twill::cni
