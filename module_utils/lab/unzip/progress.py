"""How far a run is: told by the run itself, kept in a small file for the one who watches."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

_INTERVAL = 0.5  # seconds between two writes


class Progress(Protocol):
    """What a run tells while it goes on."""

    def begin(self, archives: int, files: int, bytes: int) -> None:
        """Say what this run will write in all."""

    def update(self, files: int, bytes: int) -> None:
        """Say what was written so far; cheap enough to be called after every piece of work."""

    def stage(self, name: str) -> None:
        """Say what the run does now: `reading`, `unpacking`, `placing` or `done`."""


class NoProgress:
    """Nobody watches."""

    def begin(self, archives: int, files: int, bytes: int) -> None:
        """Do nothing."""

    def update(self, files: int, bytes: int) -> None:
        """Do nothing."""

    def stage(self, name: str) -> None:
        """Do nothing."""


class ProgressFile:
    """A JSON file, readable by its owner alone, there while the `with` block runs.

    Its folder is made (0700) where it is missing, and removed again. Each write replaces the file,
    so that a reader never sees half of one. It holds `stage`, the totals `archives`, `files`,
    `bytes` (0 until known), `files_done`, `bytes_done`, and `seconds` since the unpacking began.

    It never raises OSError: what cannot be watched is done all the same.
    """

    def __init__(self, path: str, interval: float = _INTERVAL) -> None:
        self._path = Path(path)
        self._interval = interval
        self._made_folder = False
        self._began = self._written = time.monotonic()
        self._state: dict[str, Any] = {
            "stage": "reading",
            "archives": 0,
            "files": 0,
            "bytes": 0,
            "files_done": 0,
            "bytes_done": 0,
        }

    def __enter__(self) -> ProgressFile:
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700)
            self._made_folder = True
        self._write()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._path.unlink()
        if self._made_folder:
            with suppress(OSError):
                self._path.parent.rmdir()

    def begin(self, archives: int, files: int, bytes: int) -> None:
        """Note the totals; time counts from here."""
        self._state.update(archives=archives, files=files, bytes=bytes)
        self._began = time.monotonic()
        self._write()

    def update(self, files: int, bytes: int) -> None:
        """Note what was written so far, at most twice a second."""
        if time.monotonic() - self._written >= self._interval:
            self._state.update(files_done=files, bytes_done=bytes)
            self._write()

    def stage(self, name: str) -> None:
        """Note what the run does now."""
        self._state["stage"] = name
        self._write()

    def _write(self) -> None:
        now = self._written = time.monotonic()
        text = json.dumps(dict(self._state, seconds=round(now - self._began, 3)))
        with suppress(OSError):
            fd, beside = tempfile.mkstemp(prefix=".progress-", dir=self._path.parent)
            try:
                try:
                    os.write(fd, text.encode())
                finally:
                    os.close(fd)
                os.rename(beside, self._path)  # noqa: PTH104 (mkstemp gives a str)
            except OSError:
                with suppress(OSError):
                    os.unlink(beside)  # noqa: PTH108 (the same)
