#include "plugin.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "attachments.h"
#include "delegate.h"
#include "fault.h"
#include "files.h"
#include "run_plugin.h"
#include "subnet_env.h"

namespace twill::cni {

namespace {

constexpr size_t kMaxSubnetFileBytes = 1 << 20;

Json Compose(const Configuration& config) {
  std::string text;
  const int read = ReadFile(config.subnet_file, kMaxSubnetFileBytes, &text);
  if (read < 0) {
    throw Fault(kIo, "failed to load flannel 'subnet.env' file: " + Explain("open", config.subnet_file, -read) +
                         ". Is the daemon of this host running?");
  }
  return ComposeDelegate(config, ParseSubnetEnv(text, config.subnet_file));
}

void RequireVersion(const Configuration& config, const char* least, Command command) {
  if (IsAtLeast(config.version, least)) return;
  throw Fault(kIncompatibleVersion, "config version does not allow " + std::string(NameOf(command)) + ": it is " +
                                        config.version + ", expected " + least + " or later");
}

// A runtime that gives its own namespace would have its own interfaces renamed and removed.
void RefuseOwnNamespace(const std::string& netns) {
  const std::string allowed = Variable("CNI_NETNS_OVERRIDE");
  if (netns.empty() || allowed == "true" || allowed == "1") return;
  struct stat given, own;
  if (::stat(netns.c_str(), &given) < 0 || ::stat("/proc/self/ns/net", &own) < 0) return;
  if (given.st_ino == own.st_ino && given.st_dev == own.st_dev) {
    throw Fault(kSameNamespace, "plugin's netns and netns from CNI_NETNS should not be the same: " + netns);
  }
}

std::string Add(const Environment& request, const Configuration& config) {
  RefuseOwnNamespace(request.netns);
  const Json delegate = Compose(config);
  SaveAttachment(config.data_dir, request.container_id, request.ifname, delegate);
  return RunPlugin(Command::kAdd, delegate, request.path);
}

void Delete(const Environment& request, const Configuration& config) {
  RefuseOwnNamespace(request.netns);
  ForgetUnfinished(config.data_dir, request.container_id, request.ifname);
  const auto saved = FindAttachment(config.data_dir, request.container_id, request.ifname, config.name);
  if (!saved) return;
  if (!saved->delegate) {
    std::fprintf(stderr, "%s: not a delegate's configuration, left alone\n", saved->path.c_str());
    return;
  }
  RunPlugin(Command::kDel, *saved->delegate, request.path);
  ForgetAttachment(saved->path);
}

void Check(const Environment& request, const Configuration& config) {
  RequireVersion(config, "0.4.0", Command::kCheck);
  auto saved = FindAttachment(config.data_dir, request.container_id, request.ifname, config.name);
  if (!saved || !saved->delegate) {
    throw Fault(kUnknownContainer, "container " + request.container_id + ", interface " + request.ifname +
                                       ": nothing is kept of it in " + config.data_dir);
  }
  Json& delegate = *saved->delegate;
  // The runtime writes prevResult in its present version, whatever the pod was added with.
  if (config.has_version) delegate.Set("cniVersion", Json::String(config.version));
  if (config.prev_result) delegate.Set("prevResult", WithGateways(*config.prev_result));
  RunPlugin(Command::kCheck, delegate, request.path);
}

void Status(const Environment& request, const Configuration& config) {
  RequireVersion(config, "1.1.0", Command::kStatus);
  Json delegate;
  try {
    delegate = Compose(config);
  } catch (const Fault& fault) {
    throw Fault(kNotAvailable, fault.message, fault.details);
  }
  if (Speaks(delegate, config.version, request.path)) RunPlugin(Command::kStatus, delegate, request.path);
}

Json ListOf(const std::vector<Attachment>& attachments) {
  Json list = Json::Array();
  for (const Attachment& one : attachments) {
    Json attachment = Json::Object();
    attachment.Set("containerID", Json::String(one.container_id));
    attachment.Set("ifname", Json::String(one.ifname));
    list.Append(std::move(attachment));
  }
  return list;
}

void Collect(const Environment& request, const Configuration& config) {
  RequireVersion(config, "1.1.0", Command::kGc);
  // Without the list nothing can be told from what is in use.
  if (!config.valid_attachments) return;
  const std::vector<Attachment>& valid = *config.valid_attachments;
  Json delegate = Compose(config);
  delegate.Set("cni.dev/valid-attachments", ListOf(valid));
  // What a delegate could not clean up must stay known: a DEL may still come.
  if (!Speaks(delegate, config.version, request.path)) return;
  RunPlugin(Command::kGc, delegate, request.path);
  for (const KeptAttachment& kept : ListAttachments(config.data_dir, config.name)) {
    const auto is_it = [&](const Attachment& one) {
      return one.container_id == kept.container_id && (!kept.ifname || one.ifname == *kept.ifname);
    };
    if (std::none_of(valid.begin(), valid.end(), is_it)) ForgetAttachment(kept.path);
  }
}

}  // namespace

std::string RunCni(const Environment& request, const Configuration& config) {
  switch (request.command) {
    case Command::kAdd:
      return Add(request, config);
    case Command::kDel:
      Delete(request, config);
      break;
    case Command::kCheck:
      Check(request, config);
      break;
    case Command::kStatus:
      Status(request, config);
      break;
    case Command::kGc:
      Collect(request, config);
      break;
    case Command::kVersion:
      break;
  }
  return "";
}

}  // namespace twill::cni
