// What the lane needs of the kernel's interface to BPF and headers of older systems lack, with the kernel's values.
//
// Debian 12 builds with the headers of 6.1, which know no tcx (6.6); others have still older ones. The structures are
// parts of union bpf_attr, as include/uapi/linux/bpf.h lays them out: bpf(2) takes any length and reads zeros behind.
#pragma once

#include <linux/bpf.h>

#include <cstdint>

namespace twill::bpf {

// enum bpf_attach_type
inline constexpr uint32_t kTcxIngress = 46;
inline constexpr uint32_t kTcxEgress = 47;
// enum tcx_action_base
inline constexpr int32_t kTcxNext = -1;
inline constexpr int32_t kTcxDrop = 2;
// enum bpf_link_type
inline constexpr uint32_t kLinkTypeTcx = 11;

// enum bpf_cmd
inline constexpr int kProgQuery = 16;
inline constexpr int kLinkCreate = 28;
inline constexpr int kLinkUpdate = 29;

// Instructions: 5.1, and the name of XADD since 5.12.
inline constexpr int kJump32 = 0x06;
inline constexpr int kAtomic = 0xc0;

inline constexpr uint32_t kMmapable = 1u << 10;  // BPF_F_MMAPABLE, 5.5

// Helpers, by their numbers in enum bpf_func_id.
inline constexpr int32_t kMapLookup = 1;
inline constexpr int32_t kKtimeGetNs = 5;
inline constexpr int32_t kSkbStoreBytes = 9;
inline constexpr int32_t kRedirect = 23;
inline constexpr int32_t kSkbLoadBytes = 26;
inline constexpr int32_t kSkbChangeHead = 43;
inline constexpr int32_t kSkbAdjustRoom = 50;
inline constexpr int32_t kFibLookup = 69;
inline constexpr int32_t kRedirectNeigh = 152;
inline constexpr int32_t kCheckMtu = 163;

// bpf_skb_adjust_room
inline constexpr int32_t kRoomMac = 1;
inline constexpr int32_t kRoomFixedGso = 1 << 0;
inline constexpr int32_t kRoomEncapIpv4 = 1 << 1;
inline constexpr int32_t kRoomEncapUdp = 1 << 4;
inline constexpr int32_t kRoomDecapIpv4 = 1 << 7;
// bpf_redirect
inline constexpr int32_t kRedirectIngress = 1;

// Offsets in struct __sk_buff, which never change.
inline constexpr int32_t kSkbLen = 0;
inline constexpr int32_t kSkbPacketType = 4;
inline constexpr int32_t kSkbProtocol = 16;
inline constexpr int32_t kSkbVlanPresent = 20;
inline constexpr int32_t kSkbGsoSize = 176;

// struct bpf_fib_lookup
struct FibLookup {
  uint8_t family;
  uint8_t l4_protocol;
  uint16_t sport;
  uint16_t dport;
  uint16_t tot_len;
  uint32_t ifindex;
  uint32_t tos;
  uint32_t ipv4_src;
  uint32_t source_rest[3];
  uint32_t ipv4_dst;  // in: the destination; out: the next hop
  uint32_t destination_rest[3];
  uint32_t vlan;
  uint8_t smac[6];
  uint8_t dmac[6];
};
static_assert(sizeof(FibLookup) == 64);

// struct bpf_redir_neigh
struct NextHop {
  uint32_t family;
  uint32_t address[4];
};
static_assert(sizeof(NextHop) == 20);

struct LinkCreate {
  uint32_t program;
  uint32_t target_ifindex;
  uint32_t attach_type;
  uint32_t flags;
};

struct LinkUpdate {
  uint32_t link;
  uint32_t new_program;
  uint32_t flags;
  uint32_t old_program;
};

struct ProgQuery {
  uint32_t target_ifindex;
  uint32_t attach_type;
  uint32_t query_flags;
  uint32_t attach_flags;
  uint64_t program_ids;
  uint32_t count;
  uint32_t padding;
  uint64_t program_attach_flags;
  uint64_t link_ids;
  uint64_t link_attach_flags;
  uint64_t revision;
};

// struct bpf_link_info of a tcx link
struct TcxLinkInfo {
  uint32_t type;
  uint32_t id;
  uint32_t program_id;
  uint32_t padding;
  uint32_t ifindex;  // 0 when the device is gone
  uint32_t attach_type;
};

}  // namespace twill::bpf
