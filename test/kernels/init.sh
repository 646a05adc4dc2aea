#!/bin/busybox sh
# The first process of the guest: the machine's root, read-only by 9p, under an overlay that lives in memory. Then
# guest.sh of the project runs there. Whatever goes wrong, the guest ends: as the first process's end does, by panic=-1.

set -e
. /settings # ROOT, MODULES
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /lower /upper /root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order

share=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o "ro,cache=loose,$share" root /lower
mount -t tmpfs -o size=75% upper /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root

for folder in proc sys dev; do mount -o move "/$folder" "/root/$folder"; done
for folder in tmp run; do mount -t tmpfs -o mode=1777 "$folder" "/root/$folder"; done
cache=/tmp/tsx-0 # what tsx has compiled on the machine: to do it again takes longer than many a test
if [ -d "/lower$cache" ]; then
  mkdir "/root$cache" /upper/cache /upper/cache-work
  mount -t overlay -o "lowerdir=/lower$cache,upperdir=/upper/cache,workdir=/upper/cache-work" overlay "/root$cache"
fi
mkdir -p /root/dev/pts /root/dev/shm /root/run/results "/root/lib/modules/$(uname -r)"
mount -t devpts pts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t cgroup2 cgroup /root/sys/fs/cgroup
mount -t bpf bpf /root/sys/fs/bpf
mount -t 9p -o "$share" results /root/run/results
mount -o bind "/root$MODULES" "/root/lib/modules/$(uname -r)"
exec switch_root /root /bin/sh "$ROOT/test/kernels/guest.sh" "$ROOT" /run/results
