"""The worker processes, the queue between them, and their deaths.

Workers are forked once the plan is made, so they share its memory. The queue is a
pipe of ranges: a record is read whole by whichever worker is free, with no lock and
no manager. Each worker has a pipe of its own on which it says what it has written.
"""

from __future__ import annotations

import errno
import gc
import os
import selectors
import signal
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ansible.module_utils.lab.errors import LabError

from .worker import Source, Worker

Range = tuple[int, int, int]
"""Number of the source, the first of its members, and the one behind the last."""

_RANGE = struct.Struct("<LLL")
_REPORT = struct.Struct("<LQ")
_FAILED = _REPORT.pack(0xFFFFFFFF, 0)
_READ_BYTES = 64 << 10
_FULL = {
    errno.ENOSPC: "the disk is full (or out of inodes)",
    errno.EDQUOT: "the disk quota is used up",
}


@dataclass
class Done:
    """What the workers wrote."""

    files: int = 0
    bytes: int = 0


def run_pool(
    sources: Sequence[Source],
    ranges: Iterable[Range],
    workers: int,
    make: Callable[[], Worker],
    update: Callable[[int, int], None],
) -> Done:
    """Have `workers` processes extract all ranges; LabError is the first that any of them met.

    `update` is told the files and bytes written so far. Whatever happens, no worker is
    left when this returns.
    """
    records = b"".join(_RANGE.pack(*one) for one in ranges)
    pool = _Pool(sources, records, make, update)
    try:
        pool.start(min(workers, len(records) // _RANGE.size))
        return pool.serve()
    finally:
        pool.end()


class _Pool:
    def __init__(
        self,
        sources: Sequence[Source],
        records: bytes,
        make: Callable[[], Worker],
        update: Callable[[int, int], None],
    ) -> None:
        self._sources = sources
        self._make = make
        self._update = update
        self._reports: dict[int, bytes] = {}  # pipe of a worker: what it sent and was not read yet
        self._pids: dict[int, int] = {}  # pipe of a worker: its process
        self._queue = -1
        self._todo = memoryview(records)
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
            gc.disable()  # a worker makes no cycles
            _work(queue, theirs, self._sources, self._make, parent)
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
            # Whole records only, and few enough to be written at once or not at all.
            while self._todo:
                self._todo = self._todo[os.write(self._queue, self._todo[: _RANGE.size * 300]) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return True  # all workers are gone; their reports say why
        return True

    def _collect(self, pipe: int) -> bool:
        """Read from a worker; True when it has ended."""
        data = os.read(pipe, _READ_BYTES)
        report = self._reports[pipe] + data
        while len(report) >= _REPORT.size and not report.startswith(_FAILED):
            files, size = _REPORT.unpack_from(report)
            self._done.files += files
            self._done.bytes += size
            report = report[_REPORT.size :]
        self._reports[pipe] = report
        self._update(self._done.files, self._done.bytes)
        return not data

    def _judge(self, pipe: int) -> None:
        report = self._reports.pop(pipe)
        os.close(pipe)
        _, status = os.waitpid(self._pids.pop(pipe), 0)
        if report.startswith(_FAILED):
            raise LabError(report[_REPORT.size :].decode())
        if status or report:
            raise LabError(_death(status))

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
    queue: int, reports: int, sources: Sequence[Source], make: Callable[[], Worker], parent: int
) -> None:
    """Live as a worker; everything that goes wrong becomes its report."""
    try:
        os.umask(0)  # modes are given in full
        worker = make()
        files = size = 0
        # A worker whose parent was killed must not go on writing.
        while os.getppid() == parent:
            record = os.read(queue, _RANGE.size)
            if not record:
                return
            number, first, last = _RANGE.unpack(record)
            worker.extract(sources[number], first, last)
            _write_all(reports, _REPORT.pack(worker.files - files, worker.bytes - size))
            files, size = worker.files, worker.bytes
    except LabError as error:
        _write_all(reports, _FAILED + str(error).encode())
    except OSError as error:
        _write_all(reports, _FAILED + disk_error(error).encode())
    except MemoryError:
        said = b"A worker process ran out of memory; run again with fewer workers"
        _write_all(reports, _FAILED + said)


def disk_error(error: OSError) -> str:
    """Say what the system said while files were written."""
    said = _FULL.get(error.errno or 0, error.strerror or str(error))
    at = f" at {error.filename!r}" if error.filename else ""
    return f"dest: could not be written{at}: {said}; mend that and run again"


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
