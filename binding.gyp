{
  "variables": { "werror%": 0 },
  "targets": [
    {
      "target_name": "twill",
      "sources": [
        "addon/binding/engine_calls.cc",
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
        "addon/kernel/queue_bound.cc",
        "addon/engine/sender.cc",
        "addon/packet/split.cc",
        "addon/packet/trains.cc",
        "addon/kernel/sd_notify.cc",
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
    }
  ]
}
