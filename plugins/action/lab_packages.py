# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the module lab_packages, unless one dpkg-query tells that all packages are installed.

The query costs a quarter of what it takes to start a module. A name with a version or a pattern,
and one that another package provides, is the module's to judge.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from ansible.plugins.action.normal import ActionModule as PlainAction

KNOWN = {"name", "install_recommends", "cache_valid_time", "lock_timeout"}
PLAIN = re.compile(r"[a-z0-9][a-z0-9+.-]+")
# Over ssh the command has a terminal, for which programs page and colour; a pipe they leave alone.
QUERY = "dpkg-query --show --showformat '${{Package}} ${{db:Status-Status}}\\n' -- {} 2>&1 | cat"

# Runs a command of the shell on the host; its status and what it printed.
Ask = Callable[[str], tuple[int, str]]


def is_all_there(given: dict[str, Any], ask: Ask) -> bool:
    """Tell whether all of the task's packages are installed; False where unsure."""
    names = given.get("name")
    names = names.split(",") if isinstance(names, str) else names
    if given.keys() - KNOWN or not isinstance(names, list):
        return False
    if not all(isinstance(name, str) and PLAIN.fullmatch(name) for name in names):
        return False
    if not names:
        return True
    _, said = ask(QUERY.format(shlex.join(names)))
    return {f"{name} installed" for name in names} <= set(said.splitlines())


class ActionModule(PlainAction):  # type: ignore[misc]  # Ansible carries no types
    """The module, where something may have to be installed."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, and run the module where that is not enough; its result is handed on as it is."""
        if not self._task.async_val and is_all_there(self._task.args, self._ask):
            return {"changed": False, "installed": [], "diff": {"before": "", "after": ""}}
        result: dict[str, Any] = super().run(None, task_vars)
        return result

    def _ask(self, command: str) -> tuple[int, str]:
        said = self._low_level_execute_command(command)
        return said["rc"], said["stdout"]
