#include "kernel/unix_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace twill {

namespace {

struct UnixName {
  sockaddr_un name{};
  socklen_t length = 0;

  explicit UnixName(const std::string& path) noexcept {
    name.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof name.sun_path) return;
    std::memcpy(name.sun_path, path.data(), path.size());
    if (path[0] == '@') name.sun_path[0] = '\0';
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  }
};

// How long a service manager may take until it has room for a message.
constexpr timeval kSendTimeout = {0, 250'000};

// 0 or -errno. To a name it waits, as far as the socket has it.
int Send(int socket, const UnixName* to, const std::string& text, const std::vector<int>& descriptors) noexcept {
  if (descriptors.size() > kMaxPassed) return -E2BIG;
  iovec part = {const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * kMaxPassed)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (to != nullptr) {
    message.msg_name = const_cast<sockaddr_un*>(&to->name);
    message.msg_namelen = to->length;
  }
  if (!descriptors.empty()) {
    const size_t bytes = sizeof(int) * descriptors.size();
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
  }
  const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | (to == nullptr ? MSG_DONTWAIT : 0));
  if (sent < 0) return -errno;
  // The descriptors are gone with the first byte, so the rest could not be told apart from the next message.
  return static_cast<size_t>(sent) == text.size() ? 0 : -EMSGSIZE;
}

}  // namespace

int SdNotify(const std::string& path, const std::string& text, const std::vector<int>& descriptors) noexcept {
  const UnixName name(path);
  if (name.length == 0) return -EINVAL;
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return -errno;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof kSendTimeout) < 0) return -errno;
  return Send(fd.get(), &name, text, descriptors);
}

int SdBarrier(const std::string& path, int timeout_ms) noexcept {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return -errno;
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const int error = SdNotify(path, "BARRIER=1", {theirs.get()});
  if (error != 0) return error;
  theirs.Reset();
  // It closes the descriptor when it comes to the message.
  pollfd wait = {ours.get(), 0, 0};
  const int ready = ::poll(&wait, 1, timeout_ms);
  return ready < 0 ? -errno : ready == 0 ? -ETIMEDOUT : 0;
}

Result<UniqueFd> ConnectUnix(const std::string& path) noexcept {
  const UnixName name(path);
  if (name.length == 0) return Failure{EINVAL, "connect"};
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Failure::Of("socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name.name), name.length) < 0) {
    return Failure::Of("connect");
  }
  return fd;
}

int SendMessage(int socket, const std::string& text, const std::vector<int>& descriptors) noexcept {
  return Send(socket, nullptr, text, descriptors);
}

void TakeDescriptors(const cmsghdr& header, std::vector<UniqueFd>* descriptors) {
  if (header.cmsg_level != SOL_SOCKET || header.cmsg_type != SCM_RIGHTS) return;
  const size_t count = (header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < count; i++) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(&header) + i * sizeof fd, sizeof fd);
    descriptors->emplace_back(fd);
  }
}

Result<ReceivedMessage> ReceiveMessage(int socket, int timeout_ms) noexcept {
  pollfd wait = {socket, POLLIN, 0};
  const int ready = ::poll(&wait, 1, timeout_ms);
  if (ready < 0) return Failure::Of("poll");
  if (ready == 0) return Failure{ETIMEDOUT, "poll"};
  char text[4096];
  iovec part = {text, sizeof text};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * kMaxPassed)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (length < 0) return Failure::Of("recvmsg");
  ReceivedMessage received;
  received.text.assign(text, static_cast<size_t>(length));
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    TakeDescriptors(*header, &received.descriptors);
  }
  // Without room for all, the kernel has closed the rest.
  if ((message.msg_flags & MSG_CTRUNC) != 0) return Failure{E2BIG, "recvmsg"};
  return received;
}

int64_t PeerUser(int socket) noexcept {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -errno;
  return peer.uid;
}

Result<UniqueFd> PeerProcess(int socket) noexcept {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return Failure::Of("SO_PEERCRED");
  if (peer.pid <= 0) return Failure{ESRCH, "SO_PEERCRED"};
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
  if (!process.valid()) return Failure::Of("pidfd_open");
  return process;
}

int KillProcess(int process) noexcept {
  return ::syscall(SYS_pidfd_send_signal, process, SIGKILL, nullptr, 0) < 0 ? -errno : 0;
}

}  // namespace twill
