#!/usr/bin/env bash
# Builds a program of binding.gyp as one file that needs no library and no Node.js, in a checkout:
#   build-program.sh twill-cni|twill-holder [FILE]        default prebuilds/linux-<arch>/NAME
# `npm run build` makes it as well; what is missing of it is compiled.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
name=${1:?expected twill-cni or twill-holder}
out=$(realpath -m "${2:-$root/prebuilds/linux-$(node -p process.arch)/$name}")
cd "$root"
[ -e build/Makefile ] || npx --no-install node-gyp configure --loglevel=warn >&2
make --silent -C build BUILDTYPE=Release "$name" >&2
mkdir -p "$(dirname "$out")"
install -s -m 0755 "build/Release/$name" "$out"
if readelf -lW "$out" | grep -q INTERP; then
  echo "$out needs the libraries of this machine: there is no libc.a to link into it (Debian: libc6-dev)" >&2
  exit 1
fi
echo "$out: $(stat -c %s "$out") bytes"
