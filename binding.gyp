{
  "variables": {
    "werror%": 0,
    # One file that runs on every Linux; where there is no libc to link into it (Fedora without glibc-static), one that
    # needs the libc of the machine it is compiled on.
    "static%": "<!(echo 'int main(){}' | ${CXX:-c++} -static-pie -o /dev/null -xc++ - 2>/dev/null && echo -static-pie || echo -pie)"
  },
  "targets": [
    {
      "target_name": "twill",
      "sources": [
        "addon/binding/engine_calls.cc",
        "addon/binding/lane_calls.cc",
        "addon/binding/module.cc",
        "addon/binding/process_calls.cc",
        "addon/packet/checksum.cc",
        "addon/packet/coalesce.cc",
        "addon/engine/engine.cc",
        "addon/packet/icmp.cc",
        "addon/kernel/icmp_socket.cc",
        "addon/engine/inbound.cc",
        "addon/engine/outbound.cc",
        "addon/packet/ipv4.cc",
        "addon/packet/ipv6.cc",
        "addon/lane/assembler.cc",
        "addon/lane/bpf_calls.cc",
        "addon/lane/decap.cc",
        "addon/lane/encap.cc",
        "addon/lane/encap_checks.cc",
        "addon/lane/lane.cc",
        "addon/lane/maps.cc",
        "addon/lane/pins.cc",
        "addon/lane/worker_board.cc",
        "addon/kernel/queue_bound.cc",
        "addon/engine/sender.cc",
        "addon/packet/split.cc",
        "addon/packet/trains.cc",
        "addon/kernel/turn.cc",
        "addon/kernel/unix_socket.cc",
        "addon/kernel/tun.cc",
        "addon/kernel/udp_socket.cc"
      ],
      "include_dirs": ["addon", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
        "NAPI_DISABLE_CPP_EXCEPTIONS"
      ],
      "cflags": ["-O3", "-fvisibility=hidden", "-Wall", "-Wextra"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "cflags!": ["-O2"],
      "conditions": [["werror==1", { "cflags": ["-Werror"] }]]
    },
    {
      "target_name": "twill-cni",
      "type": "executable",
      "sources": [
        "addon/cni/attachments.cc",
        "addon/cni/delegate.cc",
        "addon/cni/files.cc",
        "addon/cni/json.cc",
        "addon/cni/main.cc",
        "addon/cni/plugin.cc",
        "addon/cni/request.cc",
        "addon/cni/run_plugin.cc",
        "addon/cni/subnet_env.cc"
      ],
      "include_dirs": ["addon"],
      "defines": ["_FORTIFY_SOURCE=2"],
      "cflags": [
        "-O2",
        "-fPIE",
        "-fstack-protector-strong",
        "-ffunction-sections",
        "-fdata-sections",
        "-Wall",
        "-Wextra"
      ],
      "cflags_cc": ["-std=c++17", "-fexceptions", "-fno-rtti"],
      "cflags!": ["-O3"],
      "cflags_cc!": ["-fno-exceptions"],
      "ldflags": ["<@(static)", "-Wl,--gc-sections,-z,relro,-z,now"],
      "ldflags!": ["-rdynamic"],
      "conditions": [["werror==1", { "cflags": ["-Werror"] }]]
    },
    {
      "target_name": "twill-holder",
      "type": "executable",
      "sources": ["addon/holder/holder.cc", "addon/holder/main.cc", "addon/kernel/unix_socket.cc"],
      "include_dirs": ["addon"],
      "defines": ["_FORTIFY_SOURCE=2"],
      "cflags": [
        "-O2",
        "-fPIE",
        "-fstack-protector-strong",
        "-ffunction-sections",
        "-fdata-sections",
        "-Wall",
        "-Wextra"
      ],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "cflags!": ["-O3"],
      "ldflags": ["<@(static)", "-Wl,--gc-sections,-z,relro,-z,now"],
      "ldflags!": ["-rdynamic"],
      "conditions": [["werror==1", { "cflags": ["-Werror"] }]]
    }
  ]
}
