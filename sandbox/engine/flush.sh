#!/bin/sh
# Writes out what the file systems of a volume still hold: flush DEVICE MAJOR MINOR VOLUME
set -eu
# Field 3 of mountinfo is the device, field 5 the place.
awk -v device="$2:$3" '$3 == device { print $5 }' /proc/self/mountinfo | while read -r where; do
  sync -f "$(printf '%b' "$where")"
done
