// Unix sockets that carry descriptors: to the service manager (sd_notify(3)), and from one daemon to the next.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "kernel/failure.h"
#include "kernel/unique_fd.h"

namespace twill {

// Sends `text` as one datagram to the AF_UNIX socket at `path`, with descriptors of which the receiver gets its own;
// "@" in front of the path means the abstract space. Waits a moment for a receiver that is behind, whose queue has room
// for some ten (net.unix.max_dgram_qlen). 0 or -errno.
int SdNotify(const std::string& path, const std::string& text, const std::vector<int>& descriptors) noexcept;

// Waits until the service manager has read what was sent to it before (BARRIER=1). 0 or -errno: -ETIMEDOUT.
int SdBarrier(const std::string& path, int timeout_ms) noexcept;

// A stream connected to the socket at `path`.
Result<UniqueFd> ConnectUnix(const std::string& path) noexcept;

// One message on a stream: some text, of a few thousand bytes at most, and the descriptors that go with it, at most
// kMaxPassed. 0 or -errno; -EAGAIN when the receiver does not read.
inline constexpr size_t kMaxPassed = 64;
int SendMessage(int socket, const std::string& text, const std::vector<int>& descriptors) noexcept;

struct ReceivedMessage {
  std::string text;                   // empty at the end of the stream
  std::vector<UniqueFd> descriptors;  // close-on-exec
};

// The descriptors in one part of a received message's control data, whose header the caller has found.
void TakeDescriptors(const cmsghdr& header, std::vector<UniqueFd>* descriptors);

// What comes next on a stream, up to the next message with descriptors. ETIMEDOUT when nothing comes.
Result<ReceivedMessage> ReceiveMessage(int socket, int timeout_ms) noexcept;

// The user that has connected to this socket (SO_PEERCRED, unix(7)), or -errno.
int64_t PeerUser(int socket) noexcept;

// The process that has connected to this socket, as a descriptor (pidfd_open(2)) of which no other process takes the
// place when it ends. ESRCH when it is in another pid namespace, or gone.
Result<UniqueFd> PeerProcess(int socket) noexcept;

// Ends it by SIGKILL. 0 or -errno.
int KillProcess(int process) noexcept;

}  // namespace twill
