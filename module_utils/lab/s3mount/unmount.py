"""Takes a mount away without losing what is still being written, and without hanging."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .mountinfo import mounts_at
from .probe import State, probe

_ANSWER = 10.0  # seconds for a program that should return at once


def run(argv: list[str], deadline: float) -> int | None:
    """Run a program for at most `deadline` seconds and give its exit status, or None.

    It is never waited for beyond that: a program that a hung mount holds cannot be killed.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        status = process.poll()
        if status is not None:
            return status
        time.sleep(0.02)
    process.kill()
    return None


def detach(path: str) -> None:
    """Take every FUSE mount away from the path, now: files still open keep their daemon."""
    for _ in range(len(mounts_at(path))):
        if mounts_at(path)[-1].fstype.startswith("fuse"):
            run(["umount", "-c", "-l", path], _ANSWER)


def release(path: str, daemon: int, say: Callable[[str], None] = print) -> None:
    """Unmount, and end the daemon as soon as no file is open any more.

    A signal before that would lose what is not uploaded: s3fs aborts on
    SIGTERM. A daemon that hangs is killed; there is nothing left to save in it.
    """
    health = probe(path, _ANSWER, remote=False)
    if health.state is State.HUNG:
        say("the daemon hangs: killed")
        detach(path)
        _signal(daemon, signal.SIGKILL)
        return
    if health.state is not State.ABSENT and run(["umount", "-c", path], _ANSWER) != 0:
        say("files are open: detached, waiting for their upload")
        detach(path)
    _wait(daemon)


def _wait(daemon: int) -> None:
    """Wait for the daemon's end; what keeps it may be a shell that merely stands in the folder."""
    idle = 0
    while _alive(daemon):
        idle = 0 if has_open_files(daemon) else idle + 1
        if idle > 20:  # noqa: PLR2004 - two seconds without an open file
            _signal(daemon, signal.SIGTERM)
            return
        time.sleep(0.1)


def has_open_files(daemon: int) -> bool:
    """Tell whether s3fs holds a file of its users: it keeps each in a regular file of its own."""
    for link in Path(f"/proc/{daemon}/fd").glob("*"):
        with suppress(OSError):
            if int(link.name) > 2 and stat.S_ISREG(link.stat().st_mode):  # noqa: PLR2004 - stdio
                return True
    return False


def _alive(daemon: int) -> bool:
    try:
        state = Path(f"/proc/{daemon}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def _signal(daemon: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(daemon, number)
