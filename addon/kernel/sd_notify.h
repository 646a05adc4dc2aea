// The notification socket of systemd (sd_notify(3)).
#pragma once

#include <string>

namespace twill {

// Sends `text` as one datagram to the AF_UNIX socket at `path`; "@" in front means the abstract space. 0 or -errno.
int SdNotify(const std::string& path, const std::string& text) noexcept;

}  // namespace twill
