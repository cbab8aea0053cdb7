"""Lets the tests import module_utils/lab under the name Ansible gives it on a host."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(
    str(Path(__file__).resolve().parents[1] / "module_utils")
)
