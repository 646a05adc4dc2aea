#!/bin/sh
# Runs in the guest, as its first process: guest.sh ROOT RESULTS. Of RESULTS/jobs each line is a number of seconds and a
# test file; what it prints goes to RESULTS/<line>.out, its exit status to RESULTS/<line>.status. Then the guest ends.

root=$1
results=$2
# What a service manager would have done.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
. "$results/environment"
hostname guest
ip link set lo up
modprobe tun # nothing else makes /dev/net/tun
cd "$root" || exit
uname -r >"$results/booted"

line=0
while read -r seconds file; do
  line=$((line + 1))
  timeout --kill-after=5 "$seconds" node --import tsx "$file" >"$results/$line.out" 2>&1 </dev/null
  echo $? >"$results/$line.status.new"
  mv "$results/$line.status.new" "$results/$line.status"
done <"$results/jobs"
busybox poweroff -f
