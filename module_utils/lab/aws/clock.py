"""Waiting with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import LabError

MINUTE = 60.0


@dataclass
class Clock:
    """Time, so that the tests need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Ask until it is so. Raises LabError after `seconds`."""
        end, pause = self.now() + seconds, 0.5
        while not done():
            if self.now() >= end:
                raise LabError(
                    f"{what} is not so after {seconds:.0f} s: look at it in the EC2 console, then"
                    " run the same command again; it goes on where it stopped"
                )
            self.sleep(pause)
            pause = min(pause * 1.5, 5.0)
