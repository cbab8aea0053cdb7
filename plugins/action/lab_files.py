# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the module lab_files, unless one look tells that all is as the task wants it.

The look is one command of the shell that reads type, owner, group, mode and SHA-256 of every path
of the task. It costs a quarter of what it takes to start a module, and nothing is remembered from
run to run: what somebody altered by hand is seen. Only where all is right the module is not run;
whatever the look cannot tell (an option that it does not know, a path that is missing) is the
module's to do or to refuse.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import stat
from collections.abc import Callable
from typing import Any

from ansible.plugins.action.normal import ActionModule as PlainAction

KNOWN = {"path", "mode", "owner", "group", "keep"}
OCTAL = re.compile("[0-7]{3,4}")
FIELDS = 4

# Runs a command of the shell on the host; its status and what it printed.
Ask = Callable[[str], tuple[int, str]]


def _is_plain(wanted: Any, folder: bool) -> bool:
    """Tell whether the look understands an entry: these options, of these types, no others."""
    return (
        isinstance(wanted, dict)
        and wanted.keys() <= KNOWN | (set() if folder else {"content", "validate"})
        and all(isinstance(value, str | bool) for value in wanted.values())
        and isinstance(wanted.get("path"), str)
        and wanted["path"].startswith("/")
        and isinstance(wanted.get("mode"), str)
        and OCTAL.fullmatch(wanted["mode"]) is not None
        and (folder or isinstance(wanted.get("content"), str))
        and isinstance(wanted.get("keep", False), bool)
    )


def _attributes(wanted: dict[str, Any], folder: bool) -> tuple[int, str, str]:
    kind = stat.S_IFDIR if folder else stat.S_IFREG
    mode = kind | int(wanted["mode"], 8)
    return mode, wanted.get("owner", "root"), wanted.get("group", "root")


def is_as_wanted(given: dict[str, Any], ask: Ask) -> bool:
    """Tell whether all of the task's folders and files are there and right; False where unsure."""
    folders, files = given.get("folders") or [], given.get("files") or []
    if given.keys() - {"folders", "files"} or not isinstance(folders, list):
        return False
    if not isinstance(files, list) or not (folders or files):
        return False
    entries = [*((each, True) for each in folders), *((each, False) for each in files)]
    if not all(_is_plain(each, folder) for each, folder in entries):
        return False
    judged = [each["path"] for each in files if not each.get("keep")]
    command = f"stat -c '%f %U %G %n' -- {shlex.join(each['path'] for each, _ in entries)}"
    if judged:
        command += f" && sha256sum -- {shlex.join(judged)}"
    status, said = ask(command)
    lines = said.splitlines()
    if status or len(lines) != len(entries) + len(judged):
        return False
    seen = _read_attributes(lines[: len(entries)])
    sums = {line[66:]: line[:64] for line in lines[len(entries) :]}
    return all(_is_right(each, folder, seen, sums) for each, folder in entries)


def _read_attributes(lines: list[str]) -> dict[str, tuple[int, str, str]]:
    """Read what stat printed: by path its type and mode, owner and group."""
    parts = (line.split(" ", FIELDS - 1) for line in lines)
    return {each[3]: (int(each[0], 16), each[1], each[2]) for each in parts if len(each) == FIELDS}


def _is_right(
    wanted: dict[str, Any],
    folder: bool,
    seen: dict[str, tuple[int, str, str]],
    sums: dict[str, str],
) -> bool:
    found = seen.get(wanted["path"])
    if not found:
        return False
    if wanted.get("keep"):
        return stat.S_IFMT(found[0]) == (stat.S_IFDIR if folder else stat.S_IFREG)
    if found != _attributes(wanted, folder):
        return False
    return folder or (
        sums.get(wanted["path"]) == hashlib.sha256(wanted["content"].encode()).hexdigest()
    )


class ActionModule(PlainAction):  # type: ignore[misc]  # Ansible carries no types
    """The module, where the look does not tell that there is nothing to do."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, and run the module where that is not enough; its result is handed on as it is."""
        if not self._task.async_val and is_as_wanted(self._task.args, self._ask):
            return {"changed": False, "written": [], "diff": []}
        result: dict[str, Any] = super().run(None, task_vars)
        return result

    def _ask(self, command: str) -> tuple[int, str]:
        said = self._low_level_execute_command(command)
        return said["rc"], said["stdout"]
