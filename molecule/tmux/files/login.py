"""login.py TYPED [SSH-ARGUMENT...]: logs in with a terminal, types a line, drops the line."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

SETTLE_S = 3.0  # what starts or runs has done so when nothing is printed for so long
DEADLINE_S = 60.0


def read_until_silent(terminal: int) -> str:
    """Return what is printed until SETTLE_S pass without output."""
    seen, deadline = b"", time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and select.select([terminal], [], [], SETTLE_S)[0]:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # the other end is gone
            break
    return seen.decode(errors="replace")


def main() -> None:
    """Print all that the terminal showed."""
    typed, arguments = sys.argv[1], sys.argv[2:]
    os.environ["TERM"] = "xterm-256color"
    process, terminal = pty.fork()
    if process == 0:
        os.execvp("ssh", ["ssh", "-tt", "localhost", *arguments])  # noqa: S606  an argument list
    print(read_until_silent(terminal))
    os.write(terminal, typed.encode() + b"\n")
    print(read_until_silent(terminal))
    os.kill(process, signal.SIGKILL)


main()
