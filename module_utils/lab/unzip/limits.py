"""What an archive may at most ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.lab.errors import LabError

_SIZE = re.compile(r"(\d+)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


@dataclass(frozen=True)
class Limits:
    """Bounds on all archives of one call together; `max_ratio` is for each archive.

    The sizes that a central directory declares are held against these, and no
    member is written one byte beyond its declared size.
    """

    max_bytes: int = 2 << 40
    max_files: int = 10_000_000
    max_ratio: int = 250
    max_depth: int = 32
    max_name: int = 1024

    # An archive that unpacks to less than this may have any ratio.
    RATIO_FLOOR = 10 << 20


@dataclass(frozen=True)
class Rules:
    """What is held against an archive's directory."""

    limits: Limits
    strict: bool
    links: bool = False
    """Whether symbolic links are unpacked, if they point to something inside dest."""


def parse_size(name: str, value: object) -> int:
    """Bytes of "500M", "2T" or a plain number (binary units); LabError for anything else."""
    match = _SIZE.fullmatch(str(value).strip())
    if not match or int(match[1]) == 0:
        raise LabError(
            f"{name}: {value!r} is not a size above 0; write bytes or such as 500M, 20G, 2T"
        )
    return int(match[1]) << 10 * _UNITS[match[2].upper()]


def parse_limits(given: dict[str, Any] | None) -> Limits:
    """Limits from the module's `limits`; LabError names a value that is no limit."""
    chosen: dict[str, int] = {}
    for name, value in (given or {}).items():
        if value is None:
            continue
        if name == "max_bytes":
            chosen[name] = parse_size("limits.max_bytes", value)
        elif int(value) < 1:
            raise LabError(f"limits.{name}: {value!r} is below 1; give a whole number from 1 on")
        else:
            chosen[name] = int(value)
    return Limits(**chosen)
