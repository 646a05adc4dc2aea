#include "kernel/tun.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "packet/ipv4.h"

namespace twill {

namespace {

// Linux 5.2; where it cannot be asked, as without CAP_NET_ADMIN, the name has to do.
bool IsOfThisNamespace(int fd) noexcept {
  const UniqueFd of_device(::ioctl(fd, TUNGETDEVNETNS));
  if (!of_device.valid()) return true;
  struct stat its{}, ours{};
  return ::fstat(of_device.get(), &its) == 0 && ::stat("/proc/thread-self/ns/net", &ours) == 0 &&
         its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
}

}  // namespace

Result<UniqueFd> OpenTun(const std::string& name, bool multi_queue) noexcept {
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Failure::Of("open /dev/net/tun");
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | (multi_queue ? IFF_MULTI_QUEUE : 0));
  if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) return Failure::Of("TUNSETIFF");
  // An adopted device may have been left with another header size.
  int header_size = sizeof(VnetHeader);
  if (::ioctl(fd.get(), TUNSETVNETHDRSZ, &header_size) < 0) return Failure::Of("TUNSETVNETHDRSZ");
  if (::ioctl(fd.get(), TUNSETPERSIST, 1) < 0) return Failure::Of("TUNSETPERSIST");
  return fd;
}

Result<UniqueFd> AdoptTun(int fd, const std::string& name, bool multi_queue) noexcept {
  static constexpr short kKind = IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
  const short wanted = static_cast<short>(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | (multi_queue ? IFF_MULTI_QUEUE : 0));
  ifreq request{};
  // Of a device that is gone EBADFD. A name is of its namespace: the device may have been moved to another one.
  if (::ioctl(fd, TUNGETIFF, &request) < 0) return Failure::Of("TUNGETIFF");
  if ((request.ifr_flags & kKind) != wanted || name != request.ifr_name || !IsOfThisNamespace(fd)) {
    return Failure{ESTALE, "TUNGETIFF"};
  }
  UniqueFd own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return Failure::Of("dup");
  return own;
}

unsigned GrantTunOffloads(int fd, bool tso, bool uso) noexcept {
  const unsigned wanted = (tso || uso ? kTunCsum : 0) | (tso ? kTunTso4 | kTunTso6 | kTunTsoEcn : 0) |
                          (uso ? kTunUso4 | kTunUso6 : 0);
  // Each step gives up what older kernels lack first: USO (6.2), then ECN, then segmentation.
  static constexpr unsigned kSteps[] = {
      kTunCsum | kTunTso4 | kTunTso6 | kTunTsoEcn | kTunUso4 | kTunUso6,
      kTunCsum | kTunTso4 | kTunTso6 | kTunTsoEcn,
      kTunCsum | kTunTso4 | kTunTso6,
      kTunCsum,
  };
  for (unsigned step : kSteps) {
    const unsigned asked = step & wanted;
    if (::ioctl(fd, TUNSETOFFLOAD, static_cast<unsigned long>(asked)) == 0) return asked;
  }
  ::ioctl(fd, TUNSETOFFLOAD, 0ul);
  return 0;
}

int ForgetTun(int fd) noexcept { return ::ioctl(fd, TUNSETPERSIST, 0) < 0 ? -errno : 0; }

}  // namespace twill
