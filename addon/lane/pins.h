// The folder that keeps a lane alive without its process: links and maps, in a BPF file system (bpffs).
//
// A link that has a name there stays attached when its last descriptor is closed. Nothing is mounted here.
#pragma once

#include <string>

namespace twill {

// Makes the folder, and its parent when that is missing, in a BPF file system. 0, -EINVAL where none is mounted, or
// another -errno.
int MakePinFolder(const std::string& folder) noexcept;

// Gives `object` the name, in place of what has it: by a rename, so that there is always one of the two.
int PinAs(int object, const std::string& folder, const char* name) noexcept;

// Removes the folder with what is in it, and its parent when that is empty. 0 or -errno: -ENOENT when there is none,
// -EINVAL when it is not in a BPF file system, where nothing is touched.
int RemovePinFolder(const std::string& folder) noexcept;

}  // namespace twill
