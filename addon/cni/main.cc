// The CNI plugin as one file that needs nothing: /opt/cni/bin/flannel of a node, /flannel of the image. A container
// runtime runs it once for each pod, many at a time.
//
// A program of its own, linked statically, because a node has no Node.js and starts pods in bursts
// (docs/adr/0009-cni-plugin-in-one-file.md). Of the addon it shares one header.

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "fault.h"
#include "files.h"
#include "plugin.h"
#include "request.h"

namespace twill::cni {
namespace {

constexpr size_t kMaxInputBytes = 8 << 20;

std::string Versions() {
  Json versions = Json::Array();
  for (const std::string_view version : kVersions) versions.Append(Json::String(version));
  Json answer = Json::Object();
  answer.Set("cniVersion", Json::String(kCurrentVersion));
  answer.Set("supportedVersions", std::move(versions));
  return answer.Write();
}

std::string ReadInput() {
  std::string text;
  const int read = ReadAll(STDIN_FILENO, kMaxInputBytes, &text);
  if (read < 0) throw Fault(kIo, Explain("cannot read", "the network configuration", -read));
  return text;
}

std::string Describe(const Fault& fault, const std::string& version) {
  Json answer = Json::Object();
  answer.Set("cniVersion", Json::String(version));
  answer.Set("code", Json::Number(static_cast<uint64_t>(fault.code)));
  answer.Set("msg", Json::String(fault.message));
  if (!fault.details.empty()) answer.Set("details", Json::String(fault.details));
  return answer.Write();
}

void PrintUsage() {
  std::fputs("twill-cni: a CNI plugin, run by a container runtime. CNI protocol versions supported:", stderr);
  const char* separator = " ";
  for (const std::string_view version : kVersions) {
    std::fprintf(stderr, "%s%s", separator, version.data());
    separator = ", ";
  }
  std::fputc('\n', stderr);
}

// Returns the exit code.
int Main() {
  if (std::getenv("CNI_COMMAND") == nullptr) {
    PrintUsage();
    return 0;
  }
  std::signal(SIGPIPE, SIG_IGN);  // a delegate that does not read its stdin
  std::string version(kCurrentVersion);
  std::string answer;
  int code = 0;
  try {
    const Environment request = ReadEnvironment();
    if (request.command == Command::kVersion) answer = Versions();
    else answer = RunCni(request, ReadConfiguration(ReadInput(), &version));
  } catch (const Fault& fault) {
    answer = Describe(fault, version);
    code = 1;
  } catch (const std::exception& error) {
    answer = Describe(Fault(kInternal, error.what()), version);
    code = 1;
  }
  return WriteAll(STDOUT_FILENO, answer) < 0 ? 1 : code;
}

}  // namespace
}  // namespace twill::cni

int main() { return twill::cni::Main(); }
