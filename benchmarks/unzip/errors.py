"""What the benchmark cannot have on this machine."""

from __future__ import annotations


class MissingError(Exception):
    """A program or a data set cannot be had here; the text says which and why, in one line."""
