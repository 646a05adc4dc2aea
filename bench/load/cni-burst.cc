// Starts a CNI plugin many times at once, as a kubelet does, and waits for all of it.
//
// cni-burst COUNT STDIN_FILE PROGRAM [ARGUMENT]...     in the environment: the CNI_* variables, with %d for the number
//
// Prints one line of JSON: wall and CPU time of all in ms, and how many failed. With SAMPLE=1 also the most that the
// started processes had in memory together, looked at every ms: the sum of their resident sets, and of their
// proportional ones, in which shared pages count once. What they start themselves is not in it.

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

double NowMs() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Ms(const timeval& time) { return time.tv_sec * 1e3 + time.tv_usec / 1e3; }

std::vector<std::string> EnvironmentOf(int number) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; entry++) {
    std::string text = *entry;
    const size_t at = text.rfind("CNI_", 0) == 0 ? text.find("%d") : std::string::npos;
    if (at != std::string::npos) text.replace(at, 2, std::to_string(number));
    all.push_back(std::move(text));
  }
  return all;
}

pid_t Start(int number, const char* input, char** arguments) {
  std::vector<std::string> environment = EnvironmentOf(number);
  std::vector<char*> pointers;
  for (std::string& entry : environment) pointers.push_back(entry.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t child = -1;
  const int error = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments, pointers.data());
  if (error != 0) {
    std::fprintf(stderr, "cannot run %s: %s\n", arguments[0], std::strerror(error));
    std::exit(1);
  }
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

// A field of /proc/<pid>/smaps_rollup, in KiB; 0 for a process that has ended.
long FieldOf(const char* text, const char* name) {
  const char* at = std::strstr(text, name);
  return at == nullptr ? 0 : std::strtol(at + std::strlen(name), nullptr, 10);
}

struct Memory {
  long rss = 0;
  long pss = 0;
};

Memory Look(const std::vector<pid_t>& children) {
  Memory sum;
  for (const pid_t child : children) {
    const std::string path = "/proc/" + std::to_string(child) + "/smaps_rollup";
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    char text[4096];
    const ssize_t got = file < 0 ? 0 : read(file, text, sizeof text - 1);
    text[got < 0 ? 0 : got] = '\0';  // it may have ended by now
    close(file);
    sum.rss += FieldOf(text, "Rss:");
    sum.pss += FieldOf(text, "Pss:");
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const int count = std::atoi(argv[1]);
  const bool samples = std::getenv("SAMPLE") != nullptr;
  std::vector<pid_t> children;
  Memory most;
  int failed = 0;
  const double started = NowMs();
  for (int i = 1; i <= count; i++) children.push_back(Start(i, argv[2], argv + 3));
  while (!children.empty()) {
    int status = 0;
    const pid_t ended = waitpid(-1, &status, samples ? WNOHANG : 0);
    if (ended > 0) {
      children.erase(std::find(children.begin(), children.end(), ended));
      if (status != 0) failed++;
      continue;
    }
    const Memory now = Look(children);
    most.rss = std::max(most.rss, now.rss);
    most.pss = std::max(most.pss, now.pss);
    usleep(1000);
  }
  const double wall = NowMs() - started;
  rusage all;
  getrusage(RUSAGE_CHILDREN, &all);
  std::printf("{\"wallMs\":%.2f,\"cpuMs\":%.2f,\"failed\":%d,\"rssKiB\":%ld,\"pssKiB\":%ld}\n", wall,
              Ms(all.ru_utime) + Ms(all.ru_stime), failed, most.rss, most.pss);
  return 0;
}
