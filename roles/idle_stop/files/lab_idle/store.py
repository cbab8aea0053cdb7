"""Keeps the memory and the last decision in one file under /run, which a boot empties."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .decision import Decision, Memory, Sample, Settings, Signal


@dataclass(frozen=True)
class Record:
    """The last look at the host and what came of it."""

    memory: Memory
    sample: Sample
    decision: Decision
    settings: Settings


def load(path: Path) -> Record | None:
    """Read the record of the last look, None where there is none that can be read.

    A torn or foreign file is as good as none: the clock then starts anew.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        shot, decision = raw["sample"], raw["decision"]
        return Record(
            Memory(**raw["memory"]),
            Sample(
                shot["boot"],
                shot["at"],
                tuple(Signal(**signal) for signal in shot["signals"]),
                shot["kept_until"],
            ),
            Decision(
                decision["action"],
                decision["idle_for"],
                decision["left"],
                tuple(decision["reasons"]),
            ),
            Settings(**raw["settings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(path: Path, record: Record) -> None:
    """Write the record whole or not at all; every user may read it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(asdict(record), indent=1) + "\n")
    new.chmod(0o644)
    new.replace(path)
