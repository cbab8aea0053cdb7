"""Lets the tests import module_utils/lab under the name Ansible gives it on a host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

# The programs of this interpreter's environment (ansible-playbook and its kin), activated or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
