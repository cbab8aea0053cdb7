"""The systemd units of one mount, written out in full so that they read by themselves."""

from __future__ import annotations

from . import names, rights

_KEEPER = "/usr/bin/python3 -m lab.s3mount.keeper"
# `mount` reads the entry of /etc/fstab; s3fs puts itself into the background.
_MOUNT = """\
# Written by s3_mount.
[Unit]
Description=S3 bucket at {path}
Wants=network-online.target {watch}
# After the mount unit that systemd makes of the fstab entry, so that a shutdown
# stops this service, which waits for uploads, before it unmounts.
After=network-online.target {mount}
{mounts_for}StartLimitIntervalSec=0

[Service]
Type=forking
Environment=PYTHONPATH={programs}
# With all of root's rights, for a moment: it empties a folder that nobody may write to, and
# makes it immutable. The daemon, which reads what the network says, has but the one to mount.
ExecStartPre=+{keeper} prepare {path}
ExecStart=/bin/mount {path}
ExecStartPost={keeper} settle --deadline {timeout} {path}
ExecStop={keeper} release --daemon ${{MAINPID}} {path}
# No dead mount stays behind. Not by the keeper, whose start would cost a third of the time
# in which a mount that was killed is back.
ExecStopPost=-/bin/umount -q -c -l {path}
ExecStopPost=/bin/rm -f {records}
Restart=always
RestartSec=100ms
# A program of the user that eats the memory goes before what keeps their files.
OOMScoreAdjust=-900
# Files that are still open are uploaded before the daemon ends.
KillMode=mixed
TimeoutStartSec={start_timeout}
TimeoutStopSec=300
CapabilityBoundingSet={capabilities}
DevicePolicy=closed
DeviceAllow=/dev/fuse rw
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service @mount
SystemCallFilter=~@resources
{confined}
[Install]
WantedBy=multi-user.target
"""

_WATCH = """\
# Written by s3_mount.
[Unit]
Description=Watch over the S3 bucket at {path}
PartOf={unit}
After={unit}

[Service]
Environment=PYTHONPATH={programs}
ExecStart={keeper} watch {path}
Restart=always
RestartSec=1
OOMScoreAdjust=-900
# It sees which files of the cache a daemon has open, removes others, and asks systemd.
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SYS_PTRACE
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
{confined}"""


def mount_unit_text(path: str, cache_dir: str, timeout: int, keys: str = "") -> str:
    """Write the service that mounts, and mounts again whenever the daemon ends.

    `timeout` is in seconds; `keys` is a key file of the user's.
    """
    return _MOUNT.format(
        path=quote(path),
        watch=names.watch_unit(path).replace("%", "%%"),
        mount=f"{names.escape_path(path)}.mount",
        mounts_for=f"RequiresMountsFor={quote(cache_dir)}\n" if cache_dir else "",
        keeper=_KEEPER,
        programs=names.LIBRARY,
        records=f"{quote(str(names.mounted_record(path)))} {quote(str(names.state_record(path)))}",
        timeout=timeout,
        start_timeout=timeout + 60,
        capabilities=rights.capabilities(path, cache_dir, keys),
        confined=rights.CONFINED,
    )


def watch_unit_text(path: str) -> str:
    """Write the service that watches the mount."""
    return _WATCH.format(
        path=quote(path),
        unit=names.mount_unit(path),
        keeper=_KEEPER,
        programs=names.LIBRARY,
        confined=rights.CONFINED,
    )


def quote(path: str) -> str:
    """Write a path as one word of a unit file."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != path or " " in path else path
