"""Runs the programs beside it, each in its own process: the sandbox patches moto for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def run_program(name: str, folder: Path) -> dict[str, Any]:
    """Return what the program says at its end; it has none of this process's keys."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.unit.sandbox.{name}", str(folder)],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=300,
        env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # moto grumbles before
    return answer
