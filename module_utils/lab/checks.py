"""Runs the check programs of a host and reads what they say.

A check program prints one JSON object a line, {"check": ..., "status": ..., "detail": ...},
with status ok, failed or skipped. Whatever else it does counts as a failure, so that a program
that breaks can never pass.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible.module_utils.lab.errors import LabError

STATUSES = ("ok", "failed", "skipped")
DETAIL_LIMIT = 400  # characters of a program's last words that are worth showing


@dataclass(frozen=True)
class Result:
    """One line of the report."""

    check: str
    status: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        """Give the line as it stands in report.json."""
        return asdict(self)


@dataclass(frozen=True)
class Finished:
    """How a program ended; `status` is None when its deadline passed."""

    status: int | None
    output: str
    errors: str


Runner = Callable[[Path, float], Finished]


def run_program(path: Path, deadline_s: float) -> Finished:
    """Run one program with nothing on its standard input, at most `deadline_s` seconds."""
    try:
        done = subprocess.run(
            [str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired as late:
        return Finished(None, _text(late.stdout), _text(late.stderr))
    except OSError as error:
        return Finished(127, "", str(error))
    return Finished(done.returncode, done.stdout, done.stderr)


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""


def programs(directory: Path) -> list[Path]:
    """List the check programs of a folder by name. Raises LabError where there is none."""
    found = sorted(
        path for path in directory.glob("*") if path.is_file() and os.access(path, os.X_OK)
    )
    if not found:
        raise LabError(
            f"{directory}: it holds no check program, so nothing on this host can be proved;"
            " run ansible-playbook playbooks/configure_host.yml"
        )
    return found


def read_results(name: str, finished: Finished, deadline_s: float) -> list[Result]:
    """Turn what a program printed, and how it ended, into results (at least one)."""
    results = [_read_line(name, line) for line in finished.output.splitlines() if line.strip()]
    last_words = finished.errors.strip()[-DETAIL_LIMIT:]
    if finished.status is None:
        results.append(Result(name, "failed", f"no answer within {deadline_s:g} s"))
    elif finished.status:
        results.append(Result(name, "failed", f"exit status {finished.status}: {last_words}"))
    elif not results:
        results.append(Result(name, "failed", f"it printed nothing. {last_words}".strip()))
    return results


def _read_line(name: str, line: str) -> Result:
    try:
        data = json.loads(line)
    except ValueError:
        return Result(name, "failed", f"not a result: {line[:DETAIL_LIMIT]}")
    if not isinstance(data, dict) or data.get("status") not in STATUSES or not data.get("check"):
        return Result(name, "failed", f"not a result: {line[:DETAIL_LIMIT]}")
    return Result(str(data["check"]), str(data["status"]), str(data.get("detail", "")))


def run_all(
    directory: Path, deadline_s: float, run: Runner = run_program, at_once: int = 4
) -> list[Result]:
    """Run every program of `directory`, a few side by side; results in the programs' order."""
    paths = programs(directory)
    with ThreadPoolExecutor(at_once) as pool:
        ended = list(pool.map(lambda path: run(path, deadline_s), paths))
    return [
        result
        for path, finished in zip(paths, ended, strict=True)
        for result in read_results(path.name, finished, deadline_s)
    ]


def table(rows: Iterable[tuple[str, Result]]) -> list[str]:
    """Lay out (where, result) pairs as the lines of a table, a count last."""
    rows = list(rows)
    width = max([len(result.check) for _, result in rows], default=0)
    place = max([len(where) for where, _ in rows], default=0)
    lines = [
        f"{result.status:<8} {where:<{place}}  {result.check:<{width}}  {result.detail}".rstrip()
        for where, result in rows
    ]
    return [*lines, count_line([result for _, result in rows])]


def count_line(results: Sequence[Result]) -> str:
    """Give the last line of the table: how many of each."""
    counts = {s: sum(result.status == s for result in results) for s in STATUSES}
    return ", ".join(f"{number} {status}" for status, number in counts.items())
