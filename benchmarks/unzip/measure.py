"""Runs one command and says what it cost, the processes that it started included."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_SAMPLE = 0.05  # seconds between two looks at the disk
_TAIL = 400  # characters of a failed command's output
_QUIET = 0.35  # cores in use by others, at most


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds of wall clock, user and system CPU; bytes of disk in use at its peak.

    `others` are CPU seconds of the whole machine besides this command: noise.
    `error` is empty if the command succeeded.
    """

    wall: float
    user: float
    system: float
    peak: int
    others: float
    error: str

    @property
    def cpu(self) -> float:
        """User and system seconds."""
        return self.user + self.system


def adopt_orphans() -> None:
    """Become the parent of what a command leaves behind, so that its CPU is counted as well."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def run(
    command: Sequence[str | Path],
    yard: Path,
    environment: Mapping[str, str],
    deadline: float,
) -> Cost:
    """Run a command; at the deadline (seconds) it is killed, which counts as its failure."""
    log = yard.parent / "output.log"
    with log.open("wb") as output, DiskPeak(yard) as disk:
        usage, busy = resource.getrusage(resource.RUSAGE_CHILDREN), machine_busy()
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        alarm = threading.Timer(deadline, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        try:
            status = process.wait()
            wall = time.monotonic() - began
        finally:
            alarm.cancel()
            _end(process)
    spent, others = resource.getrusage(resource.RUSAGE_CHILDREN), machine_busy() - busy
    user, system = spent.ru_utime - usage.ru_utime, spent.ru_stime - usage.ru_stime
    error = _reason(status, wall >= deadline, log) if status else ""
    return Cost(wall, user, system, disk.peak, max(0.0, others - user - system), error)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what outlives its command, or all of it when interrupted, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)


def _reason(status: int, late: bool, log: Path) -> str:
    if late:
        return "not done by the deadline"
    said = " ".join(log.read_text(errors="replace").split())[-_TAIL:]
    return f"exit status {status}: {said}"


class DiskPeak:
    """Watches how much of a filesystem is taken, in bytes above what was taken at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0

    def __enter__(self) -> DiskPeak:
        self._first = self._taken()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self._taken() - self._first)

    def _taken(self) -> int:
        found = os.statvfs(self._path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE):
            self.peak = max(self.peak, self._taken() - self._first)


def machine_busy() -> float:
    """CPU seconds that all processes of the machine have used since it started."""
    line = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    user, nice, system, _, _, irq, softirq, *_ = (int(field) for field in line.split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def settle(patience: float) -> None:
    """Write out what is dirty, then wait for a quiet moment, for so many seconds at most."""
    os.sync()
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = machine_busy()
        time.sleep(0.5)
        if machine_busy() - before < _QUIET / 2:
            return
