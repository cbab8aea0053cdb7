#!/usr/bin/python3
"""Prove that the bucket is mounted, answers and is watched, and that its user can work in it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/lab")

from s3mount import status  # type: ignore[import-not-found]  # on the host
from s3mount.probe import State, use  # type: ignore[import-not-found]  # on the host

SETTINGS = Path("/etc/lab/s3.json")
SECONDS = 20.0


def say(check: str, well: bool, detail: str) -> None:
    """Print one result."""
    result = "ok" if well else "failed"
    sys.stdout.write(json.dumps({"check": check, "status": result, "detail": detail}) + "\n")
    sys.stdout.flush()  # before the child that runs as the user prints


def try_as_user(path: str, write: bool) -> None:
    """Use the mount as whoever runs this."""
    answer = use(path, SECONDS, write)
    words = "listed, written, read back, deleted" if write else "listed"
    name = pwd.getpwuid(os.geteuid()).pw_name
    say(f"{name} works in {path}", answer.done, answer.detail or words)


def main() -> None:
    """Print what holds."""
    settings = json.loads(SETTINGS.read_text())
    path, write = settings["path"], settings["write"]
    if sys.argv[1:] == ["as-user"]:
        try_as_user(path, write)
        return
    seen = status.of(path, SECONDS)
    found = f"{seen.state} {seen.bucket} {seen.detail}".strip()
    say(f"a bucket is mounted at {path} and answers", seen.state == State.OK, found)
    say(
        f"a watch over {path} is awake", seen.watched, f"since {seen.since}" if seen.since else "no"
    )
    user = pwd.getpwnam(settings["user"])
    subprocess.run(
        [sys.executable, __file__, "as-user"],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        timeout=2 * SECONDS,
        check=True,
    )


if __name__ == "__main__":
    main()
