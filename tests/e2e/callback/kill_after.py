# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kills the whole run after so many tasks: KILL_AFTER."""

from __future__ import annotations

import os
import signal
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: kill_after
type: aggregate
short_description: Kill ansible-playbook after a task
description: Ends a run as a power cut would, for the tests.
options: {}
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # it has no types
    """Counts tasks as they begin; the one after KILL_AFTER of them never does."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill_after"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.last = int(os.environ.get("KILL_AFTER", "0"))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Kill this process and its workers, or count on."""
        del task, is_conditional
        if self.last and self.begun == self.last:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        self.begun += 1
