"""Ways to reach a bucket as files: the users' line, ours by backend and profile, s5cmd."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import ansible.module_utils

from .programs import CACHE, ROOT, Programs
from .service import BUCKET, KEY, SECRET, folder_of

ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

from ansible.module_utils.lab.s3mount import helper  # noqa: E402  by that path
from ansible.module_utils.lab.s3mount.backends.asked import (  # noqa: E402  by that path
    Asked,
    Backend,
    Owner,
    Version,
)
from ansible.module_utils.lab.s3mount.backends.rclone import Rclone  # noqa: E402  by that path
from ansible.module_utils.lab.s3mount.backends.s3fs import S3fs  # noqa: E402  by that path
from ansible.module_utils.lab.s3mount.bucket import Bucket  # noqa: E402  by that path
from ansible.module_utils.lab.s3mount.credentials import Access  # noqa: E402  by that path
from ansible.module_utils.lab.s3mount.mountinfo import mounts_at  # noqa: E402  by that path
from ansible.module_utils.lab.s3mount.options import STREAMED  # noqa: E402  by that path

_MOUNTED = 30.0  # seconds
USERS = "users' line"
DIRECT = "s5cmd"


@dataclass(frozen=True)
class Place:
    """Where a run happens: `port` is the proxy's, `cache` a folder that is empty at first."""

    port: int
    mount: Path
    cache: Path
    passwd: Path


@dataclass(frozen=True)
class Way:
    """A name and the command that mounts in the foreground; s5cmd has none."""

    name: str
    command: Callable[[Place, Programs], helper.Command] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the module made its options."""
        return self.command is not None and self.name != USERS


def users_line(place: Place, programs: Programs) -> helper.Command:
    """Write what users typed; only the address and the key are added."""
    options = [f"use_cache={place.cache}", "allow_other", "uid=1001", "mp_umask=002"]
    options += ["multireq_max=5", f"url=http://127.0.0.1:{place.port}"]
    options += ["use_path_request_style", f"passwd_file={place.passwd}"]
    words = [word for option in options for word in ("-o", option)]
    return helper.Command((programs.installed("s3fs"), BUCKET, str(place.mount), "-f", *words))


def _asked(place: Place, profile: str) -> Asked:
    return Asked(
        path=str(place.mount),
        bucket=Bucket(BUCKET, "us-east-1", f"http://127.0.0.1:{place.port}", path_style=True),
        access=Access("file", passwd_file=str(place.passwd)),
        owner=Owner(1001, 1001),
        read_only=profile == "read",
        cache_dir=str(place.cache),
        profile=profile,
    )


def _s3fs(profile: str) -> Callable[[Place, Programs], helper.Command]:
    def command(place: Place, programs: Programs) -> helper.Command:
        program = programs.installed("s3fs")
        entry = S3fs().entry(_asked(place, profile), version_of(S3fs(), program))
        # What mount(8) would hand to s3fs.
        options = helper.options_of(",".join(entry.options))
        text = ",".join(f"{name}={value}" if value else name for name, value in options.items())
        return helper.Command((program, BUCKET, str(place.mount), "-f", "-o", text))

    return command


def _rclone(find: Callable[[Programs], str]) -> Callable[[Place, Programs], helper.Command]:
    def command(place: Place, programs: Programs) -> helper.Command:
        program = find(programs)
        entry = Rclone().entry(_asked(place, "read"), version_of(Rclone(), program))
        options = helper.options_of(",".join(entry.options))
        keys = CACHE / "credentials"
        keys.write_text(
            f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n",
            encoding="ascii",
        )
        options["credentials"] = str(keys)
        words = helper.rclone(entry.source, entry.path, options, daemon=False)
        return replace(words, argv=(program, *words.argv[1:]))

    return command


def version_of(backend: Backend, program: str) -> Version:
    """Ask a program for its version."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    return backend.version_of(said.stdout)


RCLONE = "rclone, profile read"
NEW_RCLONE = "rclone of PyPI, profile read"
S3FS = "s3fs, profile read"
S3FS_WRITE = "s3fs, profile write"
WAYS = {
    one.name: one
    for one in (
        Way(USERS, users_line),
        Way(S3FS, _s3fs("read")),
        Way("s3fs, profile general", _s3fs("general")),
        Way(S3FS_WRITE, _s3fs("write")),
        Way(RCLONE, _rclone(lambda programs: programs.installed("rclone"))),
        Way(NEW_RCLONE, _rclone(lambda programs: programs.pinned("rclone"))),
        Way(DIRECT),
    )
}


def streams(programs: Programs) -> bool:
    """Whether the machine's s3fs uploads while it is written to."""
    return version_of(S3fs(), programs.installed("s3fs")) >= STREAMED


@contextmanager
def mounted(way: Way, port: int, programs: Programs) -> Iterator[Path]:
    """Mount with an empty cache, and unmount."""
    assert way.command  # noqa: S101 - s5cmd is not mounted
    passwd = CACHE / "passwd"
    passwd.touch(mode=0o600)
    passwd.write_text(f"{KEY}:{SECRET}\n", encoding="ascii")
    place = Place(port, CACHE / "mount", folder_of("cache"), passwd)
    place.mount.mkdir(exist_ok=True)
    command = way.command(place, programs)
    with (CACHE / "mount.log").open("wb") as log:
        daemon = subprocess.Popen(
            command.argv,
            # As mount(8) is called by systemd: a proxy or a CA bundle of ours is none of theirs.
            env={"PATH": helper.PROGRAM_PATH, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(place.mount, daemon)
        yield place.mount
    finally:
        _unmount(place.mount, daemon)


def _wait(mount: Path, daemon: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _MOUNTED
    while not mounts_at(str(mount)):
        if daemon.poll() is not None or time.monotonic() > end:
            raise OSError(f"it does not mount: see {CACHE / 'mount.log'}")
        time.sleep(0.02)
    os.statvfs(mount)
    time.sleep(0.5)  # s3fs asks the bucket after it has mounted


def _unmount(mount: Path, daemon: subprocess.Popen[bytes]) -> None:
    for words in (["umount"], ["umount", "-l"]):
        if mounts_at(str(mount)):
            subprocess.run([*words, str(mount)], check=False, capture_output=True)
    try:
        daemon.wait(60)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def named(names: Sequence[str]) -> list[Way]:
    """Give the ways of these names, in this order."""
    return [WAYS[name] for name in names]
