{
  "variables": { "werror%": 0 },
  "targets": [
    {
      "target_name": "twill",
      "sources": [
        "addon/binding.cc",
        "addon/checksum.cc",
        "addon/coalesce.cc",
        "addon/engine.cc",
        "addon/icmp.cc",
        "addon/icmp_socket.cc",
        "addon/inbound.cc",
        "addon/outbound.cc",
        "addon/packet.cc",
        "addon/queue_bound.cc",
        "addon/sender.cc",
        "addon/split.cc",
        "addon/trains.cc",
        "addon/tun.cc",
        "addon/udp_socket.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "NAPI_DISABLE_CPP_EXCEPTIONS"],
      "cflags": ["-O3", "-fvisibility=hidden", "-Wall", "-Wextra"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
      "cflags!": ["-O2"],
      "conditions": [["werror==1", { "cflags": ["-Werror"] }]]
    }
  ]
}
