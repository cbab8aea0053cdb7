"""Looks after a mount for as long as it is there.

A daemon that hangs is killed, so that systemd mounts anew; a cache is kept
within its size; what is seen is written down for `status`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from . import names, unmount
from .folders import make_private
from .probe import Health, State, probe

_BETWEEN_PROBES = 1.0  # seconds
# A daemon is killed only when one question stays unanswered for so long: what is open is lost
# with it, and a host that computes at its limit is slow, not hung. With a question to the
# bucket just before and the new mount after it, a hang is healed within 15 s.
_HANG = 9.0
_BUCKET_DEADLINE = 3.0
# Each costs up to four requests: some 6,000 a day, a quarter of a cent.
_BETWEEN_BUCKET_PROBES = 60.0
_WHILE_UNWELL = 10.0
_BETWEEN_TRIMS = 60.0
_BETWEEN_NOTES = 10.0  # a note that is much older says that the watch itself is gone
_DEAD = 3  # looks: systemd itself mounts anew where the daemon is gone
AskBucket = Callable[[str, float], Health | None]  # path, deadline in seconds


@dataclass
class Actions:
    """What the watch does; the tests put their own in."""

    kill: Callable[[str], None]
    remount: Callable[[str], None]
    stale: Callable[[str], bool]  # whether the mount's keys were changed since it was made


class Watcher:
    """Remembers what was seen last and decides what must be done."""

    def __init__(self, path: str, actions: Actions) -> None:
        self.path = path
        self.actions = actions
        self.last = Health(State.ABSENT)
        self.since = datetime.now(UTC)
        self.noted = 0.0
        self.dead = 0

    @property
    def unwell(self) -> bool:
        """Tell whether the bucket should be asked again soon."""
        return self.last.state is State.DEGRADED

    def look(self, health: Health) -> None:
        """Take in one probe."""
        if health != self.last:
            self.since = datetime.now(UTC)
            _say(f"{self.path}: {health.state} {health.detail}".rstrip())
        if health != self.last or time.monotonic() - self.noted > _BETWEEN_NOTES:
            self.noted = time.monotonic()
            _write_state(self.path, health, self.since)
        self.last = health
        self._act(health)

    def _act(self, health: Health) -> None:
        # Not for a second mount over it: the daemon is well, and killing it would lose files.
        self.dead = self.dead + 1 if health.state is State.DEAD else 0
        if health.state is State.HUNG or self.dead >= _DEAD:
            self.dead = 0
            self.actions.kill(self.path)
        elif health.refused and self.actions.stale(self.path):
            self.actions.remount(self.path)


def watch(
    path: str, stale: Callable[[str], bool], trim: Callable[[str], None], ask_bucket: AskBucket
) -> None:
    """Look after the mount for ever."""
    bucket_at = trim_at = 0.0
    watcher = Watcher(path, Actions(kill_daemon, remount, stale))
    while True:
        now = time.monotonic()
        between = _WHILE_UNWELL if watcher.unwell else _BETWEEN_BUCKET_PROBES
        remote = now - bucket_at >= between
        watcher.look(look(path, remote, watcher.last, ask_bucket))
        if remote:
            bucket_at = now
        if now - trim_at >= _BETWEEN_TRIMS:
            trim_at = now
            trim(path)
        time.sleep(_BETWEEN_PROBES)


def look(path: str, remote: bool, last: Health, ask_bucket: AskBucket = lambda *_: None) -> Health:
    """Ask the mount, and with `remote` the bucket; without, an unwell bucket stays unwell.

    `ask_bucket` asks the bucket itself where a mount would answer from what it remembers.
    """
    health = probe(path, _BUCKET_DEADLINE if remote else _HANG, remote=remote)
    if health.state is State.HUNG and remote:
        return probe(path, _HANG, remote=False)
    if health.state is State.OK and remote:
        told = ask_bucket(path, _BUCKET_DEADLINE)
        return health if told is None or told.state is State.OK else told
    if health.state is State.OK and last.state is State.DEGRADED:
        return last
    return health


def kill_daemon(path: str) -> None:
    """Kill what hangs: systemd then mounts anew."""
    _say(f"{path}: the daemon is killed, systemd mounts anew")
    unmount.run(["systemctl", "kill", "--signal=KILL", names.mount_unit(path)], 30.0)


def remount(path: str) -> None:
    """Mount anew with the keys that are in the file now: no backend reads them again."""
    _say(f"{path}: the bucket refuses the keys that it was mounted with, and the file holds others")
    unmount.run(["systemctl", "restart", "--no-block", names.mount_unit(path)], 30.0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _write_state(path: str, health: Health, since: datetime) -> None:
    make_private(names.RUN_FOLDER)
    seen = {
        "state": health.state,
        "detail": health.detail,
        "since": since.isoformat(timespec="seconds"),
        "seen": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    fresh = names.state_record(path).with_suffix(".new")
    fresh.write_text(json.dumps(seen) + "\n", encoding="utf-8")
    fresh.replace(names.state_record(path))
