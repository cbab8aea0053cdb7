"""One step of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Step:
    """One change: what apply.py does, and how the user reads it.

    `before` and `after` are lines of the diff.
    """

    do: str
    text: str
    args: Mapping[str, Any] = field(default_factory=dict)
    before: str = ""
    after: str = ""
