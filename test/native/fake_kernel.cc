#include "fake_kernel.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "../../addon/kernel/udp_socket.h"

extern "C" int __real_getsockopt(int fd, int level, int name, void* value, socklen_t* length);

namespace {

test::FakeKernel* kernel = nullptr;
// A descriptor of its own for the TUN; the socket is real but nothing is ever sent on it.
int tun_fd = -1;

int Next(std::deque<int>* errors) {
  if (errors->empty()) return 0;
  const int error = errors->front();
  errors->pop_front();
  return error;
}

int Fail(int error) {
  errno = error;
  return -1;
}

// The sockets of IPv6 have what is queued for them alone: a message goes to the socket of its family.
bool IsV6Socket(int fd) {
  int domain = 0;
  socklen_t length = sizeof domain;
  return __real_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_INET6;
}

uint32_t KeyOf(const test::Message& message) { return message.v6 ? message.v6->words[3] : message.address; }

int PathMtu(uint32_t peer) {
  const auto found = kernel->path_mtu.find(peer);
  return found == kernel->path_mtu.end() ? 65535 : found->second;
}

// An ICMP error for a socket that is not connected: heard by one that asked for errors, ignored by any other.
void ReceiveIcmp(int error) {
  for (auto& [fd, socket] : kernel->sockets) {
    if (!socket.wants_errors) continue;
    socket.error = error;
    socket.error_queue.push_back(error);
  }
}

// What fails a call to send before its datagram is looked at.
int SendFault(int fd) {
  kernel->sends++;
  if (kernel->icmp_flood != 0) ReceiveIcmp(kernel->icmp_flood);
  if (const int error = std::exchange(kernel->sockets[fd].error, 0)) return error;
  return Next(&kernel->send_errors);
}

// What the IP stack says of one message: 0 or errno.
int TooLong(int fd, test::Message* message) {
  const bool dont_fragment = kernel->sockets[fd].mtu_discovery == IP_PMTUDISC_DO;
  message->dont_fragment = dont_fragment;
  if (kernel->refuse_labels != 0 && message->flow_label != 0) return kernel->refuse_labels;
  const int mtu = PathMtu(KeyOf(*message));
  const int headers = message->v6 ? twill::kOuterHeadersV6 : twill::kOuterHeaders;
  if (message->segment != 0) return message->segment + headers > mtu ? EINVAL : 0;
  return dont_fragment && static_cast<int>(message->data.size()) + headers > mtu ? EMSGSIZE : 0;
}

uint32_t LastWord(const sockaddr* of) {
  twill::SocketName name{};
  std::memcpy(&name, of, of->sa_family == AF_INET6 ? sizeof name.v6 : sizeof name.v4);
  const twill::HostAddress host = twill::HostOf(name);
  return host.address.words[host.is_v6 ? 3 : 0];
}

test::Message To(const void* to) {
  test::Message message;
  const auto& name = *static_cast<const twill::SocketName*>(to);
  const twill::HostAddress host = twill::HostOf(name);
  if (host.is_v6) {
    message.v6 = host.address;
    message.flow_label = ntohl(name.v6.sin6_flowinfo);
  } else {
    message.address = host.address.words[0];
  }
  message.port = name.Port();
  return message;
}

test::Message Taken(const msghdr& header) {
  test::Message message = To(header.msg_name);
  const auto* data = static_cast<const uint8_t*>(header.msg_iov[0].iov_base);
  message.data.assign(data, data + header.msg_iov[0].iov_len);
  auto* const changeable = const_cast<msghdr*>(&header);  // as CMSG_NXTHDR wants it
  for (cmsghdr* c = CMSG_FIRSTHDR(changeable); c != nullptr; c = CMSG_NXTHDR(changeable, c)) {
    uint16_t size;
    std::memcpy(&size, CMSG_DATA(c), sizeof size);
    message.segment = size;
  }
  return message;
}

}  // namespace

