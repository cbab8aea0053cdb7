"""What users ask for by hand, until the next boot at most: `lab keep 2h`, `lab idle off`."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "wishes.json"
LONGEST_SECONDS = 7 * 86400
MAX_BYTES = 4096
UNITS = {"d": 86400, "h": 3600, "m": 60, "min": 60}


@dataclass(frozen=True)
class Wishes:
    """``kept_until`` is a moment of CLOCK_BOOTTIME; ``off`` is the idle stop switched off."""

    boot: str
    kept_until: float = 0.0
    off: bool = False
    by: str = ""


def seconds(text: str) -> float:
    """Read ``90m``, ``2h``, ``1h30m``, ``2d``, or ``0``. Raises ValueError."""
    wanted = text.strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)(min|[dhm])", wanted)
    if wanted == "0":
        return 0.0
    if not parts or "".join(number + unit for number, unit in parts) != wanted:
        raise ValueError(f'"{text}" is no time: write for instance 30m, 2h, 1h30m or 1d')
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not 60 <= total <= LONGEST_SECONDS:  # noqa: PLR2004  (a minute)
        raise ValueError(f'"{text}" is not between 1 minute and 7 days: write for instance 2h')
    return total


def read(folder: Path, boot: str) -> Wishes:
    """Read the wishes of this boot; none where there are none. Raises ValueError, OSError.

    The file belongs to a user: whatever it is, reading it ends and follows no link.
    """
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Wishes(boot)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{folder / FILE} is no file")
        text = file.read(MAX_BYTES)
    raw: Any = json.loads(text)
    if raw["boot"] != boot:
        return Wishes(boot)
    until = float(raw["kept_until"])
    if not math.isfinite(until):
        raise ValueError(f"{folder / FILE} keeps it on until {until}")
    return Wishes(boot, until, raw["off"] is True, str(raw["by"])[:40])


def write(folder: Path, wishes: Wishes) -> None:
    """Write the wishes whole or not at all. Raises OSError."""
    new = folder / f".{FILE}.{os.getpid()}"
    new.write_text(json.dumps(asdict(wishes)) + "\n")
    new.chmod(0o644)
    new.replace(folder / FILE)


def prepare(folder: Path, user: str) -> None:
    """Make the folder in which the lab's user, and nobody else but root, may write."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if folder.owner() != user:
        shutil.chown(folder, user)
