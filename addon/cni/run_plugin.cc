#include "run_plugin.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "fault.h"
#include "files.h"
#include "kernel/unique_fd.h"

namespace twill::cni {

namespace {

constexpr size_t kMaxOutputBytes = 8 << 20;

bool IsFile(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

std::string FindPlugin(const Json& delegate, const std::vector<std::string>& path) {
  const Json* type = delegate.Find("type");
  const std::string name = type == nullptr ? "" : type->text();
  if (name.empty() || name == "." || name == ".." || name.find_first_of("/ \t\n\v\f\r") != std::string::npos) {
    throw Fault(kBadConfig, "delegate type is " + (type == nullptr ? "missing" : type->Write()) +
                                ": expected a plugin's name");
  }
  std::string folders;
  for (const std::string& folder : path) {
    const std::string file = folder + "/" + name;
    if (IsFile(file)) return file;
    folders.append(folders.empty() ? "" : " ").append(folder);
  }
  throw Fault(kIo, "failed to find plugin " + Quote(name) + " in path [" + folders + "]");
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;

  static Pipe Open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) throw Fault(kInternal, Explain("cannot open", "a pipe", errno));
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
  }
};

// Starts the program with the environment of this one. Returns its process id, or -errno.
pid_t Spawn(const std::string& plugin, int input, int output) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  // This program ignores SIGPIPE (main.cc), which would be inherited.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  ::posix_spawnattr_setsigdefault(&attributes, &signals);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  char* const arguments[] = {const_cast<char*>(plugin.c_str()), nullptr};
  pid_t child = 0;
  const int error = ::posix_spawn(&child, plugin.c_str(), &actions, &attributes, arguments, environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? child : -error;
}

// Writes and reads at once, for a plugin may answer before it has read everything, or read nothing at all. Returns
// false when it said more than kMaxOutputBytes.
bool Exchange(const std::string& input, UniqueFd to, UniqueFd from, std::string* output) {
  ::fcntl(to.get(), F_SETFL, O_NONBLOCK);
  char buffer[16384];
  for (size_t sent = 0; from.valid();) {
    if (sent == input.size()) to.Reset();
    pollfd ready[] = {{from.get(), POLLIN, 0}, {to.get(), POLLOUT, 0}};
    if (::poll(ready, 2, -1) < 0) continue;
    if (ready[1].revents != 0) {
      const ssize_t wrote = ::write(to.get(), input.data() + sent, input.size() - sent);
      if (wrote >= 0) sent += static_cast<size_t>(wrote);
      else if (errno != EAGAIN && errno != EINTR) sent = input.size();  // it does not listen
    }
    if (ready[0].revents == 0) continue;
    const ssize_t got = ::read(from.get(), buffer, sizeof buffer);
    if (got == 0) from.Reset();
    if (got <= 0) continue;
    output->append(buffer, static_cast<size_t>(got));
    if (output->size() > kMaxOutputBytes) return false;
  }
  return true;
}

struct Outcome {
  std::string output;
  std::string failure;  // empty when it ended with 0
};

Outcome Run(const std::string& plugin, const std::string& input) {
  Pipe to = Pipe::Open();
  Pipe from = Pipe::Open();
  const pid_t child = Spawn(plugin, to.read.get(), from.write.get());
  if (child < 0) return {"", Explain("cannot run", "it", -child)};
  to.read.Reset();
  from.write.Reset();
  Outcome outcome;
  const bool is_bounded = Exchange(input, std::move(to.write), std::move(from.read), &outcome.output);
  if (!is_bounded) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!is_bounded) return {"", "it said more than " + std::to_string(kMaxOutputBytes) + " bytes"};
  if (WIFSIGNALED(status)) outcome.failure = "ended by signal " + std::to_string(WTERMSIG(status));
  else if (WEXITSTATUS(status) != 0) outcome.failure = "exit code " + std::to_string(WEXITSTATUS(status));
  return outcome;
}

// What a plugin that failed has said of it; nothing when it died before it could.
Json ReadAnswer(const std::string& output) {
  try {
    return Json::Parse(output);
  } catch (const JsonError&) {
    return Json();
  }
}

std::string TextOf(const Json& answer, const char* key) {
  const Json* value = answer.Find(key);
  return value == nullptr ? "" : value->text();
}

}  // namespace

std::string RunPlugin(Command command, const Json& delegate, const std::vector<std::string>& path) {
  const std::string plugin = FindPlugin(delegate, path);
  std::string name(NameOf(command));
  ::setenv("CNI_COMMAND", name.c_str(), 1);
  Outcome outcome = Run(plugin, delegate.Write());
  if (outcome.failure.empty()) return std::move(outcome.output);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::string action = "failed to delegate " + name + ": " + plugin + ": ";
  const Json answer = ReadAnswer(outcome.output);
  const Json* code = answer.Find("code");
  const int reported = code == nullptr ? 0 : code->ToInt(0);
  if (reported <= 0) throw Fault(kInternal, action + outcome.failure);
  throw Fault(reported, action + TextOf(answer, "msg"), TextOf(answer, "details"));
}

bool Speaks(const Json& delegate, const std::string& version, const std::vector<std::string>& path) {
  try {
    const Json answer = ReadAnswer(RunPlugin(Command::kVersion, delegate, path));
    const Json* versions = answer.Find("supportedVersions");
    if (versions == nullptr) return false;
    const auto is_it = [&](const Json& one) { return one.IsString() && one.text() == version; };
    return std::any_of(versions->items().begin(), versions->items().end(), is_it);
  } catch (const Fault& fault) {
    if (fault.code == kIo) throw;  // it is not there at all
    return false;
  }
}

}  // namespace twill::cni