extern "C" {

ssize_t __real_read(int fd, void* buffer, size_t length);
ssize_t __real_write(int fd, const void* buffer, size_t length);
ssize_t __real_writev(int fd, const iovec* parts, int count);
int __real_open(const char* path, int flags, ...);
int __real_socket(int domain, int type, int protocol);
int __real_bind(int fd, const sockaddr* name, socklen_t length);
int __real_connect(int fd, const sockaddr* name, socklen_t length);
int __real_setsockopt(int fd, int level, int name, const void* value, socklen_t length);
int __real_getsockopt(int fd, int level, int name, void* value, socklen_t* length);
ssize_t __real_recvmsg(int fd, msghdr* message, int flags);

int __wrap_open(const char* path, int flags, ...) {
  if (std::strcmp(path, "/dev/net/tun") != 0) return __real_open(path, flags, 0600);
  tun_fd = __real_open("/dev/null", O_RDWR | O_CLOEXEC);
  return tun_fd;
}

int __wrap_socket(int domain, int type, int protocol) {
  const int fd = __real_socket(domain, type, protocol);
  if (kernel != nullptr && fd >= 0) kernel->sockets[fd] = {};
  return fd;
}

int __wrap_bind(int fd, const sockaddr* name, socklen_t length) {
  if (kernel != nullptr) kernel->sockets[fd].bound = LastWord(name);
  return __real_bind(fd, name, length);
}

int __wrap_connect(int fd, const sockaddr* name, socklen_t length) {
  if (kernel == nullptr) return __real_connect(fd, name, length);
  kernel->sockets[fd].connected = LastWord(name);
  return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void* value, socklen_t length) {
  if (kernel != nullptr && level == IPPROTO_IP) {
    int number;
    std::memcpy(&number, value, sizeof number);
    if (name == IP_RECVERR) kernel->sockets[fd].wants_errors = number != 0;
    if (name == IP_MTU_DISCOVER) kernel->sockets[fd].mtu_discovery = number;
  }
  if (kernel != nullptr && level == IPPROTO_IPV6 && name == IPV6_DONTFRAG) {
    int number;
    std::memcpy(&number, value, sizeof number);
    kernel->sockets[fd].mtu_discovery = number != 0 ? IP_PMTUDISC_DO : IP_PMTUDISC_WANT;
  }
  return __real_setsockopt(fd, level, name, value, length);
}

int __wrap_getsockopt(int fd, int level, int name, void* value, socklen_t* length) {
  const bool is_mtu = (level == IPPROTO_IP && name == IP_MTU) || (level == IPPROTO_IPV6 && name == IPV6_MTU);
  if (kernel == nullptr || !is_mtu) {
    return __real_getsockopt(fd, level, name, value, length);
  }
  const test::FakeSocket& socket = kernel->sockets[fd];
  const uint32_t listen = level == IPPROTO_IPV6 ? 1 : test::kListenAddress;
  const int mtu = socket.bound == listen ? PathMtu(socket.connected) : 65535;
  std::memcpy(value, &mtu, sizeof mtu);
  return 0;
}

ssize_t __wrap_recvmsg(int fd, msghdr* message, int flags) {
  if (kernel == nullptr || (flags & MSG_ERRQUEUE) == 0) return __real_recvmsg(fd, message, flags);
  test::FakeSocket& socket = kernel->sockets[fd];
  const int error = Next(&socket.error_queue);
  socket.error = socket.error_queue.empty() ? 0 : socket.error_queue.front();
  message->msg_controllen = 0;
  return error == 0 ? Fail(EAGAIN) : 0;
}

int __wrap_ioctl(int, unsigned long, ...) { return 0; }

ssize_t __wrap_read(int fd, void* buffer, size_t length) {
  if (fd != tun_fd || kernel == nullptr) return __real_read(fd, buffer, length);
  if (const int error = Next(&kernel->read_errors)) return Fail(error);
  if (kernel->tun_input.empty()) return Fail(EAGAIN);
  const test::Bytes frame = std::move(kernel->tun_input.front());
  kernel->tun_input.pop_front();
  const size_t taken = std::min(length, frame.size());
  if (taken > 0) std::memcpy(buffer, frame.data(), taken);
  return static_cast<ssize_t>(taken);
}

ssize_t __wrap_writev(int fd, const iovec* parts, int count) {
  if (fd != tun_fd || kernel == nullptr) return __real_writev(fd, parts, count);
  test::Bytes frame;
  for (int i = 0; i < count; i++) {
    const auto* data = static_cast<const uint8_t*>(parts[i].iov_base);
    frame.insert(frame.end(), data, data + parts[i].iov_len);
  }
  if (const int error = Next(&kernel->write_errors)) return Fail(error);
  if (kernel->refuse_superpackets != 0 && frame[1] != 0) return Fail(kernel->refuse_superpackets);
  const auto length = static_cast<ssize_t>(frame.size());
  kernel->tun_output.push_back(std::move(frame));
  return length;
}

ssize_t __wrap_write(int fd, const void* buffer, size_t length) {
  if (fd != tun_fd || kernel == nullptr) return __real_write(fd, buffer, length);
  const iovec part = {const_cast<void*>(buffer), length};
  return __wrap_writev(fd, &part, 1);
}

int __wrap_sendmmsg(int fd, mmsghdr* messages, unsigned int count, int) {
  if (const int error = SendFault(fd)) return Fail(error);
  unsigned int sent = 0;
  int error = 0;
  const unsigned int most = kernel->send_at_most == 0 ? count : static_cast<unsigned int>(kernel->send_at_most);
  for (; sent < count && sent < most; sent++) {
    test::Message message = Taken(messages[sent].msg_hdr);
    error = kernel->refuse_trains != 0 && message.segment != 0 ? kernel->refuse_trains : TooLong(fd, &message);
    if (error != 0) break;
    kernel->udp_output.push_back(std::move(message));
  }
  return sent == 0 ? Fail(error) : static_cast<int>(sent);
}

ssize_t __wrap_sendto(int fd, const void* data, size_t length, int, const sockaddr* to, socklen_t) {
  if (const int error = SendFault(fd)) return Fail(error);
  test::Message message = To(to);
  const auto* bytes = static_cast<const uint8_t*>(data);
  message.data.assign(bytes, bytes + length);
  if (const int error = TooLong(fd, &message)) return Fail(error);
  kernel->udp_output.push_back(std::move(message));
  return static_cast<ssize_t>(length);
}

int __wrap_recvmmsg(int fd, mmsghdr* messages, unsigned int count, int, timespec*) {
  if (const int error = Next(&kernel->read_errors)) return Fail(error);
  const bool is_v6 = IsV6Socket(fd);
  const auto next = [is_v6] {
    return std::find_if(kernel->udp_input.begin(), kernel->udp_input.end(),
                        [is_v6](const test::Message& message) { return message.v6.has_value() == is_v6; });
  };
  if (next() == kernel->udp_input.end()) return Fail(EAGAIN);
  unsigned int received = 0;
  for (; received < count && next() != kernel->udp_input.end(); received++) {
    const test::Message message = std::move(*next());
    kernel->udp_input.erase(next());
    msghdr& header = messages[received].msg_hdr;
    const size_t room = header.msg_iov[0].iov_len;
    const size_t length = std::min(room, message.data.size());
    if (length > 0) std::memcpy(header.msg_iov[0].iov_base, message.data.data(), length);
    messages[received].msg_len = static_cast<unsigned int>(length);
    header.msg_flags = message.truncated || message.data.size() > room ? MSG_TRUNC : 0;
    const twill::HostAddress host =
        message.v6 ? twill::HostAddress{*message.v6, true} : twill::HostAddress::V4(message.address);
    const twill::SocketName name = twill::NameOf(host, message.port);
    std::memcpy(header.msg_name, &name, name.Length());
    if (message.segment > 0) {
      header.msg_controllen = CMSG_SPACE(sizeof(int));
      cmsghdr* control = CMSG_FIRSTHDR(&header);
      control->cmsg_level = 17;
      control->cmsg_type = twill::kUdpGro;
      control->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(control), &message.segment, sizeof message.segment);
    } else {
      header.msg_controllen = 0;
    }
  }
  return static_cast<int>(received);
}

}  // extern "C"

