#!/bin/sh
# Makes the node of an attached volume and the link that udev would make for it:
# attach DEVICE MAJOR MINOR VOLUME
set -eu
[ -b "$1" ] && [ "$(stat -c '%t:%T' "$1")" = "$(printf '%x:%x' "$2" "$3")" ] || {
  rm -f "$1"
  mknod -m 0660 "$1" b "$2" "$3"
  chgrp disk "$1" 2>/dev/null || true # an image without the group has no members of it either
}
mkdir -p /dev/disk/by-id
ln -sfn "$1" "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(echo "$4" | tr -d -)"
