#!/bin/sh
# Takes a volume away, as a pulled disk would go: detach DEVICE MAJOR MINOR VOLUME
set -eu
# Field 3 of mountinfo is the device, field 5 the place; later mounts are nearer the leaves.
awk -v device="$2:$3" '$3 == device { print $5 }' /proc/self/mountinfo | tac | while read -r where; do
  where=$(printf '%b' "$where")
  sync -f "$where"
  umount -l "$where"
done
rm -f "$1" "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(echo "$4" | tr -d -)"
