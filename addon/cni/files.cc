#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kernel/unique_fd.h"

namespace twill::cni {

namespace {

std::string FolderOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

int WriteNew(const std::string& path, mode_t mode, const std::string& text) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!file.valid()) return -errno;
  const int written = WriteAll(file.get(), text);
  if (written < 0) return written;
  if (::fchmod(file.get(), mode) < 0 || ::fsync(file.get()) < 0) return -errno;
  return 0;
}

int SyncFolder(const std::string& path) {
  const UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return folder.valid() && ::fsync(folder.get()) == 0 ? 0 : -errno;
}

}  // namespace

int ReadAll(int fd, size_t max_bytes, std::string* text) {
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return 0;
    if (text->size() + static_cast<size_t>(got) > max_bytes) return -EFBIG;
    text->append(buffer, static_cast<size_t>(got));
  }
}

int ReadFile(const std::string& path, size_t max_bytes, std::string* text) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return file.valid() ? ReadAll(file.get(), max_bytes, text) : -errno;
}

int WriteAll(int fd, const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t written = ::write(fd, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    at += static_cast<size_t>(written);
  }
  return 0;
}

int MakeFolder(const std::string& path, mode_t mode) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0) return 0;
  const std::string parent = FolderOf(path);
  if (parent != path && parent != ".") {
    const int made = MakeFolder(parent, mode);
    if (made < 0) return made;
  }
  // Another process may be faster.
  return ::mkdir(path.c_str(), mode) == 0 || errno == EEXIST ? 0 : -errno;
}

int ReplaceFile(const std::string& path, mode_t mode, const std::string& text, const std::string& temporary) {
  ::unlink(temporary.c_str());
  int result = WriteNew(temporary, mode, text);
  if (result == 0 && ::rename(temporary.c_str(), path.c_str()) < 0) result = -errno;
  if (result < 0) {
    ::unlink(temporary.c_str());
    return result;
  }
  return SyncFolder(FolderOf(path));
}

std::string Explain(const char* action, const std::string& path, int error) {
  std::string reason = std::strerror(error);
  reason[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(reason[0])));
  return std::string(action) + " " + path + ": " + reason;
}

}  // namespace twill::cni
