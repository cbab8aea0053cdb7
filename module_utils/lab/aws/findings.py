"""Problems and warnings of the preflight."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import LabError


@dataclass
class Findings:
    """Problems and warnings, collected so that the user reads all of them at once."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def stop(self) -> None:
        """Raise LabError if there is a problem."""
        if self.problems:
            raise LabError("\n".join(self.problems))
