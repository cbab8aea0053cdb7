# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the module parallel_unzip, and show how far it is.

The module runs in the foreground, as it would without this plugin: its result, its errors, the
timeouts of the task and the work to set it up are the same. Meanwhile a thread reads the file in
which the module says how far it is, over a connection of its own. Only a module that takes longer
than a second is looked at at all, so that a run with nothing to do costs no more than before.
"""

from __future__ import annotations

import contextvars
import copy
import json
import os
import secrets
import shlex
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any

import ansible.constants
from ansible.plugins.action.normal import ActionModule as PlainAction
from ansible.utils.display import Display

_MEGABYTE = 1_000_000
_WINDOW = 10  # looks over which a rate is taken
_MISSES = 10  # looks in a row that failed, after which looking is given up
_LONGEST_WAIT = 30.0  # seconds after a look that failed; before, each time twice as long
_REST = 4  # times as long as a look took, there is none
_WIDEST_BAR = 40
_NARROWEST_BAR = 10
_WIDE_RATE = ["123456 files/s", "12345.7 MB/s", "12:34 left"]  # what the bar leaves room for
_LINES_FROM = 3  # from -vvv on, Ansible itself writes lines at each look
_PATIENCE = 2.0  # seconds to wait at the end for a look under way


def _find_terminal() -> int | None:
    """Give a descriptor of the terminal that ansible-playbook prints to, or None.

    Ansible loads this file before it forks the process that runs the task, which has no terminal
    and only inherits what was found here.
    """
    try:
        if os.isatty(1):
            return os.dup(1)
        # Into a pipe or a file Ansible writes 8 KiB at once: lines about a run that is under way
        # would be seen when it is over.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    except (OSError, AttributeError):
        pass
    return None


_TERMINAL = _find_terminal()


@dataclass(frozen=True)
class Sample:
    """How far the module was when it was looked at: totals (0 when unknown), and what is done."""

    stage: str
    archives: int
    files: int
    bytes: int
    files_done: int
    bytes_done: int
    seconds: float

    @property
    def share(self) -> float | None:
        """Part of the work that is done, 0 to 1; None while the totals are unknown.

        A file costs as such and by its bytes, so both count.
        """
        parts = [
            min(done / total, 1.0)
            for done, total in ((self.files_done, self.files), (self.bytes_done, self.bytes))
            if total > 0
        ]
        return sum(parts) / len(parts) if parts else None


@dataclass(frozen=True)
class Rate:
    """What was done a second, lately: files, bytes, and share of the whole."""

    files: float
    bytes: float
    share: float


def parse_sample(text: str) -> Sample | None:
    """Read what the module's file says; None where this is not the file, or not all of it."""
    for line in reversed(text.splitlines()):
        with suppress(ValueError, TypeError):
            return Sample(**json.loads(line))
    return None


def take_rate(samples: list[Sample]) -> Rate | None:
    """Take the rate from the first to the last sample; None where nothing was done yet."""
    if not samples:
        return None
    last = samples[-1]
    first = samples[0] if len(samples) > 1 else _start_of(last)
    seconds = last.seconds - first.seconds
    if seconds <= 0 or last.share is None or first.share is None:
        return None
    rate = Rate(
        (last.files_done - first.files_done) / seconds,
        (last.bytes_done - first.bytes_done) / seconds,
        (last.share - first.share) / seconds,
    )
    return rate if rate.share > 0 else None


def _start_of(sample: Sample) -> Sample:
    return Sample(sample.stage, sample.archives, sample.files, sample.bytes, 0, 0, 0.0)


