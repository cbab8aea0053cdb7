"""The one exception that the lab's own code raises for its user."""

from __future__ import annotations


class LabError(Exception):
    """Something that the user can mend.

    The text is one sentence or two: the value, the rule that it breaks, and
    the command or change that mends it.
    """
