"""Copies a prefix of a bucket by rclone, which does it side by side and compares checksums."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """What rclone left: its exit status, its output and its log."""

    status: int
    out: str
    log: str


Runner = Callable[[list[str], tuple[int, int] | None], Ran]


def run(argv: list[str], owner: tuple[int, int] | None) -> Ran:
    """Run rclone, as `owner` (user and group number) or root; the key stays in the environment."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    user, group = owner or (None, None)
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": helper.PROGRAM_PATH, **kept},
        user=user,
        group=group,
        extra_groups=None if owner is None else [],
    )
    return Ran(done.returncode, done.stdout, done.stderr)


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
                f"Nothing can be copied from {self.address}: "
                f"{last_error(done.log) or 'no file lies there'}."
            )
        return found

    def copy(self, folder: str, owner: tuple[int, int] | None, dry: bool = False) -> int:
        """Bring what is missing or different and give how many files that were, or would be.

        Sizes and dates are compared, and each file's checksum after it was transferred.
        Raises LabError with rclone's own words.
        """
        done = self.runner([*self.copy_command(folder), *(["--dry-run"] if dry else [])], owner)
        if done.status:
            raise LabError(
                f"The copy of {self.address} to {folder} was not completed: "
                f"{last_error(done.log) or f'rclone ended with {done.status}'}. Run this again: "
                "what is there is kept."
            )
        return sum(map(is_transfer, messages(done.log)))

    def copy_command(self, folder: str) -> list[str]:
        """Give the words that copy, without a secret."""
        words = [folder, "--fast-list", "--use-server-modtime", "--s3-no-head-object"]
        words += [f"--transfers={TRANSFERS}", f"--checkers={TRANSFERS}", "--stats=0", "-v"]
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


def messages(log: str) -> Iterator[Mapping[str, str]]:
    """Read rclone's log: a JSON object a line; what is none is a message as well."""
    for line in filter(None, map(str.strip, log.splitlines())):
        try:
            found = json.loads(line)
        except ValueError:
            found = {"level": "error", "msg": line}
        yield {key: str(value) for key, value in found.items()}


def is_transfer(message: Mapping[str, str]) -> bool:
    """Tell whether a file was copied, or would have been."""
    said = message.get("msg", "")
    return "Copied (" in said or said.startswith("Skipped copy as --dry-run")


def last_error(log: str) -> str:
    """Give the last error in one line."""
    errors = [
        f"{one.get('object', '')} {one['msg']}".split("\n")[0].strip()
        for one in messages(log)
        if one.get("level") in ("error", "critical", "fatal") and one.get("msg")
    ]
    return errors[-1].rstrip(".") if errors else ""
