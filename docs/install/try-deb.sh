#!/usr/bin/env bash
# Installs the package into a clean Debian root and runs its daemon there, in network namespaces of its own:
#   try-deb.sh twill_<version>_<arch>.deb [ROOT]        as root; ROOT is made by debootstrap when it is not there
# SUITE (default bookworm) and MIRROR choose the Debian. Where the suite has no Node.js 20.17, as Debian 12, the one of
# this machine is put in. Ends with 0 when the daemon is ready, its probes reach a second host, and all of it is gone
# again.
set -euo pipefail
# What is mounted below is seen by nobody else, and goes with the script.
if [ -z "${TRY_DEB_APART:-}" ]; then TRY_DEB_APART=1 exec unshare --mount --propagation private "$0" "$@"; fi
unset NODE_EXTRA_CA_CERTS NODE_OPTIONS # they name files of this machine
here=$(cd "$(dirname "$0")" && pwd)
deb=$(realpath "${1:?usage: try-deb.sh PACKAGE.deb [ROOT]}")
work=$(mktemp -d)
root=${2:-$work/root}
ns=twill-try-$$
other=twill-try-peer-$$
daemon=
cleanup() {
  if [ -n "$daemon" ]; then kill "$daemon" 2> /dev/null && wait "$daemon" 2> /dev/null || true; fi
  for name in "$ns" "$other"; do ip netns delete "$name" 2> /dev/null || true; done
  for mount in dev/net/tun proc; do umount "$root/$mount" 2> /dev/null || true; done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
fail() { echo "failed: $1" >&2; shift; [ "$#" -eq 0 ] || cat "$@" >&2; exit 1; }

[ -e "$root/etc/debian_version" ] ||
  debootstrap --variant=minbase "${SUITE:-bookworm}" "$root" ${MIRROR:+"$MIRROR"} > "$work/debootstrap.log" ||
  fail debootstrap "$work/debootstrap.log"

inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
apt() { inside apt-get -qq -o Dpkg::Use-Pty=0 "$@" > "$work/apt.log" 2>&1 || fail "apt-get $*" "$work/apt.log"; }
cp "$deb" "$root/twill.deb"
mount -t proc proc "$root/proc"
apt update
packages=(./twill.deb)
candidate=$(inside apt-cache policy nodejs | sed -n 's/^ *Candidate: //p')
if ! dpkg --compare-versions "${candidate:-0}" ge 20.17; then
  "$here/node-deb.sh" "$root/nodejs.deb"
  packages+=(./nodejs.deb)
fi
apt install -y --no-install-recommends "${packages[@]}"
echo "installed: $(inside dpkg-query -W -f '${Package} ${Version} ${Status}' twill)"
for program in twilld flanneld twill; do echo "$program: $(inside "$program" --version)"; done
inside env -i CNI_COMMAND=VERSION /usr/lib/cni/twill-cni | grep -q '"supportedVersions"' || fail twill-cni

ip netns add "$ns"
ip netns add "$other"
for name in "$ns" "$other"; do ip -n "$name" link set lo up; done
ip -n "$ns" link add eth0 type veth peer name eth0 netns "$other"
ip -n "$ns" address add 192.0.2.1/24 dev eth0
ip -n "$other" address add 192.0.2.2/24 dev eth0
ip -n "$ns" link set eth0 up
ip -n "$other" link set eth0 up
ip netns exec "$ns" sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
mkdir -p "$root/dev/net"
[ -e "$root/dev/net/tun" ] || touch "$root/dev/net/tun"
mount --bind /dev/net/tun "$root/dev/net/tun"
cat > "$root/etc/twill-static.json" <<'JSON'
{"config": {"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}},
 "leases": [{"subnet": "10.5.1.0/24", "publicIP": "192.0.2.1"}, {"subnet": "10.5.2.0/24", "publicIP": "192.0.2.2"}]}
JSON
# The capabilities that the unit leaves it, and chroot's.
ip netns exec "$ns" setpriv --bounding-set -all,+net_admin,+net_raw,+bpf,+sys_chroot \
  chroot "$root" /usr/bin/twilld --store=static --static-file=/etc/twill-static.json --iface=eth0 \
  > "$work/daemon.log" 2>&1 &
daemon=$!
# Waits until the command says something that fits.
expect() {
  local pattern=$1
  shift
  for _ in $(seq 100); do
    if "$@" 2> /dev/null | grep -Eq "$pattern"; then return; fi
    kill -0 "$daemon" 2> /dev/null || break
    sleep 0.1
  done
  fail "$* does not say $pattern" "$work/daemon.log"
}
twill() { ip netns exec "$ns" chroot "$root" twill "$@"; }
expect ' (not )?ready after' cat "$work/daemon.log"
cat "$work/daemon.log"
expect 'info  ready after' cat "$work/daemon.log"
expect '"rttMs": *[0-9.]+' twill peers --json
twill status
twill peers
cat "$root/run/flannel/subnet.env"
grep -q '^FLANNEL_SUBNET=10.5.1.1/24$' "$root/run/flannel/subnet.env" || fail 'subnet.env'
kill "$daemon"
wait "$daemon" || fail 'the daemon ended badly' "$work/daemon.log"
daemon=
echo "stopped"
twill cleanup
apt remove -y twill
[ ! -e "$root/usr/lib/twill" ] || fail '/usr/lib/twill is still there'
echo "removed"
