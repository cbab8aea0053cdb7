"""Lets the tests import module_utils/lab under the name Ansible gives it, and times no example."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ansible.module_utils
from hypothesis import settings

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

# The programs of this interpreter's environment (ansible-playbook and its kin), activated or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

# How long an example takes says how busy the machine is, and never whether it is right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
