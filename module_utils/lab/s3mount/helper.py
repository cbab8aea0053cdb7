"""The helper that mount(8) calls for the types fuse.rclone and fuse.mount-s3.

It turns a line of /etc/fstab into the program's own long options, so that
`mount PATH` works for every backend. Runs on the host, without Ansible.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Words of mount(8) and of ours, which no program is told. Both mount with nosuid and nodev anyway.
_FOR_MOUNT = frozenset({"noauto", "auto", "_netdev", "nofail", "rw", "nosuid", "nodev", "defaults"})


@dataclass(frozen=True)
class Command:
    """What to run: without the environment of whoever calls."""

    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def script(program: str) -> str:
    """Write the file under the name that mount(8) looks for."""
    return (
        "#!/bin/sh\n"
        "# Written by s3_mount: mount(8) calls this for fuse." + program + " in /etc/fstab.\n"
        "PYTHONPATH=/usr/local/lib/lab exec /usr/bin/python3 -m s3mount.helper "
        + program
        + ' "$@"\n'
    )


def options_of(text: str) -> dict[str, str]:
    """Read what stands after `-o`; a flag has the value ''."""
    pairs = (item.partition("=") for item in text.split(",") if item)
    chosen = {name: value for name, _, value in pairs}
    return {
        name: value
        for name, value in chosen.items()
        if name not in _FOR_MOUNT and not name.startswith("x-")
    }


def _common_flags(left: dict[str, str]) -> list[str]:
    """Take out the options that both programs spell alike."""
    alike = {"ro": "--read-only", "allow_other": "--allow-other"}
    return [flag for name, flag in alike.items() if left.pop(name, None) is not None]


def rclone(source: str, path: str, options: dict[str, str], daemon: bool = True) -> Command:
    """Write the command of rclone; with `daemon` it returns when the mount is there."""
    left = dict(options)
    flags = ["--config="]  # none: what root has configured is none of ours
    if daemon:
        flags += ["--daemon", "--daemon-wait=60s", "--syslog"]
    flags += _common_flags(left)
    if "credentials" in left:
        flags += [f"--s3-shared-credentials-file={left.pop('credentials')}", "--s3-profile=default"]
    bucket, _, prefix = source.partition(":/")
    remote = f":s3:{bucket}/{prefix}" if prefix else f":s3:{bucket}"
    argv = ("rclone", "mount", remote, path, f"--devname={source}", *flags, *long_options(left))
    return Command(argv, {"PATH": PROGRAM_PATH})


def mount_s3(source: str, path: str, options: dict[str, str], daemon: bool = True) -> Command:
    """Write the command of Mountpoint; with `daemon` it returns when the mount is there."""
    left = dict(options)
    flags = [] if daemon else ["--foreground"]
    environment = {"PATH": PROGRAM_PATH}
    flags += _common_flags(left)
    if "credentials" in left:
        environment["AWS_SHARED_CREDENTIALS_FILE"] = left.pop("credentials")
        flags.append("--profile=default")
    umask = int(left.pop("umask", "0022"), 8)
    flags += [f"--dir-mode={0o777 & ~umask:04o}", f"--file-mode={0o666 & ~umask:04o}"]
    for name in ("uid", "gid"):
        if left.get(name) == "0":  # which it does not take, and which root has anyway
            del left[name]
    bucket, _, prefix = source.partition(":/")
    if prefix:
        flags.append(f"--prefix={prefix}/")
    return Command(("mount-s3", bucket, path, *flags, *long_options(left)), environment)


def long_options(options: dict[str, str]) -> list[str]:
    """Write options as words of a command line."""
    return [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]


COMMANDS = {"rclone": rclone, "mount-s3": mount_s3}


def main(argv: list[str]) -> int:
    """Become the program that mounts; mount(8) gives SOURCE PATH [-sfnv] -o OPTIONS."""
    parser = argparse.ArgumentParser(prog="mount", description=__doc__)
    parser.add_argument("program", choices=sorted(COMMANDS))
    parser.add_argument("source")
    parser.add_argument("path")
    parser.add_argument("-o", dest="options", default="")
    parser.add_argument("-f", dest="fake", action="store_true")
    parser.add_argument("-t", "-N", dest="ignored")
    for flag in "snv":
        parser.add_argument(f"-{flag}", dest="ignored_flags", action="store_true")
    given = parser.parse_args(argv)
    command = COMMANDS[given.program](given.source, given.path, options_of(given.options))
    if given.fake:
        return 0
    try:
        os.execvpe(command.argv[0], command.argv, command.environment)  # noqa: S606 - its purpose
    except FileNotFoundError:
        sys.stderr.write(f"{command.argv[0]} is not installed on this host.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
