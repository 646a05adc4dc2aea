// Files of one program that does one thing and ends: read whole, replaced in one step.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

namespace twill::cni {

// Reads all that a descriptor, or the file at `path`, has. Returns 0 or -errno; -EFBIG for more than `max_bytes`.
int ReadAll(int fd, size_t max_bytes, std::string* text);
int ReadFile(const std::string& path, size_t max_bytes, std::string* text);

// Writes all of it. Returns 0 or -errno.
int WriteAll(int fd, const std::string& text);

// Makes the folder and its missing parents with this mode, before umask. Returns 0, also when it is there, or -errno.
int MakeFolder(const std::string& path, mode_t mode);

// Replaces the file at `path`, or makes it, with this mode whatever the umask: whoever reads it sees what was there or
// the new text, also after a crash, and the text is on disk when this returns. `temporary` is in the same folder; what
// is there is replaced, and a link is not followed. Returns 0, or -errno and the file untouched.
int ReplaceFile(const std::string& path, mode_t mode, const std::string& text, const std::string& temporary);

// "open /run/x: no such file or directory", as Go says it, so that what people search for finds this as well.
std::string Explain(const char* action, const std::string& path, int error);

}  // namespace twill::cni
