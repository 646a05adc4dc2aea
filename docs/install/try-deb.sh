#!/usr/bin/env bash
# Installs the package into a clean Debian root and starts its daemon there, in network namespaces of its own:
#   try-deb.sh twill_<version>_<arch>.deb [ROOT]        as root; ROOT is made by debootstrap when it is not there
# Debian 12 has no Node.js 20: the one of this machine is put into a package "nodejs" for the root.
set -euo pipefail
unset NODE_EXTRA_CA_CERTS NODE_OPTIONS # they name files of this machine
deb=$(realpath "${1:?usage: try-deb.sh PACKAGE.deb [ROOT]}")
work=$(mktemp -d)
root=${2:-$work/root}
ns=twill-try-$$
cleanup() {
  [ -n "${daemon:-}" ] && kill "$daemon" 2> /dev/null && wait "$daemon" 2> /dev/null || true
  ip netns delete "$ns" 2> /dev/null || true
  for mount in dev/net/tun proc; do umount "$root/$mount" 2> /dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

[ -e "$root/etc/debian_version" ] || debootstrap --variant=minbase bookworm "$root" > "$work/debootstrap.log"

"$(dirname "$0")/node-deb.sh" "$root/nodejs.deb"
cp "$deb" "$root/twill.deb"
mount -t proc proc "$root/proc"
chroot "$root" apt-get update -qq
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ./nodejs.deb ./twill.deb > "$work/apt.log"
echo "installed: $(chroot "$root" dpkg-query -W -f '${Package} ${Version} ${Status}' twill)"
for program in twilld flanneld twill; do echo "$program: $(chroot "$root" "$program" --version)"; done
chroot "$root" test -x /usr/lib/cni/twill-cni

ip netns add "$ns"
ip -n "$ns" link set lo up
ip -n "$ns" link add eth0 type veth peer name peer0
ip -n "$ns" address add 192.0.2.1/24 dev eth0
ip -n "$ns" link set eth0 up
ip -n "$ns" link set peer0 up
mkdir -p "$root/dev/net"
[ -e "$root/dev/net/tun" ] || touch "$root/dev/net/tun"
mount --bind /dev/net/tun "$root/dev/net/tun"
cat > "$root/etc/twill-static.json" <<'JSON'
{"config": {"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}},
 "leases": [{"subnet": "10.5.1.0/24", "publicIP": "192.0.2.1"}, {"subnet": "10.5.2.0/24", "publicIP": "192.0.2.2"}]}
JSON
# What the unit leaves it: two capabilities and no more.
ip netns exec "$ns" setpriv --bounding-set -all,+net_admin,+net_raw,+sys_chroot \
  chroot "$root" /usr/bin/twilld --store=static --static-file=/etc/twill-static.json --iface=eth0 > "$work/daemon.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do grep -q 'ready after' "$work/daemon.log" && break; sleep 0.1; done
cat "$work/daemon.log"
grep -q 'ready after' "$work/daemon.log"
ip netns exec "$ns" chroot "$root" twill status || true # degraded where a program is missing: it says which
ip netns exec "$ns" chroot "$root" cat /run/flannel/subnet.env
kill "$daemon" && wait "$daemon" && echo "stopped"
daemon=
ip netns exec "$ns" chroot "$root" twill cleanup
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get remove -y -qq twill > /dev/null
echo "removed"
