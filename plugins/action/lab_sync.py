# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy a folder between this machine and the lab with rsync, and show how far it is.

Runs rsync on the controller, over the lab's own ssh_config. Only what differs is sent; what was
broken off goes on where it stopped. Arguments of the task:

direction    push (to the host) or pull (from it)
src, dest    folders; what is in src will be in dest. One that is here may begin with ~.
lab          the host's name in ssh_config
ssh_config   the lab's ssh_config
delete       remove from dest what is not in src (default false)
exclude      patterns to leave out, as rsync's --exclude takes them

Returns `files`, what was sent or removed (in check mode: would be), as rsync itemizes it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

NEWEST_NEEDED = (3, 2, 3)  # the first rsync with --mkpath
LINE_EVERY = 10.0  # seconds between two lines of a log
_PROGRESS = re.compile(r"^\s*[\d.,]+[KMGTP]?\s+\d+%\s")
_ITEM = re.compile(r"^([<>ch.][fdLDS][^ ]{9}|\*deleting  ) (.+)$")
_SSH_FAILED = 255


def _find_terminal() -> bool:
    """Tell whether somebody watches; asked before Ansible forks the process of the task."""
    try:
        if os.isatty(1):
            return True
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    except (OSError, AttributeError):
        pass
    return False


_TERMINAL = _find_terminal()


@dataclass(frozen=True)
class Wish:
    """What is to be copied, and how the host is reached."""

    direction: str
    src: str
    dest: str
    lab: str
    ssh_config: str
    delete: bool = False
    exclude: list[str] = field(default_factory=list)


def read_wish(given: dict[str, Any]) -> Wish:
    """Read the task's arguments. Raises AnsibleActionFail, with what to do."""
    try:
        wish = Wish(**{**given, "delete": boolean(given.get("delete", False))})
    except TypeError as error:
        raise AnsibleActionFail(f"lab_sync: {error}") from None
    if wish.direction not in ("push", "pull"):
        raise AnsibleActionFail(f"direction is {wish.direction!r}: it must be push or pull")
    for name in ("src", "dest"):
        if not getattr(wish, name):
            raise AnsibleActionFail(f"{name} is empty: name a folder with -e {name}=…")
    if not Path(wish.ssh_config).is_file():
        raise AnsibleActionFail(
            f"{wish.ssh_config} is missing: lab {wish.lab} was not built from here; build it with"
            f" ansible-playbook site.yml -e lab_name={wish.lab}"
        )
    here = Path(wish.src if wish.direction == "push" else wish.dest).expanduser()
    if wish.direction == "push" and not here.is_dir():
        raise AnsibleActionFail(
            f"src is {wish.src}, which is no folder here: name one with -e src=…"
        )
    if here.exists() and not here.is_dir():
        raise AnsibleActionFail(f"dest is {wish.dest}, which is no folder: name one with -e dest=…")
    return wish


def rsync_command(wish: Wish, check_mode: bool) -> list[str]:
    """Write the command of rsync."""
    # The tunnel belongs to a shell: a second one could not have the same port, and would say so.
    shell = ["ssh", "-F", wish.ssh_config, "-oBatchMode=yes", "-oClearAllForwardings=yes"]

    def here(folder: str) -> str:
        return f"{Path(folder).expanduser().absolute()}/"

    def there(folder: str) -> str:
        return f"{wish.lab}:{folder.rstrip('/') or ''}/"

    push = wish.direction == "push"
    return [
        "rsync", "--archive", "--no-owner", "--no-group", "--mkpath", "--protect-args",
        "--partial-dir=.rsync-partial", "--outbuf=L", "--info=progress2", "--human-readable",
        "--out-format=%i %n%L",
        f"--rsh={shlex.join(shell)}",
        *(["--delete"] if wish.delete else []),
        *(f"--exclude={pattern}" for pattern in wish.exclude),
        *(["--dry-run"] if check_mode else []),
        here(wish.src) if push else there(wish.src),
        there(wish.dest) if push else here(wish.dest),
    ]  # fmt: skip


def read_output(chunks: Iterator[str], show: Callable[[str], None]) -> list[str]:
    """Take rsync's words apart: hand progress on, return what it itemized."""
    items: list[str] = []
    rest = ""
    for chunk in chunks:
        *whole, rest = re.split(r"[\r\n]", rest + chunk)
        for line in whole:
            if _PROGRESS.match(line):
                show(" ".join(line.split()))
            elif found := _ITEM.match(line):
                items.append(f"{found[1].strip()} {found[2]}")
    return items


class View:
    """One line of a terminal, written over and over; elsewhere a line now and then."""

    def __init__(self, display: Display, terminal: bool, every: float = LINE_EVERY) -> None:
        self._display = display
        self._terminal = terminal
        self._every = every
        self._last = time.monotonic()
        self._length = 0

    def show(self, text: str) -> None:
        """Show how far it is."""
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._display.display("\r" + text.ljust(self._length), screen_only=True, newline=False)
            self._length = len(text)
        elif time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._display.display(f"lab_sync: {text}")

    def end(self) -> None:
        """Leave an empty line."""
        if self._length:
            line = "\r" + " " * self._length + "\r"
            self._display.display(line, screen_only=True, newline=False)


def check_rsync() -> None:
    """Refuse a machine without rsync, or with one that is too old. Raises AnsibleActionFail."""
    try:
        said = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise AnsibleActionFail(
            "rsync is missing on this machine: install it (apt-get install rsync, brew install"
            " rsync) and run the same command again"
        ) from None
    found = re.search(r"version v?(\d+)\.(\d+)\.(\d+)", said.stdout)
    if not found or tuple(map(int, found.groups())) < NEWEST_NEEDED:
        first = (said.stdout or said.stderr).splitlines()[:1]
        raise AnsibleActionFail(
            f"rsync on this machine is {first[0] if first else 'of no known version'}: it must be"
            f" {'.'.join(map(str, NEWEST_NEEDED))} or later; install a newer one"
        )


def run_rsync(command: list[str], view: View) -> tuple[int, list[str], str]:
    """Run it to its end: status, what it itemized, its last words."""
    # What it complains of goes to a file: a second pipe, unread, could fill up and stop it.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        ) as process,
    ):
        output = process.stdout.fileno() if process.stdout else -1
        chunks = iter(lambda: os.read(output, 65536).decode(errors="replace"), "")
        try:
            items = read_output(chunks, view.show)
        finally:
            view.end()
        status = process.wait()
        complaints.seek(0)
        return status, items, complaints.read()


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible carries no types
    """Copies, on the controller."""

    _supports_check_mode = True

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Copy what differs. Raises AnsibleActionFail."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        wish = read_wish(self._task.args)
        check_rsync()
        status, items, said = run_rsync(
            rsync_command(wish, self._task.check_mode), View(Display(), _TERMINAL)
        )
        if status:
            raise AnsibleActionFail(explain(wish, status, said))
        result |= {"changed": bool(items), "files": items}
        if self._task.diff:
            result["diff"] = {"prepared": "".join(f"{item}\n" for item in items)}
        return result


def explain(wish: Wish, status: int, said: str) -> str:
    """Say in one sentence why rsync ended so."""
    lines = [line for line in said.splitlines() if line.strip()]
    why = lines[0].strip().rstrip(".") if lines else f"rsync ended with status {status}"
    if status == _SSH_FAILED:
        return (
            f"lab {wish.lab} cannot be reached: {why}; see whether it is running with"
            " ansible-playbook playbooks/status.yml, start it with playbooks/start.yml"
        )
    return f"{why}; what was copied so far stays, and the same command goes on from there"
