#!/bin/sh
# PID 1 of a machine until systemd takes over: does what firmware, kernel, udev and cloud-init do
# for a real instance. What it needs lies in /run/sandbox, written by boot.py before each start.
set -u
here=/run/sandbox
. "$here/settings"
mark=/var/lib/gpulab-sandbox/instance-id

say() { echo "sandbox: $*"; }
say "the machine starts"

# As at any boot: what is mounted later shows in services that have a view of their own. It ends
# at the container: what Docker's setup left of a tie to this machine's mounts is cut first.
shared_mounts() {
  mount --make-rprivate /
  mount --make-rshared /
}

# cgroup v2: Docker mounts the container's own tree read-only; systemd has to write to it.
writable_cgroups() {
  if [ -e /sys/fs/cgroup/cgroup.procs ] && [ ! -w /sys/fs/cgroup/cgroup.procs ]; then
    mount -o remount,bind,rw,nosuid,nodev,noexec /sys/fs/cgroup
  fi
}

# cgroup v1: all machines see this machine's own tree, and a step of Slurm's cannot begin where one
# of its name lies that a killed machine has left. Those with a process in them stay.
forget_dead_steps() {
  for place in /sys/fs/cgroup/*/slurm_*/uid_*; do
    [ ! -d "$place" ] || find "$place" -depth -type d -exec rmdir {} + 2>/dev/null
  done
}

# A boot has an id of its own; ansible.builtin.reboot and journald look at it.
fresh_boot_id() {
  cat /proc/sys/kernel/random/uuid >/run/boot_id
  mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
  rm /run/boot_id
}

# Docker's resolver lives in packet filter rules of this network, which `flush ruleset` ends.
name_servers() {
  if [ -s "$here/resolv.conf" ]; then cat "$here/resolv.conf" >/etc/resolv.conf; fi
}

# Lines of "device major minor volume-id"; udev would make these nodes and links.
volumes() {
  mkdir -p /dev/disk/by-id
  while read -r device major minor volume; do
    sh "$here/attach" "$device" "$major" "$minor" "$volume"
  done <"$here/volumes"
}

# systemd in a container passes over the devices in fstab.
filesystems() {
  [ -r /etc/fstab ] || return 0
  while read -r device where type options _; do
    case $device in /dev/* | UUID=* | LABEL=*) ;; *) continue ;; esac
    case ,${options:-}, in *,noauto,* | *,_netdev,*) continue ;; esac
    [ "$type" != swap ] || continue
    where=$(printf '%b' "$where") # \040 is a space
    mountpoint -q "$where" || mount "$where" || say "fstab: $device is not mounted at $where"
  done </etc/fstab
}

# A machine made from the image of another one must not share its identity.
forget_the_old_machine() {
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /var/lib/dbus/machine-id
  rm -f /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
  rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/sem
  rm -rf /var/lib/cloud/seed/nocloud
  tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
}

host_keys() {
  ssh-keygen -A >/dev/null
}

login_user() {
  id -u "$LOGIN_USER" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$LOGIN_USER"
  for group in adm sudo video; do
    if getent group "$group" >/dev/null; then usermod --append --groups "$group" "$LOGIN_USER"; fi
  done
  mkdir -p /etc/sudoers.d
  echo "$LOGIN_USER ALL=(ALL) NOPASSWD:ALL" >/etc/sudoers.d/90-cloud-init-users
  chmod 0440 /etc/sudoers.d/90-cloud-init-users
  home=$(getent passwd "$LOGIN_USER" | cut -d: -f6)
  install -d -m 0700 -o "$LOGIN_USER" -g "$(id -g "$LOGIN_USER")" "$home/.ssh"
  install -m 0600 -o "$LOGIN_USER" -g "$(id -g "$LOGIN_USER")" \
    "$here/authorized_keys" "$home/.ssh/authorized_keys"
}

# A script runs beside the boot, once, as cloud-init's last stage would run it.
user_script() {
  folder=/var/lib/cloud/instances/$INSTANCE_ID
  mkdir -p "$folder/scripts" /run/systemd/system/multi-user.target.wants
  ln -sfn "$folder" /var/lib/cloud/instance
  install -m 0600 "$here/user-data" "$folder/user-data.txt"
  install -m 0700 "$here/user-data" "$folder/scripts/part-001"
  sed "s|@FOLDER@|$folder|g" "$here/user-data.service" >/run/systemd/system/user-data.service
  ln -sf ../user-data.service /run/systemd/system/multi-user.target.wants/user-data.service
}

cloud_init() {
  if [ "$USER_DATA" != cloud-init ]; then
    [ ! -d /etc/cloud ] || touch /etc/cloud/cloud-init.disabled
    return 0
  fi
  for name in meta-data user-data; do
    install -D -m 0600 "$here/$name" "/var/lib/cloud/seed/nocloud/$name"
  done
  install -D -m 0644 "$here/cloud.cfg" /etc/cloud/cloud.cfg.d/99-sandbox.cfg
  rm -f /etc/cloud/cloud-init.disabled
  for unit in cloud-init-local cloud-init cloud-init-main cloud-init-network cloud-config cloud-final; do
    for place in /lib/systemd/system /usr/lib/systemd/system; do
      [ -e "$place/$unit.service" ] || continue
      SYSTEMD_OFFLINE=1 systemctl --quiet enable "$unit.service"
      break
    done
  done
}

first_boot() {
  forget_the_old_machine
  host_keys
  login_user
  cloud_init
  [ "$USER_DATA" != script ] || user_script
  mkdir -p "${mark%/*}"
  echo "$INSTANCE_ID" >"$mark"
}

# Programs may ask for the metadata as soon as they start; the engine puts it there meanwhile.
await_metadata() {
  tries=0
  while [ "$tries" -lt 150 ] && ! grep -q 169.254.169.254 /proc/net/fib_trie; do
    tries=$((tries + 1))
    sleep 0.02
  done
}

shared_mounts
writable_cgroups
forget_dead_steps
fresh_boot_id
name_servers
volumes
filesystems
if [ "$(cat "$mark" 2>/dev/null)" != "$INSTANCE_ID" ]; then first_boot; fi
await_metadata
cd /
umount -l "$here"
rmdir "$here"
exec /lib/systemd/systemd
