// bpf(2), as far as the lane needs it. Errors are -errno, or a UniqueFd that is not valid with errno set; every
// descriptor is closed on exec, which the kernel sees to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/unique_fd.h"
#include "lane/kernel_abi.h"

namespace twill::bpf {

struct MapShape {
  bpf_map_type type;
  uint32_t key_bytes;
  uint32_t value_bytes;
  uint32_t entries;
  uint32_t flags;
  const char* name;  // at most 15 bytes; seen by bpftool
};

UniqueFd CreateMap(const MapShape& shape) noexcept;
int UpdateEntry(int map, const void* key, const void* value) noexcept;
int DeleteEntry(int map, const void* key) noexcept;
// Of a per-CPU map: `values` gets an entry for each possible CPU (PossibleCpus()), each of a multiple of 8 bytes.
int LookupEntry(int map, const void* key, void* values) noexcept;

// No less than the CPUs that the kernel may ever have; 0 when it does not say.
size_t PossibleCpus() noexcept;

// A program for tc. What the verifier says goes to `log` where there is one.
UniqueFd LoadProgram(const std::vector<bpf_insn>& code, const char* license, const char* name,
                     std::string* log = nullptr) noexcept;

// At the end of the programs that the device has already.
UniqueFd CreateLink(int program, uint32_t ifindex, uint32_t attach_type) noexcept;
// Puts `program` in the place of the link's; no packet passes between the two.
int UpdateLink(int link, int program) noexcept;
// Whether a link is of tcx, at this device and end of it.
bool IsLinkOf(int link, uint32_t ifindex, uint32_t attach_type) noexcept;
// Whether the kernel knows tcx: 0, -EINVAL when not, or another -errno.
int QueryTcx(uint32_t ifindex) noexcept;

// Whether the entries of a map are so long; of a per-CPU map those of one CPU.
bool HasValues(int map, uint32_t value_bytes) noexcept;

int Pin(int object, const std::string& path) noexcept;
UniqueFd OpenPin(const std::string& path) noexcept;

}  // namespace twill::bpf
