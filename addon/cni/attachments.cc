#include "attachments.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "fault.h"
#include "files.h"

namespace twill::cni {

namespace {

constexpr const char* kFirstInterface = "eth0";
constexpr char kUnfinished = '~';
constexpr size_t kMaxBytes = 8 << 20;

std::string PathOf(const std::string& data_dir, const std::string& container_id, const std::string& ifname) {
  return data_dir + "/" + (ifname == kFirstInterface ? container_id : container_id + ":" + ifname);
}

std::optional<SavedAttachment> Read(const std::string& path) {
  std::string text;
  const int read = ReadFile(path, kMaxBytes, &text);
  if (read == -ENOENT) return std::nullopt;
  if (read == -EISDIR) return SavedAttachment{path, std::nullopt};
  if (read < 0) throw Fault(kIo, Explain("cannot read", path, -read));
  try {
    Json delegate = Json::Parse(text);
    if (delegate.IsObject()) return SavedAttachment{path, std::move(delegate)};
  } catch (const JsonError&) {
    // Somebody else's.
  }
  return SavedAttachment{path, std::nullopt};
}

bool IsOf(const std::optional<SavedAttachment>& saved, const std::string& network) {
  if (!saved || !saved->delegate) return false;
  const Json* name = saved->delegate->Find("name");
  return name != nullptr && name->IsString() && name->text() == network;
}

// Names in a folder, sorted; none when it is not there.
std::vector<std::string> NamesIn(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), &::closedir);
  if (folder == nullptr) {
    if (errno == ENOENT) return {};
    throw Fault(kIo, Explain("cannot list", path, errno));
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

void SaveAttachment(const std::string& data_dir, const std::string& container_id, const std::string& ifname,
                    const Json& delegate) {
  const std::string path = PathOf(data_dir, container_id, ifname);
  int kept = MakeFolder(data_dir, 0700);
  // A runtime asks for one thing of an attachment at a time.
  if (kept == 0) kept = ReplaceFile(path, 0600, delegate.Write(), path + kUnfinished);
  if (kept < 0) throw Fault(kIo, Explain("cannot keep", path, -kept));
}

std::optional<SavedAttachment> FindAttachment(const std::string& data_dir, const std::string& container_id,
                                              const std::string& ifname, const std::string& network) {
  std::optional<SavedAttachment> own = Read(PathOf(data_dir, container_id, ifname));
  if (own || ifname == kFirstInterface) return own;
  std::optional<SavedAttachment> other = Read(PathOf(data_dir, container_id, kFirstInterface));
  return IsOf(other, network) ? other : std::nullopt;
}

std::vector<KeptAttachment> ListAttachments(const std::string& data_dir, const std::string& network) {
  std::vector<KeptAttachment> kept;
  for (const std::string& name : NamesIn(data_dir)) {
    const std::string path = data_dir + "/" + name;
    if (name.back() == kUnfinished || !IsOf(Read(path), network)) continue;
    const size_t colon = name.find(':');
    std::optional<std::string> ifname;
    if (colon != std::string::npos) ifname = name.substr(colon + 1);
    kept.push_back({name.substr(0, colon), ifname, path});
  }
  return kept;
}

void ForgetAttachment(const std::string& path) {
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) throw Fault(kIo, Explain("cannot remove", path, errno));
}

void ForgetUnfinished(const std::string& data_dir, const std::string& container_id, const std::string& ifname) {
  ForgetAttachment(PathOf(data_dir, container_id, ifname) + kUnfinished);
}

}  // namespace twill::cni
