"""Tells how the mounts of a host are: asked now, and as their watches saw them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import fstab, names
from .probe import State, probe

FSTAB = Path("/etc/fstab")
_STALE = 60.0  # seconds; a watch writes at least every ten, or sixteen while a mount hangs


@dataclass(frozen=True)
class Status:
    """One mount. `watched` tells whether its watch is awake; `since` is when its state began."""

    path: str
    bucket: str
    state: str
    detail: str
    watched: bool
    since: str
    restarts: int  # since boot, by systemd

    def as_dict(self) -> dict[str, Any]:
        """Give it for JSON."""
        return asdict(self)

    def line(self) -> str:
        """Say it in one line."""
        parts = [f"{self.path}: {self.state}", self.bucket, self.detail]
        parts.append(f"watched since {self.since}" if self.watched else "NOT watched")
        if self.restarts:
            parts.append(f"mounted anew {self.restarts} times since boot")
        return ", ".join(part for part in parts if part)


def paths() -> list[str]:
    """Give the mount points that s3_mount keeps on this host."""
    text = FSTAB.read_text(encoding="utf-8", errors="surrogateescape") if FSTAB.exists() else ""
    entries = (fstab.parse_line(line) for line in text.split("\n"))
    return [
        entry.path
        for entry in entries
        if entry and (names.UNIT_FOLDER / names.mount_unit(entry.path)).exists()
    ]


def of(path: str, deadline: float, now: datetime | None = None) -> Status:
    """Ask a mount and its bucket for at most `deadline` seconds, and read what the watch saw."""
    health = probe(path, deadline)
    note = read_note(path)
    fresh = bool(note) and _age(note["seen"], now or datetime.now(UTC)) < _STALE
    return Status(
        path=path,
        bucket=health.source,
        state=str(health.state),
        detail=health.detail,
        watched=fresh,
        since=str(note.get("since", "")),
        restarts=_restarts(path) if health.state is not State.FOREIGN else 0,
    )


def read_note(path: str) -> dict[str, str]:
    """Read what the watch of a mount wrote last; empty where there is nothing."""
    try:
        note: dict[str, str] = json.loads(names.state_record(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return note


def _age(stamp: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(stamp)).total_seconds()


def _restarts(path: str) -> int:
    shown = subprocess.run(
        ["systemctl", "show", "--property=NRestarts", "--value", names.mount_unit(path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return int(shown.stdout.strip() or 0)
