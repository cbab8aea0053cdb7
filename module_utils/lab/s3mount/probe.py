"""Asks a mount how it is, without ever waiting for it.

A FUSE mount whose daemon hangs holds every process that touches it, and such a
process cannot always be killed. So a child asks, the parent reads its answers
from a pipe until the deadline, kills the child and leaves it to its fate.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from .mountinfo import Mount, mounts_at

_REFUSALS = ("EACCES", "EPERM", "EIO")  # the last is what rclone says
_DAEMON_GONE = (errno.ENOTCONN, errno.ECONNABORTED)
_left: set[int] = set()  # children that a mount holds
PROBE_PREFIX = ".lab-s3-probe-"


class State(StrEnum):
    """What a mount point can be."""

    ABSENT = "absent"  # nothing is mounted
    FOREIGN = "foreign"  # something that is no FUSE file system
    STACKED = "stacked"  # mounted more than once, one over the other
    DEAD = "dead"  # the daemon is gone, every call is ENOTCONN
    HUNG = "hung"  # the daemon does not answer
    DEGRADED = "degraded"  # the daemon answers, the bucket does not
    OK = "ok"


@dataclass(frozen=True)
class Health:
    """A state, what was seen, and the name that the mount goes by."""

    state: State
    detail: str = ""
    source: str = ""

    @property
    def refused(self) -> bool:
        """Tell whether the bucket answers, and refuses."""
        return self.state is State.DEGRADED and self.detail.startswith(_REFUSALS)

    @property
    def broken(self) -> bool:
        """Tell whether only a new mount can heal it."""
        return self.state in (State.DEAD, State.HUNG, State.STACKED)


def probe(path: str, deadline: float, remote: bool = True) -> Health:
    """Give the health of a mount within `deadline` seconds.

    With `remote` the bucket is asked as well, for a name that cannot be cached.
    """
    mounts = mounts_at(path)
    early = _known_from_table(mounts)
    if early:
        return early
    source = mounts[-1].source
    answer = ask(lambda: _steps(path, remote), deadline)
    if answer.errno in _DAEMON_GONE:
        return Health(State.DEAD, errno.errorcode[answer.errno], source)
    if answer.done:
        return Health(State.OK, "", source)
    if answer.steps:
        return Health(State.DEGRADED, answer.detail, source)
    return Health(State.HUNG, answer.detail, source)


def _known_from_table(mounts: list[Mount]) -> Health | None:
    if not mounts:
        return Health(State.ABSENT)
    source = mounts[-1].source
    if not mounts[-1].fstype.startswith("fuse"):
        return Health(State.FOREIGN, mounts[-1].fstype, source)
    if len(mounts) > 1:
        return Health(State.STACKED, f"{len(mounts)} mounts, one over the other", source)
    return None


def _steps(path: str, remote: bool) -> Iterator[None]:
    os.statvfs(path)  # answered by the daemon alone, never from a cache
    yield
    if remote:
        try:
            os.lstat(f"{path}/{PROBE_PREFIX}{secrets.token_hex(8)}")
        except FileNotFoundError:
            pass
        else:
            # s3fs whose keys are refused shows whatever it is asked for as an empty file.
            raise PermissionError(errno.EACCES, "the bucket refuses the keys of the mount")
    yield


def use(path: str, deadline: float, write: bool) -> Answer:
    """List the mount and, with `write`, write, read back and delete a small file."""
    return ask(lambda: _use_steps(path, write), deadline)


def _use_steps(path: str, write: bool) -> Iterator[None]:
    with os.scandir(path) as entries:
        next(entries, None)
    yield
    if not write:
        return
    name = f"{path}/{PROBE_PREFIX}{secrets.token_hex(8)}"
    content = secrets.token_bytes(64)
    try:
        _write(name, content)
        yield
        with open(name, "rb") as file:  # noqa: PTH123 - also runs in a bare child process
            if file.read() != content:
                raise OSError(errno.EIO, "the probe file reads back differently")
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108
    yield


def _write(name: str, content: bytes) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)


@dataclass(frozen=True)
class Answer:
    """What a child said before the deadline: steps done, and the error that ended it."""

    steps: int
    done: bool
    errno: int = 0

    @property
    def detail(self) -> str:
        """Say what went wrong."""
        if self.done:
            return ""
        if self.errno:
            return f"{errno.errorcode.get(self.errno, self.errno)}: {os.strerror(self.errno)}"
        return "no answer within the deadline"


def ask(steps: Callable[[], Iterator[None]], deadline: float) -> Answer:
    """Run the steps in a child and count those done within `deadline` seconds."""
    _reap()
    until = time.monotonic() + deadline
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(steps, writer)
    os.close(writer)
    said = _read_until(reader, until)
    os.close(reader)
    _leave(child)
    text = said.decode()
    count = text.count(".")
    if "E" in text:
        return Answer(count, done=False, errno=int(text.split("E")[1].rstrip(";")))
    return Answer(count, done="!" in text)


def _child(steps: Callable[[], Iterator[None]], writer: int) -> None:
    # Own session and no inherited output: whoever reads the parent's output must not wait for us.
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        for _ in steps():
            os.write(writer, b".")
        os.write(writer, b"!")
        code = 0
    except OSError as error:
        os.write(writer, f"E{error.errno or errno.EIO};".encode())
    finally:
        os._exit(code)


def _read_until(reader: int, until: float) -> bytes:
    said = b""
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([reader], [], [], left)
        if not ready:
            break
        piece = os.read(reader, 4096)
        if not piece:
            break
        said += piece
    return said


def _leave(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _left.add(child)
    for _ in range(10):
        _reap()
        if child not in _left:
            return
        time.sleep(0.01)


def _reap() -> None:
    """Let go of the children that could not be killed at their time and have ended since."""
    for child in list(_left):
        with suppress(ChildProcessError):
            if not os.waitpid(child, os.WNOHANG)[0]:
                continue
        _left.discard(child)
