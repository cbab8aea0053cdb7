"""What goes wrong in the sandbox, in words for its user."""

from __future__ import annotations


class SandboxError(Exception):
    """The sandbox could not do what was asked; the text says what, why and what to do."""