def format_time(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rate_words(sample: Sample, rate: Rate | None) -> list[str]:
    """Files/s, MB/s and time left, each always as wide as the next time."""
    if rate is None or sample.share is None:
        return []
    left = format_time((1 - sample.share) / rate.share)
    return [
        f"{rate.files:6,.0f} files/s",
        f"{rate.bytes / _MEGABYTE:7,.1f} MB/s",
        f"{left:>5} left",
    ]


def format_bar(samples: list[Sample], width: int) -> str:
    """One line for a terminal, at most `width` characters wide."""
    sample = samples[-1]
    share = sample.share
    if sample.stage == "reading" or share is None:
        return "Reading the archives"[:width]
    if sample.stage in {"placing", "done"}:
        return f"Moving {sample.files:,} files into place"[:width]
    counted = f"{sample.files_done:{len(f'{sample.files:,}')},} files"
    words = [f"{int(share * 100):3} %", counted, *_rate_words(sample, take_rate(samples))]
    room = min(width - len("  ".join([*words[:2], *_WIDE_RATE])) - len("[] "), _WIDEST_BAR)
    while len(text := "  ".join(words)) > width and len(words) > 1:
        words.pop()
    if room >= _NARROWEST_BAR:
        full = int(share * room)
        text = f"[{'#' * full}{'-' * (room - full)}] {text}"
    return text[:width]


def format_line(samples: list[Sample]) -> str:
    """One line for a log."""
    sample = samples[-1]
    share = sample.share
    if sample.stage == "reading" or share is None:
        return "reading the archives"
    if sample.stage in {"placing", "done"}:
        return f"moving {sample.files:,} files into place"
    archives = "1 archive" if sample.archives == 1 else f"{sample.archives:,} archives"
    done = (
        f"{int(share * 100)} % of {archives}",
        f"{sample.files_done:,} of {sample.files:,} files",
        f"{sample.bytes_done / _MEGABYTE:,.1f} of {sample.bytes / _MEGABYTE:,.1f} MB",
    )
    return ", ".join([*done, *map(str.strip, _rate_words(sample, take_rate(samples)))])


def format_end(result: dict[str, Any]) -> str:
    """Give the last line for a log, from the module's result."""
    try:
        files, size, seconds = result["files"], result["bytes"], result["seconds"]
    except KeyError:
        return "stopped"
    line = f"done, {files:,} files, {size / _MEGABYTE:,.1f} MB in {format_time(seconds)}"
    if seconds > 0:
        line += f", {files / seconds:,.0f} files/s, {size / seconds / _MEGABYTE:,.1f} MB/s"
    return line


class Bar:
    """One line of a terminal, written over and over, and wiped at the end."""

    def __init__(self, display: Display, terminal: int) -> None:
        self._display = display
        self._terminal = terminal
        self._length = 0

    def show(self, samples: list[Sample]) -> None:
        """Write the line anew."""
        # The last column stays free: where it is written to, some terminals go to the next line.
        self._write(format_bar(samples, self._columns() - 1))

    def end(self, result: dict[str, Any]) -> None:
        """Leave an empty line; `result` speaks for itself."""
        if self._length:
            self._write("")
            self._write("\r", raw=True)

    def _write(self, text: str, raw: bool = False) -> None:
        line = text if raw else "\r" + text.ljust(min(self._length, self._columns() - 1))
        self._length = len(text)
        self._display.display(line, screen_only=True, newline=False)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._terminal).columns or 80
        except OSError:
            return 80


class Lines:
    """Lines for a log, each with the host's name; none where the module is quick."""

    def __init__(self, display: Display, host: str) -> None:
        self._display = display
        self._host = host
        self._shown = False

    def show(self, samples: list[Sample]) -> None:
        """Write a line."""
        self._write(format_line(samples))
        self._shown = True

    def end(self, result: dict[str, Any]) -> None:
        """Write the last line, if there was one before."""
        if self._shown:
            self._write(format_end(result))

    def _write(self, text: str) -> None:
        self._display.display(f"{self._host}: parallel_unzip: {text}")


