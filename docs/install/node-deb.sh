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
cat > "$tree/DEBIAN/control" << CONTROL
Package: nodejs
Version: $("$node" -p 'process.versions.node')
Architecture: $(dpkg --print-architecture)
Maintainer: nobody <nobody@example.org>
Depends: libc6, libstdc++6
Description: Node.js of the building machine
CONTROL
dpkg-deb --root-owner-group --build "$tree" "$out" > /dev/null
