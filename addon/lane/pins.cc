#include "lane/pins.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernel/unique_fd.h"
#include "lane/bpf_calls.h"

namespace twill {

namespace {

constexpr unsigned long kBpfFsMagic = 0xcafe4a11;  // BPF_FS_MAGIC

bool IsBpfFs(const std::string& path) noexcept {
  struct statfs about;
  return ::statfs(path.c_str(), &about) == 0 && static_cast<unsigned long>(about.f_type) == kBpfFsMagic;
}

// The folder that a path lies in.
std::string ParentOf(const std::string& path) noexcept { return path.substr(0, path.rfind('/')); }

int MakeFolder(const std::string& path) noexcept {
  return ::mkdir(path.c_str(), 0700) < 0 && errno != EEXIST ? -errno : 0;
}

}  // namespace

int MakePinFolder(const std::string& folder) noexcept {
  if (folder.empty() || folder[0] != '/') return -EINVAL;
  const std::string parent = ParentOf(folder);
  if (!IsBpfFs(parent)) {
    if (!IsBpfFs(ParentOf(parent))) return -EINVAL;
    const int error = MakeFolder(parent);
    if (error != 0) return error;
  }
  return MakeFolder(folder);
}

int PinAs(int object, const std::string& folder, const char* name) noexcept {
  const std::string path = folder + "/" + name;
  const std::string next = path + "_next";  // bpffs takes no dot in a name
  ::unlink(next.c_str());
  const int error = bpf::Pin(object, next);
  if (error != 0) return error;
  if (::rename(next.c_str(), path.c_str()) == 0) return 0;
  const int refused = -errno;
  ::unlink(next.c_str());
  return refused;
}

int RemovePinFolder(const std::string& folder) noexcept {
  DIR* opened = ::opendir(folder.c_str());
  if (opened == nullptr) return -errno;
  int result = IsBpfFs(folder) ? 0 : -EINVAL;
  while (result == 0) {
    const dirent* entry = ::readdir(opened);
    if (entry == nullptr) break;
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    if (::unlinkat(::dirfd(opened), entry->d_name, 0) < 0 && errno != ENOENT) result = -errno;
  }
  ::closedir(opened);
  if (result != 0) return result;
  if (::rmdir(folder.c_str()) < 0) return -errno;
  ::rmdir(ParentOf(folder).c_str());  // refused while other overlays have theirs in it
  return 0;
}

}  // namespace twill
