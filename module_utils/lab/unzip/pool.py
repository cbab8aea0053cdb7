"""The worker processes, the queue between them, and their deaths.

Workers are forked once the plan is made, so they share its memory. The queue
is a pipe of numbers: a record is read whole by whichever worker is free, with
no lock and no manager.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import selectors
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.lab.errors import LabError

from .worker import Range, Worker

_RECORD = struct.Struct("<L")
_REPORT_BYTES = 64 << 10
_FULL = {
    errno.ENOSPC: "the disk is full (or out of inodes)",
    errno.EDQUOT: "the disk quota is used up",
}


@dataclass
class Done:
    """What the workers wrote."""

    files: int = 0
    bytes: int = 0


def run_pool(ranges: Sequence[Range], workers: int, make: Callable[[], Worker]) -> Done:
    """Have `workers` processes extract all ranges; LabError is the first that any of them met.

    Whatever happens, no worker is left when this returns.
    """
    pool = _Pool(ranges, make)
    try:
        pool.start(min(workers, len(ranges)))
        return pool.serve()
    finally:
        pool.end()


class _Pool:
    def __init__(self, ranges: Sequence[Range], make: Callable[[], Worker]) -> None:
        self._ranges = ranges
        self._make = make
        self._reports: dict[int, bytes] = {}  # pipe of a worker: what it sent so far
        self._pids: dict[int, int] = {}  # pipe of a worker: its process
        self._queue = -1
        self._todo = memoryview(b"".join(map(_RECORD.pack, range(len(ranges)))))
        self._done = Done()

    def start(self, workers: int) -> None:
        read_end, self._queue = os.pipe()
        os.set_blocking(self._queue, False)
        gc.collect()
        gc.freeze()  # or the first collection in each worker would copy all of the plan
        try:
            for _ in range(workers):
                self._fork(read_end)
        finally:
            os.close(read_end)
            gc.unfreeze()

    def _fork(self, queue: int) -> None:
        mine, theirs = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            os.close(theirs)
            self._pids[mine], self._reports[mine] = pid, b""
            return
        try:
            os.close(self._queue)
            _write_all(theirs, json.dumps(_work(queue, self._ranges, self._make, parent)).encode())
            os._exit(0)
        finally:
            os._exit(1)  # not even an exit handler of the module may run twice

    def serve(self) -> Done:
        """Feed the queue and collect the reports until all workers have ended."""
        with selectors.DefaultSelector() as selector:
            for pipe in self._pids:
                selector.register(pipe, selectors.EVENT_READ)
            selector.register(self._queue, selectors.EVENT_WRITE)
            while self._pids:
                for key, _ in selector.select():
                    if key.fd == self._queue:
                        if self._feed():
                            selector.unregister(self._queue)
                            self._close_queue()
                    elif self._collect(key.fd):
                        selector.unregister(key.fd)
                        self._judge(key.fd)
        return self._done

    def _feed(self) -> bool:
        """Write as many records as the pipe takes; True when there are no more."""
        try:
            while self._todo:
                self._todo = self._todo[os.write(self._queue, self._todo[:4096]) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return True  # all workers are gone; their reports say why
        return True

    def _collect(self, pipe: int) -> bool:
        """Read from a worker; True when it has ended."""
        data = os.read(pipe, _REPORT_BYTES)
        self._reports[pipe] += data
        return not data

    def _judge(self, pipe: int) -> None:
        report = self._reports.pop(pipe)
        os.close(pipe)
        _, status = os.waitpid(self._pids.pop(pipe), 0)
        said: dict[str, Any] = json.loads(report) if report and not status else {}
        if "error" in said:
            raise LabError(said["error"])
        if "files" not in said:
            raise LabError(_death(status))
        self._done.files += said["files"]
        self._done.bytes += said["bytes"]

    def _close_queue(self) -> None:
        if self._queue >= 0:
            os.close(self._queue)
            self._queue = -1

    def end(self) -> None:
        """Kill and reap the workers that are left."""
        self._close_queue()
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pipe, pid in self._pids.items():
            os.close(pipe)
            os.waitpid(pid, 0)
        self._pids.clear()


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        why = " (out of memory?)" if number == signal.SIGKILL else ""
        how = f"was killed by signal {number}{why}"
    else:
        how = f"ended with status {os.waitstatus_to_exitcode(status)}"
    return (
        f"A worker process {how}; dest was left as it was, "
        "run again, with fewer workers if memory is short"
    )


def _work(
    queue: int, ranges: Sequence[Range], make: Callable[[], Worker], parent: int
) -> dict[str, Any]:
    """Live as a worker; everything that goes wrong becomes its report."""
    try:
        os.umask(0)  # modes are given in full
        worker = make()
        # A worker whose parent was killed must not go on writing.
        while os.getppid() == parent:
            record = os.read(queue, _RECORD.size)
            if not record:
                return {"files": worker.files, "bytes": worker.bytes}
            worker.extract(ranges[_RECORD.unpack(record)[0]])
    except LabError as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": disk_error(error)}
    except MemoryError:
        return {"error": "A worker process ran out of memory; run again with fewer workers"}
    return {}


def disk_error(error: OSError) -> str:
    """Say what the system said while files were written."""
    said = _FULL.get(error.errno or 0, error.strerror or str(error))
    at = f" at {error.filename!r}" if error.filename else ""
    return f"dest: could not be written{at}: {said}; mend that and run again"


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
