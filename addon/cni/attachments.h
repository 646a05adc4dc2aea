// The configuration an attachment was made with, kept until it is undone: DEL must undo what ADD did, whatever the
// network configuration and subnet.env say by then.
//
// One file for each attachment: <dataDir>/<container id> for eth0, as flannel's plugin names it, so that either plugin
// undoes what the other did; <container id>:<interface> for any other, so that two attachments do not share one. A name
// that ends in "~" is a file that was not written to its end.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "json.h"

namespace twill::cni {

struct SavedAttachment {
  std::string path;
  std::optional<Json> delegate;  // its configuration, an object; none when the file holds something else
};

struct KeptAttachment {
  std::string container_id;
  // None where the file's name does not say it: flannel's plugin kept attachments of any interface under the bare
  // container id.
  std::optional<std::string> ifname;
  std::string path;
};

// All of them throw Fault 5.

// Keeps the configuration, in one step and on disk before it returns.
void SaveAttachment(const std::string& data_dir, const std::string& container_id, const std::string& ifname,
                    const Json& delegate);

// What an attachment was made with, if anything is kept of it. For an interface other than eth0, what flannel's plugin
// kept under the bare container id counts when it is of the same network.
std::optional<SavedAttachment> FindAttachment(const std::string& data_dir, const std::string& container_id,
                                              const std::string& ifname, const std::string& network);

// What is kept of a network's attachments.
std::vector<KeptAttachment> ListAttachments(const std::string& data_dir, const std::string& network);

void ForgetAttachment(const std::string& path);

// Forgets what an ADD that was killed has left half written.
void ForgetUnfinished(const std::string& data_dir, const std::string& container_id, const std::string& ifname);

}  // namespace twill::cni