namespace test {

FakeKernel::FakeKernel() { kernel = this; }
FakeKernel::~FakeKernel() { kernel = nullptr; }

std::shared_ptr<twill::Engine> OpenFakeEngine(bool offload, bool probed, twill::Families families, bool outer_v6) {
  return OpenFakeEngine({offload, offload, offload, offload, offload, offload, offload}, probed, families, outer_v6);
}

std::shared_ptr<twill::Engine> OpenFakeEngine(const twill::OffloadSwitches& offload, bool probed,
                                              twill::Families families, bool outer_v6) {
  twill::EngineOptions options;
  options.device = "flannel0";
  options.listen[0] = twill::Address::V4(kListenAddress);
  if (outer_v6) options.listen[1] = twill::Address{{0, 0, 0, 1}};
  options.port = 0;
  options.queues = 1;
  options.offload = offload;
  options.reply_source[0] = twill::Address::V4(0x0a050000);
  options.own_address[0] = twill::Address::V4(0x0a050100);
  options.broadcast = 0x0a05ffff;
  options.families = families;
  options.reply_source[1] = {{0xfd000000, 0, 0, 0x0a050000}};
  options.own_address[1] = {{0xfd000000, 0, 0, 0x0a050100}};
  options.buffer_bytes = 4096;
  auto opened = twill::OpenEngine(std::move(options));
  if (!opened.ok()) return nullptr;
  if (probed) {
    FakeKernel* before = kernel;
    {
      FakeKernel probe;  // takes the probe's writes
      opened.value()->ProbeMerging();
    }
    kernel = before;
  }
  return opened.value();
}

Bytes TunFrame(const Bytes& packet, const twill::VnetHeader& vnet) {
  Bytes frame(sizeof vnet + packet.size());
  std::memcpy(frame.data(), &vnet, sizeof vnet);
  if (!packet.empty()) std::memcpy(frame.data() + sizeof vnet, packet.data(), packet.size());
  return frame;
}

bool CountersAddUp(twill::Queue& queue) {
  using twill::Inbound;
  using twill::Outbound;
  return Count(queue, Outbound::k_packets_in) ==
             Count(queue, Outbound::k_packets_out) + Drops(queue.outbound, twill::kFirstOutboundDrop) &&
         Count(queue, Inbound::k_packets_in) ==
             Count(queue, Inbound::k_packets_out) + Drops(queue.inbound, twill::kFirstInboundDrop);
}

}  // namespace test
