// Runs a daemon, keeps its descriptors while it is away, and starts it again: systemd's descriptor store for containers
// and shells, in the same protocol (sd_pid_notify_with_fds(3), sd_listen_fds(3)), so that the daemon knows only one.
//
//   twill-holder ── fork, exec ──► daemon        LISTEN_FDS, LISTEN_FDNAMES: what it had stored before it died
//        ▲  └── SIGTERM and the like ──►│
//        └──── FDSTORE=1, FDNAME=… ─────┘        NOTIFY_SOCKET, believed of this one process alone
//
//   twill-holder ── fork, exec ──► standby       the same command with TWILL_STANDBY=fd, a unix stream: it has loaded
//                                                its code, and waits there for descriptors, each lot with a space, and
//                                                the line of their names, to become the daemon; at the end of the
//                                                stream it exits
//
// A daemon that was killed, or ended in an error, is started again once one has been ready: at once, and those that end
// before they are ready more and more slowly. One that ends by itself, or before it was ever ready, ends the holder
// with its exit status.
//
// Beside systemd's assignments it reads two of ours: X_TWILL_STANDBY=1, a start is urgent enough for a standby, and
// X_TWILL_LEFT=SOCKET or =0, another daemon, which answers at that control socket, goes on with what is stored, or does
// not after all. One that ends while that holds is not started again, and nothing is kept for it. A holder that has its
// own supervisor stays then (--stay), for that would start it again; it starts its command once nobody has listened at
// the socket for a while: the other one's pod was deleted.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/unique_fd.h"

namespace twill::holder {

struct Stored {
  std::string name;
  UniqueFd fd;
};

class Holder {
 public:
  // The command is execvp's, with a null behind it.
  Holder(char** command, bool has_standby, bool stays) noexcept
      : command_(command), has_standby_(has_standby), stays_(stays) {}
  // The exit status.
  int Run();

 private:
  bool Open();
  // Another daemon: the standby or a new process. 0, or an exit status when there can be no process.
  int Start();
  int Spawn();
  bool Promote();
  void SpawnStandby();
  [[noreturn]] void Become(const std::string& names);
  [[noreturn]] void Execute();
  std::string Names() const;
  void ReadMessage();
  void Store(const std::string& name, std::vector<UniqueFd>& descriptors);
  void Remove(const std::string& name);
  // Reads what has come by signal. True when the holder is to end.
  bool ReadSignal();
  // The daemon has ended: true when the holder ends with it.
  bool HasEnded(int status);
  // Another daemon has what it kept: true when the holder ends now.
  bool HasLeft();
  // While another daemon goes on: whether it has been away for long enough to be gone.
  bool IsSuccessorGone();

  char** command_;
  bool has_standby_;
  bool stays_;
  UniqueFd signals_, notify_;
  std::string notify_name_;  // as NOTIFY_SOCKET has it
  std::vector<Stored> stored_;
  pid_t pid_ = -1;
  pid_t standby_pid_ = -1;
  UniqueFd standby_;  // our end of its stream
  int64_t started_ms_ = 0;
  int64_t due_ms_ = 0;      // when it is started again; 0 while it runs
  size_t vain_lives_ = 0;   // in a row
  bool is_ready_ = false;   // in this life
  bool was_ready_ = false;  // in any of its lives
  bool is_urgent_ = false;  // X_TWILL_STANDBY
  std::string successor_;   // X_TWILL_LEFT: its control socket; empty while this daemon goes on
  bool is_idle_ = false;    // since it has left
  int absences_ = 0;        // of the successor, in a row
  bool is_stopping_ = false;
  int exit_status_ = 0;
};

}  // namespace twill::holder
