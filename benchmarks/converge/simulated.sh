#!/bin/sh
# Shows a Tesla T4 on a host that has none: run as root, on a fresh host and on one from a baked image.
#
# Below the folder that is given: a PCI bus with the GPU, the cloud kernel as the one that runs, and,
# once DKMS has built it, the driver's module as loaded. Beside it three stand-ins: for the kernel that
# loads the module, for nvidia-smi, and for the persistence daemon. All else is the host's own.
set -eu
root=$1

mkdir -p "$root/sys/bus/pci/devices/0000:00:1e.0" "$root/proc/sys/kernel" "$root/proc/driver/nvidia"
cd "$root"
echo 0x10de >sys/bus/pci/devices/0000:00:1e.0/vendor
echo 0x030200 >sys/bus/pci/devices/0000:00:1e.0/class
echo 0x1eb8 >sys/bus/pci/devices/0000:00:1e.0/device
for folder in etc boot lib dev; do ln -sfn "/$folder" "$folder"; done

# The newest kernel, from lists of our own: the host's lists stay as old as they are.
if [ ! -s proc/sys/kernel/osrelease ]; then
    lists=$(mktemp -d)
    apt-get update -qq -o Dir::State::lists="$lists" -o Dir::Cache="$lists"
    apt-cache depends -o Dir::State::lists="$lists" -o Dir::Cache="$lists" linux-headers-cloud-amd64 |
        sed -n 's/.*Depends: linux-headers-//p' | head -n 1 >proc/sys/kernel/osrelease
    rm -rf "$lists"
fi
test -s proc/sys/kernel/osrelease

# What `modprobe nvidia` runs in place of the kernel: only a module that was built can be loaded.
cat >/usr/local/sbin/simulated-modprobe <<EOF
#!/bin/sh
set -eu
module=\$(find "/lib/modules/\$(cat $root/proc/sys/kernel/osrelease)/updates" -name 'nvidia-current.ko*')
version=\$(modinfo --field version "\$module")
echo "NVRM version: NVIDIA UNIX x86_64 Kernel Module  \$version  simulated" >$root/proc/driver/nvidia/version
EOF
mkdir -p /etc/modprobe.d /etc/systemd/system/nvidia-persistenced.service.d
echo "install nvidia /usr/local/sbin/simulated-modprobe" >/etc/modprobe.d/00-simulated.conf

cat >/usr/local/bin/nvidia-smi <<EOF
#!/usr/bin/python3
import re, sys
from pathlib import Path
loaded = Path("$root/proc/driver/nvidia/version")
if not loaded.exists():
    print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    sys.exit(9)
version = re.search(r"Module +([0-9.]+)", loaded.read_text())[1]
known = {"index": "0", "name": "Tesla T4", "driver_version": version, "memory.total": "15360",
         "memory.used": "0", "utilization.gpu": "0", "compute_cap": "7.5", "pstate": "P8",
         "temperature.gpu": "30", "persistence_mode": "Enabled"}
for word in sys.argv[1:]:
    if word.startswith("--query-gpu="):
        print(", ".join(known.get(name, "[N/A]") for name in word.partition("=")[2].split(",")))
EOF
chmod 755 /usr/local/sbin/simulated-modprobe /usr/local/bin/nvidia-smi

cat >/etc/systemd/system/nvidia-persistenced.service.d/simulated.conf <<EOF
[Service]
Type=simple
ExecStart=
ExecStart=/usr/bin/sleep infinity
ExecStopPost=
EOF
systemctl daemon-reload

# At a boot udev loads what is there.
rm -f "$root/proc/driver/nvidia/version"
if [ -d "/lib/modules/$(cat proc/sys/kernel/osrelease)/updates" ]; then
    modprobe nvidia
    systemctl try-restart nvidia-persistenced.service
fi
