"""What the units of a mount run: prepare, settle, release, watch.

The entry in /etc/fstab is the one record of what is mounted and how; this
program reads it, so that a line mended by hand counts too.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import cache, direct, fstab, mountpoint, names, unmount, wait, watch
from .folders import make_private
from .probe import Health, State, probe

FSTAB = Path("/etc/fstab")
_WAIT = 30.0  # seconds for the endpoint and the credentials
_DEADLINE = 4.0
_APPEARS = 5.0  # a mount that is not in the table so long after mount(8) will never be
_SETTLED = 0.6  # s3fs comes up before it asks the bucket, and goes away again if refused


def settings_of(entry: fstab.Entry) -> str:
    """Write down what a mount was made with: its line and the state of its key file."""
    keys = entry.option("passwd_file") or entry.option("credentials")
    changed = Path(keys).stat().st_mtime_ns if keys and Path(keys).exists() else 0
    return f"{entry.line()}\n{changed}\n"


def prepare(path: str) -> None:
    """Clear what is left of an earlier mount, lock the folder, make room in the cache, wait.

    Raises SystemExit where the mount cannot be made yet; systemd tries again.
    """
    entry = _entry(path)
    unmount.detach(path)
    make_private(names.RUN_FOLDER)
    names.state_record(path).unlink(missing_ok=True)
    Path(path).mkdir(parents=True, exist_ok=True)
    if aside := mountpoint.set_aside(Path(path)):
        sys.stdout.write(f"{path}: what was written while nothing was mounted is in {aside}\n")
    mountpoint.lock(Path(path))
    trim(path)
    lacking = cache.too_full(entry) or wait.wait(entry, _WAIT)
    if lacking:
        raise SystemExit(f"{path} cannot be mounted now: {lacking}.")
    names.mounted_record(path).write_text(settings_of(entry), encoding="utf-8")


def settle(path: str, deadline: float) -> Health:
    """Wait until the mount answers, and goes on answering.

    A daemon that is gone is not waited for: systemd begins anew only after this ends.
    """
    started = time.monotonic()
    was_there = False
    while True:
        health = probe(path, min(_DEADLINE, deadline), remote=False)
        if health.state is State.OK:
            was_there = True
            time.sleep(_SETTLED)
            health = probe(path, _DEADLINE, remote=False)
        passed = time.monotonic() - started
        vanished = health.state is State.ABSENT and (was_there or passed > _APPEARS)
        if health.state in (State.OK, State.DEAD) or vanished or passed > deadline:
            return health
        time.sleep(0.1)


def look_after(path: str) -> None:
    """Watch the mount for ever."""
    watch.watch(path, keys_changed, trim, ask_bucket)


def ask_bucket(path: str, deadline: float) -> Health | None:
    """Ask the bucket itself; None where the mount itself asks it."""
    entry = _entry(path)
    return None if entry.fstype == direct.S3FS else direct.health(entry, deadline)


def keys_changed(path: str) -> bool:
    """Tell whether the keys of a mount were changed since it was made."""
    record = names.mounted_record(path)
    if not record.exists():
        return False
    made_with, now = record.read_text(encoding="utf-8"), settings_of(_entry(path))
    # Not the line: `state: present` writes a new one and leaves the mount alone.
    return made_with.splitlines()[-1:] != now.splitlines()[-1:]


def _entry(path: str) -> fstab.Entry:
    entry = fstab.find(FSTAB.read_text(encoding="utf-8", errors="surrogateescape"), path)
    if entry is None:
        raise SystemExit(f"{FSTAB} has no entry for {path}: run s3_mount again.")
    return entry


def trim(path: str) -> None:
    """Keep the cache of a mount within its size, and its disk from filling up."""
    entry = _entry(path)
    folder, limit = entry.option("use_cache"), entry.option("x-lab-cache-bytes")
    if folder:
        make_private(Path(folder))
        bucket = entry.source.partition(":")[0]
        cache.trim(Path(folder), bucket, int(limit or 0), cache.room_needed(entry))
    # These keep their size themselves.
    elif own := next(filter(None, map(entry.option, ("tmpdir", "cache-dir", "cache"))), None):
        make_private(Path(own))


def main(argv: list[str] | None = None) -> int:
    """Run one command; the units name the path as fstab does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["prepare", "settle", "release", "watch"])
    parser.add_argument("path")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds, for settle")
    # systemd gives an empty word where the daemon is gone already
    parser.add_argument("--daemon", default="0", help="process id, for release")
    given = parser.parse_args(argv)
    if given.command == "settle":
        health = settle(given.path, given.deadline)
        if health.state is not State.OK:
            sys.stderr.write(f"{given.path}: {health.state} {health.detail}\n")
            return 1
    elif given.command == "release":
        unmount.release(given.path, int(given.daemon or 0))
    else:
        commands = {"prepare": prepare, "watch": look_after}
        commands[given.command](given.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
