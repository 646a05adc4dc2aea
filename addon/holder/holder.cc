#include "holder/holder.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "kernel/unix_socket.h"

namespace twill::holder {

namespace {

constexpr size_t kMaxStored = 1024;
constexpr size_t kMaxReceived = 253;  // SCM_MAX_FD, net/scm.h
constexpr size_t kMaxMessage = 4096;
constexpr size_t kMaxName = 255;
constexpr int kFirstFd = 3;  // SD_LISTEN_FDS_START
constexpr int kUsage = 2;    // the command line is wrong, and stays so
constexpr int kCannotExec = 127;
constexpr int kReplaced = 4;  // what the daemon has for whoever may start it again

// A life that was shorter, and never ready, is a vain one; the pauses after none, one and more of them. One that was
// ready may die as often as it likes: packets wait, and each life forwards some.
constexpr int64_t kLongLifeMs = 10'000;
constexpr int64_t kPausesMs[] = {0, 0, 0, 100, 1'000, 5'000};

// How often an idle holder looks for the daemon that goes on, and how many times in vain: one that was killed is back
// sooner.
constexpr int64_t kLookMs = 1'000;
constexpr int kMaxAbsences = 3;

constexpr int kForwarded[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

int64_t NowMs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// Each line "key=value"; the last of a key counts.
std::string ValueOf(const std::string& message, const std::string& key) {
  std::string value;
  size_t at = 0;
  while (at < message.size()) {
    const size_t end = std::min(message.find('\n', at), message.size());
    const size_t from = at + key.size() + 1;
    if (message.compare(at, key.size() + 1, key + "=") == 0) value = message.substr(from, end - from);
    at = end + 1;
  }
  return value;
}

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxName &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 127 && c != ':'; });
}

// Who does not answer for being busy is there. Connects, says nothing, and is gone.
bool IsNobodyAt(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path) return false;
  std::memcpy(name.sun_path, path.data(), path.size());
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid() || ::connect(probe.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) == 0) return false;
  return errno == ECONNREFUSED || errno == ENOENT;
}

}  // namespace

int Holder::Run() {
  if (!Open()) {
    ::perror("twill-holder");
    return 1;
  }
  if (const int failed = Start()) return failed;
  for (;;) {
    pollfd wait[] = {{signals_.get(), POLLIN, 0}, {notify_.get(), POLLIN, 0}};
    const int most_ms = due_ms_ == 0 ? -1 : static_cast<int>(std::max<int64_t>(0, due_ms_ - NowMs()));
    if (::poll(wait, 2, most_ms) < 0 && errno != EINTR) return 1;
    // What it has sent before it died comes first.
    if ((wait[1].revents & POLLIN) != 0) ReadMessage();
    else if ((wait[0].revents & POLLIN) != 0 && ReadSignal()) return exit_status_;
    if (due_ms_ == 0 || NowMs() < due_ms_) continue;
    if (is_idle_ && !IsSuccessorGone()) continue;
    if (const int failed = Start()) return failed;
  }
}

bool Holder::Open() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGCHLD);
  for (const int number : kForwarded) ::sigaddset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) < 0) return false;
  signals_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  notify_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!signals_.valid() || !notify_.valid()) return false;
  // A name of the abstract space that nobody has (autobind, unix(7)).
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (::bind(notify_.get(), reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t)) < 0) return false;
  socklen_t length = sizeof name;
  if (::getsockname(notify_.get(), reinterpret_cast<sockaddr*>(&name), &length) < 0) return false;
  notify_name_ = "@" + std::string(name.sun_path + 1, length - offsetof(sockaddr_un, sun_path) - 1);
  const int on = 1;
  return ::setsockopt(notify_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0;
}

int Holder::Start() {
  due_ms_ = 0;
  is_idle_ = is_ready_ = false;
  started_ms_ = NowMs();
  return Promote() ? 0 : Spawn();
}

