#!/usr/bin/env bash
# Builds twill_<version>_<arch>.deb in the given folder (default: the current one) from this checkout.
# Needs what `npm ci` needs, and dpkg-deb. The package depends on a Node.js of Debian's name "nodejs".
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(cd "${1:-.}" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

version=$(node -p "require('$root/package.json').version")
arch=$(dpkg --print-architecture)
tree=$stage/tree
lib=$tree/usr/lib/twill
mkdir -p "$lib" "$tree/usr/bin" "$tree/usr/lib/cni" "$tree/lib/systemd/system" "$tree/etc/default" "$tree/DEBIAN"

# The same files as the npm package, and the dependencies of the lock file.
cd "$root"
[ -x dist/main.js ] || npm run --silent build:ts
npm run --silent package:prebuilds >&2
tarball=$(npm pack --silent --ignore-scripts --pack-destination "$stage")
tar -xzf "$stage/$tarball" -C "$lib" --strip-components=1
cp package-lock.json "$lib/"
(cd "$lib" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --silent >&2)
# The optional package is compiled for the Node.js that is installed here; without it path probes are off.
if [ -d node_modules/raw-socket/build/Release ]; then
  mkdir -p "$lib/node_modules/raw-socket/build/Release"
  cp node_modules/raw-socket/build/Release/raw.node "$lib/node_modules/raw-socket/build/Release/"
fi
rm -rf "$lib/addon" "$lib/binding.gyp" "$lib/package-lock.json" "$lib"/node_modules/.package-lock.json

for pair in twilld:main flanneld:main twill:cli/main mk-docker-opts:docker/mk-docker-opts; do
  ln -s "../lib/twill/dist/${pair#*:}.js" "$tree/usr/bin/${pair%%:*}"
done
ln -s ../twill/dist/cni/main.js "$tree/usr/lib/cni/twill-cni"
install -m 0644 docs/install/twilld.service "$tree/lib/systemd/system/twilld.service"
install -m 0644 docs/install/twilld.default "$tree/etc/default/twilld"
echo /etc/default/twilld > "$tree/DEBIAN/conffiles"

cat > "$tree/DEBIAN/control" <<CONTROL
Package: twill
Version: $version
Architecture: $arch
Maintainer: twill maintainers <twill@localhost>
Section: net
Priority: optional
Depends: nodejs (>= 20.17), iproute2, iptables | nftables
Recommends: tcpdump, containernetworking-plugins
Provides: flannel
Conflicts: flannel
Replaces: flannel
Installed-Size: $(du -sk "$tree/usr" | cut -f1)
Description: overlay network daemon, a drop-in replacement for flanneld
 Gives every host of a cluster a subnet and carries packets between the
 containers of different hosts, by a userspace data path over UDP, by VXLAN or
 by plain routes. Store, files and packets are flannel's.
CONTROL

cat > "$tree/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
# Not started by itself: which etcd to use is set in /etc/default/twilld first.
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ -n "$2" ]; then systemctl try-restart twilld.service; fi
fi
POSTINST
cat > "$tree/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now twilld.service; fi
PRERM
cat > "$tree/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
POSTRM
chmod 0755 "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"

dpkg-deb --root-owner-group --build "$tree" "$out/twill_${version}_${arch}.deb" >&2
echo "$out/twill_${version}_${arch}.deb"
