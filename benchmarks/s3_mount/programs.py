"""The programs that are measured, and those that measuring takes. Nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.unzip.errors import MissingError
from benchmarks.unzip.tools import Tools

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "bench-s3"
PINS = ROOT / "requirements-bench.txt"


@dataclass(frozen=True)
class Programs:
    """Where they lie. Each raises MissingError with the reason where it has none."""

    fetch: bool = True

    def installed(self, name: str) -> str:
        """Path of a program of this machine."""
        found = shutil.which(name)
        if not found:
            raise MissingError(f"{name} is not installed (Debian package {name})")
        return found

    def pinned(self, name: str) -> str:
        """Path of weed or rclone, of the version in requirements-bench.txt."""
        folder = CACHE / "tools" / "pinned"
        program = folder / "bin" / name
        if program.exists() and program.stat().st_mtime > PINS.stat().st_mtime:
            return str(program)
        if not self.fetch:
            raise MissingError(f"{name} of {PINS.name} is not fetched yet")
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command = [*pip, "--only-binary", ":all:", "--target", str(folder), "-r", str(PINS)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MissingError(f"pip could not fetch {PINS.name}: {reason}")
        for path in (folder / "bin").iterdir():
            path.touch()
        return str(program)

    def s5cmd(self) -> str:
        """Path of s5cmd, which downloads and uploads without a mount."""
        return Tools(CACHE / "tools", fetch=self.fetch).program("s5cmd")

    def lag(self) -> str:
        """Path of the compiled proxy."""
        source, program = HERE / "lag.c", CACHE / "lag"
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            return str(program)
        compiler = shutil.which("cc")
        if not compiler:
            raise MissingError("there is no C compiler (cc)")
        program.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler, "-O2", "-pthread", "-o", str(program), str(source)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise MissingError(f"lag.c does not compile: {done.stderr.strip()[:200]}")
        return str(program)