bool Holder::Promote() {
  if (standby_pid_ < 0) return false;
  const UniqueFd stream = std::move(standby_);
  const pid_t pid = standby_pid_;
  standby_pid_ = -1;
  std::vector<int> descriptors;
  for (const Stored& stored : stored_) {
    descriptors.push_back(stored.fd.get());
    // Each needs a byte to go with.
    if (descriptors.size() < kMaxPassed && &stored != &stored_.back()) continue;
    if (SendMessage(stream.get(), " ", descriptors) < 0) return false;
    descriptors.clear();
  }
  const std::string names = Names() + "\n";
  for (size_t at = 0; at < names.size(); at += kMaxMessage) {
    if (SendMessage(stream.get(), names.substr(at, kMaxMessage), {}) < 0) return false;
  }
  pid_ = pid;
  return true;
}

void Holder::SpawnStandby() {
  int ends[2];
  if (!has_standby_ || !is_urgent_ || standby_pid_ >= 0) return;
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return;
  standby_ = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  standby_pid_ = ::fork();
  if (standby_pid_ == 0) {
    const int fd = ::dup(theirs.get());  // without FD_CLOEXEC
    ::setenv("TWILL_STANDBY", std::to_string(fd).c_str(), 1);
    Execute();
  }
}

std::string Holder::Names() const {
  std::string names;
  for (const Stored& stored : stored_) names += (names.empty() ? "" : ":") + stored.name;
  return names;
}

int Holder::Spawn() {
  const std::string names = Names();
  pid_ = ::fork();
  if (pid_ == 0) Become(names);
  if (pid_ > 0) return 0;
  ::perror("twill-holder: fork");
  if (!was_ready_) return 1;
  due_ms_ = NowMs() + kPausesMs[std::size(kPausesMs) - 1];
  return 0;
}

// In the child.
void Holder::Become(const std::string& names) {
  const int count = static_cast<int>(stored_.size());
  // First out of the way of the places they are to have.
  std::vector<int> aside;
  for (const Stored& stored : stored_) aside.push_back(::fcntl(stored.fd.get(), F_DUPFD_CLOEXEC, kFirstFd + count));
  for (int i = 0; i < count; i++) {
    if (aside[static_cast<size_t>(i)] < 0 || ::dup2(aside[static_cast<size_t>(i)], kFirstFd + i) < 0) ::_exit(1);
  }
  if (count > 0) {
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
    ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
  }
  Execute();
}

// In a child, too.
void Holder::Execute() {
  // Without a holder, another one may come, and would find all names taken.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::setenv("NOTIFY_SOCKET", notify_name_.c_str(), 1);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(command_[0], command_);
  ::fprintf(stderr, "twill-holder: cannot run \"%s\": %s\n", command_[0], ::strerror(errno));
  ::_exit(kCannotExec);
}

void Holder::ReadMessage() {
  char text[kMaxMessage];
  iovec part = {text, sizeof text};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * kMaxReceived) + CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = ::recvmsg(notify_.get(), &message, MSG_CMSG_CLOEXEC);
  if (length < 0) return;
  std::vector<UniqueFd> descriptors;
  pid_t sender = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    TakeDescriptors(*header, &descriptors);
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
      ucred from;
      std::memcpy(&from, CMSG_DATA(header), sizeof from);
      sender = from.pid;
    }
  }
  // What is not stored is closed with `descriptors`: so is a barrier's, which is what its sender waits for.
  if (sender != pid_ || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return;
  const std::string received(text, static_cast<size_t>(length));
  const std::string name = ValueOf(received, "FDNAME"), left = ValueOf(received, "X_TWILL_LEFT");
  if (!left.empty()) successor_ = left == "0" ? "" : left;
  if (ValueOf(received, "X_TWILL_STANDBY") == "1") is_urgent_ = true;
  if (ValueOf(received, "READY") == "1") {
    is_ready_ = was_ready_ = true;
    SpawnStandby();
  }
  if (ValueOf(received, "FDSTOREREMOVE") == "1") Remove(name);
  if (ValueOf(received, "FDSTORE") == "1" && IsName(name)) Store(name, descriptors);
}

