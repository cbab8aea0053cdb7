"""The command `lab`: keep the host on, ask why, switch the idle stop off and on; submit a job."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from . import submit, wishes
from .app import CONFIG, explain
from .collect import boot_identity
from .report import span


def main(argv: list[str] | None = None) -> int:
    """Do one of `keep`, `why`, `idle` and `submit`; 1 and one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="verb", required=True)
    keep = verbs.add_parser("keep", help="keep the host on for a time (lab keep 2h; lab keep 0)")
    keep.add_argument("time", help="30m, 2h, 1h30m, 1d (at most 7 days), or 0 to end it")
    verbs.add_parser("why", help="why the host stays on, or when it stops, with all figures")
    idle = verbs.add_parser("idle", help="switch the idle stop off until the next boot, or on")
    idle.add_argument("switch", choices=("on", "off"))
    verbs.add_parser("submit", help="queue a script for the workers (lab submit --help)")
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["submit"]:
        return submit.main(words[1:])
    options = parser.parse_args(words)
    config: dict[str, Any] = json.loads(options.config.read_text())
    if options.verb == "why":
        return explain(config)
    try:
        said = _wish(config, options)
    except PermissionError:
        user = config["user"]
        print(f"Only {user} and root may do this: sudo lab {' '.join(_words(options))}",
              file=sys.stderr)  # fmt: skip
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    print(said)
    return 0


def _words(options: argparse.Namespace) -> tuple[str, str]:
    return options.verb, options.time if options.verb == "keep" else options.switch


def _wish(config: dict[str, Any], options: argparse.Namespace) -> str:
    if not config["limit_seconds"]:
        return "idle_stop_minutes is 0 in lab.yml: this host never stops by itself."
    folder, boot = Path(config["wishes_dir"]), boot_identity()
    wanted, said = _changed(_known(folder, boot), options)
    wishes.write(folder, replace(wanted, by=_caller()))
    return said


def _known(folder: Path, boot: str) -> wishes.Wishes:
    """Read what was wished before; what nobody can read is written anew."""
    try:
        return wishes.read(folder, boot)
    except (OSError, ValueError, KeyError, TypeError):
        return wishes.Wishes(boot)


def _changed(now: wishes.Wishes, options: argparse.Namespace) -> tuple[wishes.Wishes, str]:
    if options.verb == "idle" and options.switch == "off":
        return replace(now, off=True), (
            "The idle stop is off until `lab idle on` or the next boot: this host now costs until"
            " somebody stops it."
        )
    if options.verb == "idle":
        return replace(now, off=False), "The idle stop is on."
    length = wishes.seconds(options.time)
    if not length:
        return replace(now, kept_until=0.0), "It is kept on no longer: the idle stop decides again."
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + length
    clock = datetime.now().astimezone() + timedelta(seconds=length)
    return replace(now, kept_until=until), (
        f"The host stays on for {span(length)}, until {clock:%a %H:%M %Z}, idle or not;"
        " `lab keep 0` ends that."
    )


def _caller() -> str:
    own = pwd.getpwuid(os.getuid()).pw_name
    return os.environ.get("SUDO_USER", own) if os.getuid() == 0 else own
