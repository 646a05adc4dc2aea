#!/usr/bin/env bash
# Builds an OCI image archive with debootstrap and buildah, without a container engine, as root:
#   build-image.sh twill_<version>_<arch>.deb OUT.tar [NAME:TAG]        default localhost/twill:<version>
# SUITE (default bookworm) and MIRROR choose the Debian. Where the suite has no Node.js 20.17, as Debian 12, the one of
# this machine is put in. ROOT=DIR takes a root that debootstrap has made already; it is changed.
# The image runs twilld, and has what manifests made for flannel's images run, under their paths.
set -euo pipefail
unset NODE_EXTRA_CA_CERTS NODE_OPTIONS # they name files of this machine
here=$(cd "$(dirname "$0")" && pwd)
deb=$(realpath "${1:?usage: build-image.sh PACKAGE.deb OUT.tar [NAME:TAG]}")
out=${2:?usage: build-image.sh PACKAGE.deb OUT.tar [NAME:TAG]}
version=$(dpkg-deb -f "$deb" Version)
name=${3:-localhost/twill:$version}
work=$(mktemp -d)
root=${ROOT:-$work/root}
container=
cleanup() {
  if [ -n "$container" ]; then buildah rm "$container" > /dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

[ -e "$root/etc/debian_version" ] ||
  debootstrap --variant=minbase "${SUITE:-bookworm}" "$root" ${MIRROR:+"$MIRROR"} > "$work/debootstrap.log"
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
inside apt-get update -qq
# Documents and translations are left out while packages are unpacked, not deleted afterwards: dpkg goes on knowing what
# it has.
cat > "$root/etc/dpkg/dpkg.cfg.d/image" << 'DPKG'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
DPKG
cp "$deb" "$root/twill.deb"
packages=(./twill.deb)
candidate=$(inside apt-cache policy nodejs | sed -n 's/^ *Candidate: //p')
if ! dpkg --compare-versions "${candidate:-0}" ge 20.17; then
  "$here/node-deb.sh" "$root/nodejs.deb"
  packages+=(./nodejs.deb)
fi
inside apt-get install -y -qq --no-install-recommends "${packages[@]}" iptables nftables > "$work/apt.log" ||
  { cat "$work/apt.log" >&2; exit 1; }
inside apt-get clean
rm -rf "$root"/{twill,nodejs}.deb "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,debconf,ldconfig}/* \
  "$root"/var/log/* "$root"/tmp/*
# What the bootstrap itself unpacked of documents and translations.
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/{man,locale,info}/*
mkdir -p "$root/opt/bin"
# What pods of flannel's run: below the holder, so that packets wait while a daemon that was killed is started again.
cat > "$root/opt/bin/flanneld" << 'FLANNELD'
#!/bin/sh
exec /usr/bin/twill-holder --stay /usr/bin/flanneld "$@"
FLANNELD
chmod 0755 "$root/opt/bin/flanneld"
ln -sf /usr/bin/mk-docker-opts "$root/opt/bin/mk-docker-opts.sh"
install -m 0755 "$here/kubernetes/install-conf.sh" "$root/opt/bin/install-conf"
ln -sf /usr/lib/cni/twill-cni "$root/flannel" # in flannel's own image for the plugin: `cp` follows the link
inside /opt/bin/flanneld --version > /dev/null

container=$(buildah from scratch)
buildah add --quiet "$container" "$root" / > /dev/null
buildah config --entrypoint '["/usr/bin/twill-holder", "--stay", "/usr/bin/twilld"]' --cmd '' \
  --label org.opencontainers.image.title=twill \
  --label "org.opencontainers.image.version=$version" \
  --label org.opencontainers.image.licenses=Apache-2.0 "$container"
buildah commit --quiet "$container" "$name" > /dev/null
rm -f "$out"
buildah push --quiet "$name" "oci-archive:$out:$name"
buildah rmi "$name" > /dev/null
echo "$out: $name, $(du -m --apparent-size "$out" | cut -f1) MB compressed"
