// What the runtime asks for: CNI_* variables and the network configuration on stdin, checked before anything is done.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"

namespace twill::cni {

// Versions of the specification this plugin speaks, oldest first.
inline constexpr std::string_view kVersions[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
inline constexpr std::string_view kCurrentVersion = "1.1.0";

enum class Command { kAdd, kDel, kCheck, kStatus, kGc, kVersion };

// Its name in CNI_COMMAND.
std::string_view NameOf(Command command);

// The variables of a command.
struct Environment {
  Command command;
  std::string container_id;
  std::string ifname;
  std::string netns;
  std::vector<std::string> path;  // folders with plugins
};

struct Attachment {
  std::string container_id;
  std::string ifname;
};

// The plugin's part of a network configuration.
struct Configuration {
  std::string version;
  bool has_version;  // whether the configuration named it; a delegate is told only then
  std::string name;
  std::string subnet_file;
  std::string data_dir;
  Json delegate;  // an object
  Json ipam;      // an object
  std::optional<Json> runtime_config;
  std::optional<Json> prev_result;
  std::optional<std::vector<Attachment>> valid_attachments;  // those that are still there, with GC
};

// Reads the variables. Throws Fault 4 that names what is missing or wrong.
Environment ReadEnvironment();

// Reads the text of stdin. `version` becomes the configuration's as soon as it is known. Throws Fault 1, 6 or 7.
Configuration ReadConfiguration(std::string_view text, std::string* version);

// Whether `version`, one of kVersions, is at least `least`.
bool IsAtLeast(std::string_view version, std::string_view least);

// An environment variable; empty where there is none.
std::string Variable(const char* name);

}  // namespace twill::cni
