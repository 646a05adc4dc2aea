#!/usr/bin/env bash
# Makes a package "nodejs" of this machine's Node.js, for a Debian that has none of 20.17 or later: node-deb.sh OUT.deb
set -euo pipefail
out=${1:?usage: node-deb.sh OUT.deb}
node=$(command -v node)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 0755 "$tree"
mkdir -p "$tree/usr/bin" "$tree/DEBIAN"
cp -L "$node" "$tree/usr/bin/node"
strip --strip-unneeded "$tree/usr/bin/node" 2> /dev/null || true
printf 'Package: nodejs\nVersion: %s\nArchitecture: %s\nMaintainer: nobody <nobody@example.org>\nDepends: libc6, libstdc++6\nDescription: %s\n' \
  "$("$node" -p 'process.versions.node')" "$(dpkg --print-architecture)" 'Node.js of the building machine' > "$tree/DEBIAN/control"
dpkg-deb --root-owner-group --build "$tree" "$out" > /dev/null
