#include "lane/bpf_calls.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace twill::bpf {

namespace {

constexpr size_t kLogBytes = 1 << 20;

int Call(int command, void* attributes, size_t size) noexcept {
  return static_cast<int>(::syscall(SYS_bpf, command, attributes, size));
}

int Result(int answer) noexcept { return answer < 0 ? -errno : answer; }

uint64_t Address(const void* pointer) noexcept { return reinterpret_cast<uint64_t>(pointer); }

bpf_attr NoAttributes() noexcept {
  bpf_attr attributes;
  std::memset(&attributes, 0, sizeof attributes);
  return attributes;
}

template <size_t size>
void CopyName(char (&to)[size], const char* name) noexcept {
  std::strncpy(to, name, size - 1);
}

}  // namespace

UniqueFd CreateMap(const MapShape& shape) noexcept {
  bpf_attr attributes = NoAttributes();
  attributes.map_type = shape.type;
  attributes.key_size = shape.key_bytes;
  attributes.value_size = shape.value_bytes;
  attributes.max_entries = shape.entries;
  attributes.map_flags = shape.flags;
  CopyName(attributes.map_name, shape.name);
  return UniqueFd(Call(BPF_MAP_CREATE, &attributes, sizeof attributes));
}

int UpdateEntry(int map, const void* key, const void* value) noexcept {
  bpf_attr attributes = NoAttributes();
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = Address(key);
  attributes.value = Address(value);
  return Result(Call(BPF_MAP_UPDATE_ELEM, &attributes, sizeof attributes));
}

int DeleteEntry(int map, const void* key) noexcept {
  bpf_attr attributes = NoAttributes();
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = Address(key);
  return Result(Call(BPF_MAP_DELETE_ELEM, &attributes, sizeof attributes));
}

int LookupEntry(int map, const void* key, void* values) noexcept {
  bpf_attr attributes = NoAttributes();
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = Address(key);
  attributes.value = Address(values);
  return Result(Call(BPF_MAP_LOOKUP_ELEM, &attributes, sizeof attributes));
}

size_t PossibleCpus() noexcept {
  // Ranges of numbers, in ascending order: "0-3" or "0,2-5".
  const UniqueFd file(::open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t length = file.valid() ? ::read(file.get(), text, sizeof text) : -1;
  size_t last = 0;
  bool is_number = false;
  for (ssize_t i = 0; i < length; i++) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (is_digit) last = (is_number ? last : 0) * 10 + static_cast<size_t>(text[i] - '0');
    is_number = is_digit;
  }
  return length > 0 && length < static_cast<ssize_t>(sizeof text) ? last + 1 : 0;
}

UniqueFd LoadProgram(const std::vector<bpf_insn>& code, const char* license, const char* name,
                     std::string* log) noexcept {
  bpf_attr attributes = NoAttributes();
  attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  attributes.insns = Address(code.data());
  attributes.insn_cnt = static_cast<uint32_t>(code.size());
  attributes.license = Address(license);
  CopyName(attributes.prog_name, name);
  if (log != nullptr) {
    log->assign(kLogBytes, '\0');
    attributes.log_buf = Address(log->data());
    attributes.log_size = static_cast<uint32_t>(log->size());
    attributes.log_level = 1;
  }
  UniqueFd program(Call(BPF_PROG_LOAD, &attributes, sizeof attributes));
  if (log != nullptr) {
    const int error = errno;
    log->resize(std::strlen(log->c_str()));
    errno = error;
  }
  return program;
}

UniqueFd CreateLink(int program, uint32_t ifindex, uint32_t attach_type) noexcept {
  LinkCreate attributes = {static_cast<uint32_t>(program), ifindex, attach_type, 0};
  return UniqueFd(Call(kLinkCreate, &attributes, sizeof attributes));
}

int UpdateLink(int link, int program) noexcept {
  LinkUpdate attributes = {static_cast<uint32_t>(link), static_cast<uint32_t>(program), 0, 0};
  return Result(Call(kLinkUpdate, &attributes, sizeof attributes));
}

bool HasValues(int map, uint32_t value_bytes) noexcept {
  bpf_map_info info = {};
  bpf_attr attributes = NoAttributes();
  attributes.info.bpf_fd = static_cast<uint32_t>(map);
  attributes.info.info_len = sizeof info;
  attributes.info.info = Address(&info);
  return Call(BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes) == 0 && info.value_size == value_bytes;
}

bool IsLinkOf(int link, uint32_t ifindex, uint32_t attach_type) noexcept {
  TcxLinkInfo info = {};
  bpf_attr attributes = NoAttributes();
  attributes.info.bpf_fd = static_cast<uint32_t>(link);
  attributes.info.info_len = sizeof info;
  attributes.info.info = Address(&info);
  return Call(BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes) == 0 && info.type == kLinkTypeTcx &&
         info.ifindex == ifindex && info.attach_type == attach_type;
}

int QueryTcx(uint32_t ifindex) noexcept {
  ProgQuery attributes = {};
  attributes.target_ifindex = ifindex;
  attributes.attach_type = kTcxIngress;
  return Result(Call(kProgQuery, &attributes, sizeof attributes));
}

int Pin(int object, const std::string& path) noexcept {
  bpf_attr attributes = NoAttributes();
  attributes.pathname = Address(path.c_str());
  attributes.bpf_fd = static_cast<uint32_t>(object);
  return Result(Call(BPF_OBJ_PIN, &attributes, sizeof attributes));
}

UniqueFd OpenPin(const std::string& path) noexcept {
  bpf_attr attributes = NoAttributes();
  attributes.pathname = Address(path.c_str());
  return UniqueFd(Call(BPF_OBJ_GET, &attributes, sizeof attributes));
}

}  // namespace twill::bpf