void Holder::Store(const std::string& name, std::vector<UniqueFd>& descriptors) {
  Remove(name);
  for (UniqueFd& fd : descriptors) {
    if (stored_.size() < kMaxStored) stored_.push_back({name, std::move(fd)});
  }
}

void Holder::Remove(const std::string& name) {
  const auto is_it = [&name](const Stored& stored) { return stored.name == name; };
  stored_.erase(std::remove_if(stored_.begin(), stored_.end(), is_it), stored_.end());
}

bool Holder::ReadSignal() {
  signalfd_siginfo info;
  if (::read(signals_.get(), &info, sizeof info) != sizeof info) return false;
  const int number = static_cast<int>(info.ssi_signo);
  if (number != SIGCHLD) {
    // A terminal's goes to the whole process group, the daemon among it, which would take a second one for impatience.
    const bool is_for_all = info.ssi_code == SI_KERNEL;
    if (number == SIGTERM || number == SIGINT || number == SIGQUIT) is_stopping_ = true;
    if (pid_ > 0 && !is_for_all) ::kill(pid_, number);
    return is_stopping_ && pid_ <= 0;  // between two lives
  }
  // As the first process of a container it has the orphans of all others.
  for (;;) {
    int status;
    const pid_t ended = ::waitpid(-1, &status, WNOHANG);
    if (ended <= 0) return false;
    if (ended == standby_pid_) {
      standby_pid_ = -1;
      standby_.Reset();
    }
    if (ended == pid_ && HasEnded(status)) return true;
  }
}

bool Holder::HasEnded(int status) {
  const bool is_killed = WIFSIGNALED(status);
  exit_status_ = is_killed ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  // It may have stored something in its last moment.
  for (pollfd wait = {notify_.get(), POLLIN, 0}; ::poll(&wait, 1, 0) > 0;) ReadMessage();
  pid_ = -1;
  if (!successor_.empty() && !is_stopping_) return HasLeft();
  const bool is_final = is_stopping_ || exit_status_ == 0 || exit_status_ == kUsage || exit_status_ == kCannotExec;
  if (is_final || !was_ready_) return true;
  const int64_t now_ms = NowMs();
  vain_lives_ = is_ready_ || now_ms - started_ms_ >= kLongLifeMs ? 0 : vain_lives_ + 1;
  const int64_t pause_ms = kPausesMs[std::min(vain_lives_, std::size(kPausesMs) - 1)];
  due_ms_ = now_ms + std::max<int64_t>(pause_ms, 1);
  ::fprintf(stderr, "twill-holder: \"%s\" %s %d: starting it again in %lld ms, with %zu descriptors\n", command_[0],
            is_killed ? "was ended by signal" : "has ended with status", is_killed ? WTERMSIG(status) : exit_status_,
            static_cast<long long>(pause_ms), stored_.size());
  return false;
}

bool Holder::HasLeft() {
  stored_.clear();
  standby_.Reset();  // it ends with its stream
  if (exit_status_ == kReplaced) exit_status_ = 0;
  if (!stays_) return true;
  exit_status_ = 0;
  is_idle_ = true;
  absences_ = 0;
  due_ms_ = NowMs() + kLookMs;
  ::fprintf(stderr, "twill-holder: another daemon goes on for \"%s\": this one waits for its end, or for SIGTERM\n",
            command_[0]);
  return false;
}

bool Holder::IsSuccessorGone() {
  absences_ = IsNobodyAt(successor_) ? absences_ + 1 : 0;
  due_ms_ = NowMs() + kLookMs;
  if (absences_ < kMaxAbsences) return false;
  ::fprintf(stderr, "twill-holder: nobody listens at \"%s\": starting \"%s\" again\n", successor_.c_str(), command_[0]);
  successor_.clear();
  return true;
}

}  // namespace twill::holder
