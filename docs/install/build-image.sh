#!/usr/bin/env bash
# Builds an OCI image archive with buildah, without a container engine: build-image.sh ROOTFS OUT.tar
#
# ROOTFS is a Debian root in which the package is installed (debootstrap, then apt-get install ./twill_*.deb; see
# docs/install.md). The image runs twilld; its folder /cni holds the CNI plugin for the node, with a Node.js beside it.
set -euo pipefail
rootfs=${1:?usage: build-image.sh ROOTFS OUT.tar}
out=${2:?usage: build-image.sh ROOTFS OUT.tar}
[ -e "$rootfs/usr/bin/twilld" ] || { echo "$rootfs: twill is not installed in it" >&2; exit 1; }

container=$(buildah from scratch)
trap 'buildah rm "$container" > /dev/null' EXIT
buildah add --quiet "$container" "$rootfs" / > /dev/null
buildah config --entrypoint '["/usr/bin/twilld"]' --cmd '' \
  --label org.opencontainers.image.title=twill \
  --label org.opencontainers.image.licenses=Apache-2.0 "$container"
buildah commit --quiet "$container" "oci-archive:$out" > /dev/null
echo "$out"