class Watch:
    """Looks, in a thread, how far the module is, and shows it until the `with` block ends."""

    def __init__(
        self, read: Callable[[], str], view: Bar | Lines, first: float, every: float
    ) -> None:
        self.result: dict[str, Any] = {}
        self._read = read
        self._view = view
        self._first = first
        self._every = every
        self._stop = threading.Event()
        self._showing = threading.Lock()
        # The thread is to say what it says in the name of this task.
        look = contextvars.copy_context().run
        self._thread = threading.Thread(target=look, args=(self._look,), daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        with self._showing:
            self._view.end(self.result)
        self._thread.join(_PATIENCE)

    def _look(self) -> None:
        samples: deque[Sample] = deque(maxlen=_WINDOW)
        misses = 0
        wait = self._first
        while misses < _MISSES and not self._stop.wait(wait):
            began = time.monotonic()
            sample = self._sample()
            wait = max(self._every, _REST * (time.monotonic() - began))
            if sample is None:
                wait = max(wait, min(self._every * 2**misses, _LONGEST_WAIT))
                misses += 1
                continue
            misses = 0
            if samples and samples[-1].stage != sample.stage:
                samples.clear()
            samples.append(sample)
            with self._showing:
                if not self._stop.is_set():
                    self._view.show(list(samples))

    def _sample(self) -> Sample | None:
        # Whatever goes wrong in looking is no fault of the task.
        with suppress(Exception):
            return parse_sample(self._read())
        return None


class ActionModule(PlainAction):  # type: ignore[misc]  # Ansible carries no types
    """The module, watched where somebody sees it and the connection can do two things at once."""

    first_look = 1.0  # seconds after the start, on a terminal
    look_every = 1.0  # seconds, on a terminal
    line_every = 10.0  # seconds, elsewhere

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module; its result is handed on as it is."""
        variables = task_vars or {}
        if not self._can_watch():
            return self._run_module(variables)
        path = self._progress_path()
        given = self._task.args
        # Not a copy of the arguments for the module alone: Ansible's own action is to do the rest.
        self._task.args = {**given, "progress_file": str(path)}
        try:
            with self._watch(path, variables) as watch:
                result = watch.result = self._run_module(variables)
        finally:
            self._task.args = given
        if not result.get("_ansible_parsed", True):
            self._remove(path)
        said = result.get("invocation", {}).get("module_args", {})
        if "progress_file" in said:
            said["progress_file"] = None
        return result

    def _run_module(self, variables: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().run(None, variables)
        return result

    def _can_watch(self) -> bool:
        shell = self._connection._shell
        return not (
            self._task.check_mode
            or self._task.async_val
            or self._task.no_log
            or self._task.args.get("progress_file")
            or getattr(shell, "SHELL_FAMILY", None) != "sh"
            or self._connection.force_persistence
            or "json" in ansible.constants.DEFAULT_STDOUT_CALLBACK  # what is printed is to be JSON
        )

    def _progress_path(self) -> PurePosixPath:
        """Name a file in a folder that the module makes for itself, and removes.

        Not in the temporary folder that Ansible makes for a task: with pipelining there is none,
        and a user become who is not root could not write to it.
        """
        places = self.get_shell_option("system_tmpdirs", ["/tmp"])  # noqa: S108 (the name is random)
        place = "/tmp" if "/tmp" in places else places[0]  # noqa: S108
        return PurePosixPath(place) / f".parallel_unzip-{secrets.token_hex(16)}" / "progress.json"

    def _watch(self, path: PurePosixPath, variables: dict[str, Any]) -> Watch:
        reader = self._second_self()

        def read() -> str:
            said = reader._low_level_execute_command(f"cat {shlex.quote(str(path))}")
            return str(said["stdout"])

        display = Display()
        if _TERMINAL is not None and display.verbosity < _LINES_FROM and self._is_alone(variables):
            return Watch(read, Bar(display, _TERMINAL), self.first_look, self.look_every)
        host = str(variables.get("inventory_hostname", self._play_context.remote_addr))
        return Watch(read, Lines(display, host), self.line_every, self.line_every)

    def _second_self(self) -> ActionModule:
        """Make this action anew, with a connection of its own, for the other thread.

        A connection keeps what it knows of the command that it runs in itself, in the plugin for
        becoming another user and in that for the shell; what it logs in with, it only reads.
        """
        connection = copy.copy(self._connection)
        connection._shell = copy.copy(connection._shell)
        connection.become = copy.copy(connection.become)
        second = copy.copy(self)
        second._connection = connection
        return second

    def _is_alone(self, variables: dict[str, Any]) -> bool:
        """Whether no other host runs the task at the same time."""
        hosts = len(variables.get("ansible_play_batch", ()))
        at_once = self._task.throttle or int(variables.get("ansible_forks", hosts))
        return min(hosts, at_once) <= 1 or bool(self._task.run_once)

    def _remove(self, path: PurePosixPath) -> None:
        """Remove what a module that was killed left."""
        command = self._connection._shell.remove(str(path.parent), recurse=True)
        with suppress(Exception):  # the task failed by then, and its error is the one to show
            self._low_level_execute_command(command)
