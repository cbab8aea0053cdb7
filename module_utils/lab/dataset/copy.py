"""Copies a prefix of a bucket by rclone, which does it side by side and compares checksums."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import LabError
from ..s3mount import helper
from ..s3mount.backends.rclone import reach
from ..s3mount.bucket import Bucket
from ..s3mount.credentials import Access
from .choice import Survey

TRANSFERS = 32
_KEPT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class Ran:
    """What rclone left: its exit status, its output, files transferred and the last error."""

    status: int
    out: str = ""
    transfers: int = 0
    error: str = ""


Runner = Callable[[list[str], tuple[int, int] | None], Ran]


def run(argv: list[str], owner: tuple[int, int] | None) -> Ran:
    """Run rclone, as `owner` (user and group number) or root; the key stays in the environment."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    user, group = owner or (None, None)
    # The log has a line for each file: it may be too long for memory.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
            env={"PATH": helper.PROGRAM_PATH, **kept},
            user=user,
            group=group,
            extra_groups=None if owner is None else [],
        )
        log.seek(0)
        transfers, error = read_log(log)
    return Ran(done.returncode, done.stdout, transfers, error)


@dataclass(frozen=True)
class Source:
    """A prefix of a bucket, and what rclone has to be told to reach it."""

    bucket: Bucket
    anonymous: bool = False
    runner: Runner = run

    @property
    def address(self) -> str:
        """Name it as users do."""
        return f"s3://{self.bucket.name}/{self.bucket.prefix}"

    def survey(self) -> Survey:
        """Count files, bytes and archives; raises LabError where nothing is there."""
        words = ("--recursive", "--files-only", "--format=sp", "--fast-list")
        done = self.runner(self._command("lsf", *words), None)
        found = count(done.out.splitlines())
        if done.status or not found.files:
            raise LabError(
                f"Nothing can be copied from {self.address}: {done.error or 'no file lies there'}."
            )
        return found

    def copy(self, folder: str, owner: tuple[int, int] | None, dry: bool = False) -> int:
        """Bring what is missing or different and give how many files that were, or would be.

        Sizes and dates are compared, and each file's checksum after it was transferred.
        Raises LabError with rclone's own words.
        """
        told = ["-v", "--dry-run"] if dry else ["-v"]  # a line for each file
        done = self.runner([*self.copy_command(folder), *told], owner)
        if done.status:
            raise LabError(
                f"The copy of {self.address} to {folder} was not completed: "
                f"{done.error or f'rclone ended with {done.status}'}. Run this again: "
                "what is there is kept."
            )
        return done.transfers

    def copy_command(self, folder: str) -> list[str]:
        """Give the words that copy, without a secret."""
        words = [folder, "--fast-list", "--use-server-modtime", "--s3-no-head-object"]
        words += [f"--transfers={TRANSFERS}", f"--checkers={TRANSFERS}", "--stats=0"]
        return self._command("copy", *words)

    def _command(self, verb: str, *words: str) -> list[str]:
        where = f":s3:{self.bucket.name}/{self.bucket.prefix}"
        access = Access("anonymous" if self.anonymous else "environment")
        flags = helper.long_options(reach(self.bucket, access))
        return ["rclone", verb, where, *words, "--config=", "--use-json-log", *flags]


def count(lines: Iterable[str]) -> Survey:
    """Read lines of size;path."""
    files = size = archives = 0
    for line in lines:
        number, _, path = line.partition(";")
        if number.isdecimal():
            files += 1
            size += int(number)
            archives += path.lower().endswith(".zip")
    return Survey(files, size, archives)


def read_log(lines: Iterable[str]) -> tuple[int, str]:
    """Read rclone's log, a JSON object a line: files that were copied, and the last error.

    A line that is no JSON is an error: rclone says so of its own command line.
    """
    transfers, last = 0, ""
    for line in filter(None, map(str.strip, lines)):
        try:
            message = json.loads(line)
        except ValueError:
            message = {"level": "error", "msg": line}
        said = str(message.get("msg", ""))
        if "Copied (" in said or said.startswith("Skipped copy as --dry-run"):
            transfers += 1
        elif message.get("level") in ("error", "critical", "fatal"):
            last = f"{message.get('object', '')} {said}".strip().split("\n")[0]
    return transfers, last.rstrip(".")
