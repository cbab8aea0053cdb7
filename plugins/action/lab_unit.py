# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a unit of systemd enabled or not, running or not, at next to no cost where it is.

One `systemctl show` tells; only where it does not say what the task wants,
ansible.builtin.systemd_service is run, with the same arguments. That module asks systemd three
times in each call, beside the time to start it. Arguments of the task:

name           the unit, with its suffix
enabled        whether it starts at boot; left out: not looked at
state          started or stopped; left out: not looked at
daemon_reload  whether systemd is to read its units anew (default false); it does in any case
               where it says itself that the unit's file is another than the one it has read
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

ARGUMENTS = {"name", "enabled", "state", "daemon_reload"}
ACTIVE = {"started": "active", "stopped": "inactive"}

# Runs a command of the shell on the host; its status and what it printed.
Ask = Callable[[str], tuple[int, str]]


def read_wish(given: dict[str, Any]) -> dict[str, Any]:
    """Read the task's arguments. Raises AnsibleActionFail, with what to do."""
    if unknown := sorted(given.keys() - ARGUMENTS):
        raise AnsibleActionFail(f"lab_unit has no argument {', '.join(unknown)}: leave it out")
    if not given.get("name"):
        raise AnsibleActionFail("lab_unit needs the name of a unit")
    if given.get("state", "started") not in ACTIVE:
        raise AnsibleActionFail(f"state is {given['state']!r}: it must be started or stopped")
    wish: dict[str, Any] = {name: given[name] for name in ("name", "state") if name in given}
    for name in ("enabled", "daemon_reload"):
        if name in given:
            wish[name] = boolean(given[name])
    return wish


def look(name: str, ask: Ask) -> dict[str, str]:
    """Read the state of a unit; nothing where systemd does not answer."""
    properties = "LoadState,UnitFileState,ActiveState,NeedDaemonReload"
    # Over ssh the command has a terminal, on which systemctl would page; a pipe it leaves alone.
    _, said = ask(f"systemctl show --property={properties} -- {shlex.quote(name)} 2>&1 | cat")
    return {key: value for key, _, value in (line.partition("=") for line in said.splitlines())}


def is_as_wanted(wish: dict[str, Any], seen: dict[str, str]) -> bool:
    """Tell whether there is nothing to do; False where unsure."""
    if wish.get("daemon_reload") or seen.get("NeedDaemonReload") != "no":
        return False
    if seen.get("LoadState") != "loaded":
        return False
    if "enabled" in wish:
        at_boot = "enabled" if wish["enabled"] else "disabled"
        if seen.get("UnitFileState") != at_boot:
            return False
    return "state" not in wish or seen.get("ActiveState") == ACTIVE[wish["state"]]


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible carries no types
    """systemd_service, where the look does not tell that there is nothing to do."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, and bring the unit to what is wanted."""
        super().run(tmp, task_vars)
        wish = read_wish(self._task.args)
        seen = look(wish["name"], self._ask)
        if is_as_wanted(wish, seen):
            return {"changed": False, "name": wish["name"]}
        if seen.get("NeedDaemonReload") == "yes":
            wish["daemon_reload"] = True
        result: dict[str, Any] = self._execute_module(
            module_name="ansible.legacy.systemd_service", module_args=wish, task_vars=task_vars
        )
        return result

    def _ask(self, command: str) -> tuple[int, str]:
        said = self._low_level_execute_command(command)
        return said["rc"], said["stdout"]
