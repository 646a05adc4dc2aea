#include "request.h"

#include <net/if.h>

#include <algorithm>
#include <cstdlib>

#include "fault.h"

namespace twill::cni {

namespace {

constexpr const char* kSubnetFile = "/run/flannel/subnet.env";
constexpr const char* kDataDir = "/var/lib/cni/flannel";

struct CommandInfo {
  std::string_view name;
  Command command;
  std::vector<const char*> required;
};

const std::vector<CommandInfo>& Commands() {
  static const std::vector<const char*> attached = {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"};
  static const std::vector<CommandInfo> commands = {
      {"ADD", Command::kAdd, attached},
      {"DEL", Command::kDel, {"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"}},
      {"CHECK", Command::kCheck, attached},
      {"STATUS", Command::kStatus, {"CNI_PATH"}},
      {"GC", Command::kGc, {"CNI_PATH"}},
      {"VERSION", Command::kVersion, {}},
  };
  return commands;
}

// An identifier becomes a file name, so it must not be able to leave its folder.
constexpr size_t kMaxIdentifier = 200;
constexpr size_t kMaxIfname = IFNAMSIZ - 1;

bool IsLetterOrDigit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool IsIdentifier(std::string_view text) {
  const auto fits = [](char c) { return IsLetterOrDigit(c) || c == '_' || c == '.' || c == '-'; };
  return !text.empty() && text.size() <= kMaxIdentifier && IsLetterOrDigit(text[0]) &&
         std::all_of(text.begin(), text.end(), fits);
}

bool IsIfname(std::string_view text) {
  return text.size() <= kMaxIfname && text != "." && text != ".." &&
         text.find_first_of("/: \t\n\v\f\r") == std::string_view::npos;
}

template <typename Names>
std::string Joined(const Names& names, const char* separator) {
  std::string all;
  for (const auto& name : names) all.append(all.empty() ? "" : separator).append(name);
  return all;
}

const CommandInfo& FindCommand(const std::string& name) {
  std::vector<std::string_view> names;
  for (const CommandInfo& info : Commands()) {
    if (info.name == name) return info;
    names.push_back(info.name);
  }
  throw Fault(kBadEnvironment, "CNI_COMMAND is " + Quote(name) + ": expected one of " + Joined(names, ", "));
}

std::string StringOf(const Json& config, const char* key, const char* otherwise) {
  const Json* value = config.FindValue(key);
  if (value == nullptr) return otherwise;
  if (!value->IsString()) {
    throw Fault(kBadConfig, Quote(key) + " is " + value->Write() + ": expected a string");
  }
  return value->text().empty() ? otherwise : value->text();
}

Json ObjectOf(const Json& config, const char* key) {
  const Json* value = config.FindValue(key);
  if (value == nullptr) return Json::Object();
  if (!value->IsObject()) {
    throw Fault(kBadConfig, Quote(key) + " is " + value->Write() + ": expected an object");
  }
  return *value;
}

std::optional<Json> ValueOf(const Json& config, const char* key) {
  const Json* value = config.Find(key);
  return value == nullptr ? std::nullopt : std::optional<Json>(*value);
}

std::optional<std::vector<Attachment>> AttachmentsOf(const Json& config) {
  constexpr const char* kKey = "cni.dev/valid-attachments";
  const Json* list = config.Find(kKey);
  if (list == nullptr) return std::nullopt;
  const auto is_attachment = [](const Json& one) {
    const Json* id = one.Find("containerID");
    const Json* ifname = one.Find("ifname");
    return id != nullptr && id->IsString() && ifname != nullptr && ifname->IsString();
  };
  if (!list->IsArray() || !std::all_of(list->items().begin(), list->items().end(), is_attachment)) {
    throw Fault(kBadConfig, Quote(kKey) + ": expected a list of {containerID, ifname}");
  }
  std::vector<Attachment> attachments;
  for (const Json& one : list->items()) {
    attachments.push_back({one.Find("containerID")->text(), one.Find("ifname")->text()});
  }
  return attachments;
}

Json ParseObject(std::string_view text) {
  try {
    Json config = Json::Parse(text);
    if (config.IsObject()) return config;
  } catch (const JsonError& error) {
    throw Fault(kUndecodable, "network configuration is no JSON: " + error.message);
  }
  throw Fault(kUndecodable, "network configuration: expected a JSON object");
}

}  // namespace

std::string_view NameOf(Command command) {
  for (const CommandInfo& info : Commands()) {
    if (info.command == command) return info.name;
  }
  return "";
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Environment ReadEnvironment() {
  const CommandInfo& info = FindCommand(Variable("CNI_COMMAND"));
  std::vector<std::string> missing;
  for (const char* name : info.required) {
    if (Variable(name).empty()) missing.emplace_back(name);
  }
  if (!missing.empty()) {
    throw Fault(kBadEnvironment, "required env variables [" + Joined(missing, ",") + "] missing");
  }
  Environment request;
  request.command = info.command;
  request.container_id = Variable("CNI_CONTAINERID");
  request.ifname = Variable("CNI_IFNAME");
  request.netns = Variable("CNI_NETNS");
  if (!request.container_id.empty() && !IsIdentifier(request.container_id)) {
    throw Fault(kBadEnvironment,
                "CNI_CONTAINERID is " + Quote(request.container_id) +
                    ": expected letters, digits, \"_\", \".\" and \"-\", beginning with a letter or digit");
  }
  if (!request.ifname.empty() && !IsIfname(request.ifname)) {
    throw Fault(kBadEnvironment, "CNI_IFNAME is " + Quote(request.ifname) + ": expected an interface name of at most " +
                                     std::to_string(kMaxIfname) + " characters");
  }
  std::string folders = Variable("CNI_PATH") + ":";
  for (size_t at = 0, colon; (colon = folders.find(':', at)) != std::string::npos; at = colon + 1) {
    if (colon > at) request.path.push_back(folders.substr(at, colon - at));
  }
  return request;
}

Configuration ReadConfiguration(std::string_view text, std::string* version) {
  const Json json = ParseObject(text);
  Configuration config;
  config.version = StringOf(json, "cniVersion", "");
  config.has_version = !config.version.empty();
  if (!config.has_version) config.version = kVersions[0];
  if (std::find(std::begin(kVersions), std::end(kVersions), config.version) == std::end(kVersions)) {
    throw Fault(kIncompatibleVersion, "cniVersion is " + Quote(config.version) + ": this plugin speaks " +
                                          Joined(kVersions, ", "));
  }
  *version = config.version;
  config.name = StringOf(json, "name", "");
  if (config.name.empty()) throw Fault(kBadConfig, "missing network name");
  if (!IsIdentifier(config.name)) {
    throw Fault(kBadConfig, "network name is " + Quote(config.name) + ": invalid characters");
  }
  config.subnet_file = StringOf(json, "subnetFile", kSubnetFile);
  config.data_dir = StringOf(json, "dataDir", kDataDir);
  config.delegate = ObjectOf(json, "delegate");
  config.ipam = ObjectOf(json, "ipam");
  config.runtime_config = ValueOf(json, "runtimeConfig");
  config.prev_result = ValueOf(json, "prevResult");
  config.valid_attachments = AttachmentsOf(json);
  return config;
}

bool IsAtLeast(std::string_view version, std::string_view least) {
  const auto place = [](std::string_view one) { return std::find(std::begin(kVersions), std::end(kVersions), one); };
  return place(version) >= place(least);
}

}  // namespace twill::cni
