#!/usr/bin/env bash
# Builds the CNI plugin as one file that needs no library and no Node.js, in a checkout:
#   build-cni.sh [FILE]        default prebuilds/linux-<arch>/twill-cni
# It is the target twill-cni of binding.gyp, which `npm run build` makes as well; what is missing of it is compiled.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "${1:-$root/prebuilds/linux-$(node -p process.arch)/twill-cni}")
cd "$root"
[ -e build/Makefile ] || npx --no-install node-gyp configure --loglevel=warn >&2
make --silent -C build BUILDTYPE=Release twill-cni >&2
mkdir -p "$(dirname "$out")"
install -s -m 0755 build/Release/twill-cni "$out"
if readelf -lW "$out" | grep -q INTERP; then
  echo "$out needs the libraries of this machine: there is no libc.a to link into it (Debian: libc6-dev)" >&2
  exit 1
fi
echo "$out: $(stat -c %s "$out") bytes"
