"""What the units of a mount run: prepare, settle, release, clean up, watch.

The entry in /etc/fstab is the one record of what is mounted and how; this
program reads it, so that a line mended by hand counts too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from . import fstab, mountpoint, names, unmount
from .cache import trim
from .probe import Health, State, probe

FSTAB = Path("/etc/fstab")
_BETWEEN_PROBES = 1.0  # seconds
# A daemon is killed only when it was silent so often: what is open is lost with it, and a
# host that computes at its limit is slow, not hung.
_SILENCES = 3
_BETWEEN_BUCKET_PROBES = 300.0  # each costs a handful of requests
_BETWEEN_TRIMS = 60.0
_DEADLINE = 4.0
_SETTLED = 0.6  # s3fs comes up before it asks the bucket, and goes away again if refused


def settings_of(entry: fstab.Entry) -> str:
    """Write down what a mount was made with: its line and the state of its key file."""
    keys = entry.option("passwd_file") or entry.option("credentials")
    changed = Path(keys).stat().st_mtime_ns if keys and Path(keys).exists() else 0
    return f"{entry.line()}\n{changed}\n"


def prepare(path: str) -> None:
    """Clear what is left of an earlier mount, lock the folder, make room in the cache."""
    entry = _entry(path)
    unmount.detach(path)
    _make_private(names.RUN_FOLDER)
    names.state_record(path).unlink(missing_ok=True)
    Path(path).mkdir(parents=True, exist_ok=True)
    mountpoint.lock(Path(path))
    _trim(entry)
    names.mounted_record(path).write_text(settings_of(entry), encoding="utf-8")


def settle(path: str, deadline: float) -> Health:
    """Wait until the mount answers, and goes on answering."""
    until = time.monotonic() + deadline
    while True:
        health = probe(path, min(_DEADLINE, deadline), remote=False)
        if health.state is State.OK:
            time.sleep(_SETTLED)
            health = probe(path, _DEADLINE, remote=False)
        if health.state is State.OK or time.monotonic() > until:
            return health
        time.sleep(0.1)


def clean(path: str) -> None:
    """Leave no dead mount behind when the daemon is gone."""
    unmount.detach(path)
    names.mounted_record(path).unlink(missing_ok=True)
    names.state_record(path).unlink(missing_ok=True)


def watch(path: str) -> None:
    """Look after the mount for ever: report changes, kill a daemon that hangs, trim the cache."""
    bucket_at = trim_at = 0.0
    watcher = Watcher(path)
    while True:
        now = time.monotonic()
        remote = now - bucket_at >= _BETWEEN_BUCKET_PROBES or watcher.unwell
        if remote:
            bucket_at = now
        watcher.look(probe(path, _DEADLINE, remote=remote))
        if now - trim_at >= _BETWEEN_TRIMS:
            trim_at = now
            _trim(_entry(path))
        time.sleep(_BETWEEN_PROBES)


class Watcher:
    """Remembers what was seen last and decides when the daemon must be killed."""

    def __init__(self, path: str, kill: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.kill = kill or kill_daemon
        self.last = Health(State.ABSENT)
        self.broken = 0

    @property
    def unwell(self) -> bool:
        """Tell whether the bucket should be asked again soon."""
        return self.last.state is State.DEGRADED

    def look(self, health: Health) -> None:
        """Take in one probe."""
        if health != self.last:
            sys.stdout.write(f"{self.path}: {health.state} {health.detail}".rstrip() + "\n")
            sys.stdout.flush()
            _write_state(self.path, health)
        self.last = health
        # Not for a second mount over it: the daemon is well, and killing it would lose files.
        self.broken = self.broken + 1 if health.state in (State.HUNG, State.DEAD) else 0
        if self.broken >= _SILENCES:
            self.broken = 0
            self.kill(self.path)


def kill_daemon(path: str) -> None:
    """Kill what hangs: systemd then mounts anew."""
    sys.stdout.write(f"{path}: the daemon is killed, systemd mounts anew\n")
    sys.stdout.flush()
    unmount.run(["systemctl", "kill", "--signal=KILL", names.mount_unit(path)], 30.0)


def _write_state(path: str, health: Health) -> None:
    _make_private(names.RUN_FOLDER)
    seen = {"state": health.state, "detail": health.detail, "since": datetime.now(UTC).isoformat()}
    fresh = names.state_record(path).with_suffix(".new")
    fresh.write_text(json.dumps(seen) + "\n", encoding="utf-8")
    fresh.replace(names.state_record(path))


def _entry(path: str) -> fstab.Entry:
    entry = fstab.find(FSTAB.read_text(encoding="utf-8", errors="surrogateescape"), path)
    if entry is None:
        raise SystemExit(f"{FSTAB} has no entry for {path}: run s3_mount again.")
    return entry


def _trim(entry: fstab.Entry) -> None:
    folder, limit = entry.option("use_cache"), entry.option("x-lab-cache-bytes")
    if folder:
        _make_private(Path(folder))
        if limit:
            trim(Path(folder), entry.source.partition(":")[0], int(limit))
    # These keep their size themselves.
    elif own := next(filter(None, map(entry.option, ("tmpdir", "cache-dir", "cache"))), None):
        _make_private(Path(own))


def _make_private(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(0o700)


def main(argv: list[str] | None = None) -> int:
    """Run one command; the units name the path as fstab does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["prepare", "settle", "release", "clean", "watch"])
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
        {"prepare": prepare, "clean": clean, "watch": watch}[given.command](given.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
