"""Looks at the host and carries a plan out."""

from __future__ import annotations

import os
import pkgutil
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .. import errors
from ..errors import LabError
from . import (
    bucket,
    cache,
    direct,
    folders,
    fstab,
    helper,
    imds,
    keeper,
    metadata,
    mountinfo,
    mountpoint,
    names,
    sigv4,
    status,
    unmount,
    wait,
    watch,
)
from . import probe as probe_module
from .backends.asked import Backend, Version
from .plan import Action, File, Folder, Found, Plan, Wanted
from .probe import Health, State, probe, use

PROBE_DEADLINE = 10.0  # seconds
_STOP_DEADLINE = 330.0  # the unit's TimeoutStopSec and a little
# Named by import, as Ansible ships what is imported and nothing else.
_PROGRAMS = (
    *(bucket, cache, direct, folders, fstab, helper, imds, keeper, metadata, mountinfo),
    *(mountpoint, names, probe_module, sigv4, status, unmount, wait, watch),
)
Runner = Callable[[list[str], float], "Ran"]


class Ran:
    """What a program left: its exit status and what it said."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text


def run(argv: list[str], deadline: float) -> Ran:
    """Run a program that does not touch the mount, for at most `deadline` seconds."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ran(124, f"{argv[0]} did not end within {deadline:.0f} s")
    return Ran(done.returncode, f"{done.stdout}{done.stderr}")


def installed_version(backend: Backend, runner: Runner = run) -> Version | None:
    """Give the version of a backend, None where it is not installed."""
    if shutil.which(backend.program) is None:
        return None
    return backend.version_of(runner([backend.program, "--version"], 20.0).text)


def candidate_version(backend: Backend, runner: Runner = run) -> Version | None:
    """Give the version that the host's packages would install, None where they hold none."""
    if shutil.which("apt-cache") is None:
        return None
    told = runner(["apt-cache", "policy", backend.program], 20.0).text
    found = re.search(r"Candidate: (?:\d+:)?(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else None


def known_options(backend: Backend, runner: Runner = run) -> frozenset[str]:
    """Ask a backend for the long options that it knows; empty where it is not installed."""
    if shutil.which(backend.program) is None:
        return frozenset()
    asked = ["help", "flags"] if backend.program == "rclone" else ["--help"]
    text = "".join(
        runner([backend.program, *words], 20.0).text for words in (asked, ["mount", "--help"])
    )
    return frozenset(re.findall(r"(?<=--)[a-z0-9][a-z0-9-]*", text))


def programs() -> dict[Path, File]:
    """Give the files of the keeper: the sources of this very package."""
    files = {names.ERRORS: _source(errors.__package__, "errors.py")}
    for name in ("__init__.py", *(f"{m.__name__.rpartition('.')[2]}.py" for m in _PROGRAMS)):
        files[names.PROGRAM_FOLDER / name] = _source(__package__, name)
    return files


def _source(package: str | None, name: str) -> File:
    source = pkgutil.get_data(package or "", name)
    if source is None:
        raise LabError(f"The source of {name} is not to be found beside the module.")
    return File(source)


def look(wanted: Wanted, runner: Runner = run) -> Found:
    """Find out how things are, without waiting for any mount."""
    path = wanted.path
    health = probe(path, PROBE_DEADLINE)
    unit = names.mount_unit(path)
    return Found(
        fstab=_read_fstab(),
        health=health,
        folder=Folder.COVERED if health.state is not State.ABSENT else _folder(Path(path)),
        stale_files=tuple(file for file, want in wanted.files.items() if _differs(file, want)),
        own_files=tuple(file for file in _own_files(path) if file.exists()),
        running=runner(["systemctl", "is-active", unit], 20.0).text.strip()
        in ("active", "activating", "reloading", "deactivating"),
        enabled=_enabled_link(path).is_symlink(),
        matches=_matches(wanted),
    )


def _own_files(path: str) -> list[Path]:
    return [
        names.UNIT_FOLDER / names.mount_unit(path),
        names.UNIT_FOLDER / names.watch_unit(path),
        *names.key_files(path),
    ]


def _enabled_link(path: str) -> Path:
    return names.UNIT_FOLDER / "multi-user.target.wants" / names.mount_unit(path)


def _read_fstab() -> str:
    try:
        return keeper.FSTAB.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def _matches(wanted: Wanted) -> bool:
    if wanted.entry is None:
        return False
    keys = names.key_files(wanted.path)
    if any(key in wanted.files and _differs(key, wanted.files[key]) for key in keys):
        return False
    try:
        made_with = names.mounted_record(wanted.path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return made_with == keeper.settings_of(wanted.entry)


def _differs(path: Path, want: File) -> bool:
    try:
        return path.read_bytes() != want.content or path.stat().st_mode & 0o777 != want.mode
    except FileNotFoundError:
        return True


def _folder(path: Path) -> Folder:
    if path.is_symlink():
        raise LabError(f"{path} is a symbolic link: give the folder that it points to.")
    if not path.exists():
        return Folder.MISSING
    if not path.is_dir():
        return Folder.NO_FOLDER
    if any(path.iterdir()):
        return Folder.FULL
    return Folder.LOCKED if mountpoint.is_locked(path) else Folder.OPEN


class Host:
    """Carries out plans."""

    def __init__(
        self, wanted: Wanted, backend: Backend | None = None, runner: Runner = run
    ) -> None:
        self.wanted = wanted
        self.backend = backend
        self.path = wanted.path
        self.unit = names.mount_unit(wanted.path)
        self.run = runner

    def apply(self, plan: Plan) -> None:
        """Do what was decided, except for mounting, which `start` does."""
        steps: dict[Action, Callable[[], object]] = {
            Action.STOP: self.stop,
            Action.WRITE_FSTAB: lambda: self._write_fstab(plan.fstab_after),
            Action.REMOVE_FSTAB: lambda: self._write_fstab(plan.fstab_after),
            Action.WRITE_FILES: self._write_files,
            Action.REMOVE_FILES: self._remove_files,
            Action.REMOVE_FOLDER: self._remove_folder,
            Action.ENABLE: lambda: self._systemctl("enable", self.unit),
            Action.LOCK: lambda: lock_bare(self.path),
        }
        for action in plan.actions:
            if action is not Action.START:
                steps[action]()
        if {Action.WRITE_FSTAB, Action.REMOVE_FSTAB} & set(plan.actions):
            self._systemctl("daemon-reload")

    def start(self, timeout: float, write: bool) -> None:
        """Mount, list the bucket through the mount and, with `write`, try a small file.

        Raises LabError and leaves nothing mounted where that fails within `timeout` seconds.
        """
        self._systemctl("reset-failed", self.unit, ok=(0, 1))
        since = time.time()
        started = self.run(["systemctl", "start", self.unit], timeout + 90.0)
        try:
            if started.status != 0:
                program = self.backend.program if self.backend else "mount"
                raise LabError(f"{program} does not mount {self.path}. {self._log(since)}")
            answer = use(self.path, timeout, write)
            if not answer.done:
                what = "listed" if answer.steps == 0 else "written"
                hint = " (the policy must allow s3:PutObject and s3:DeleteObject)" if write else ""
                raise LabError(
                    f"{self.path} is mounted but cannot be {what}: {answer.detail}"
                    f"{hint if what == 'written' else ''}. {self._log(since)}"
                )
        except LabError:
            self.stop()
            raise

    def recover(self, timeout: float) -> Health:
        """Wait until a bucket that did not answer answers again; mounts heal by themselves."""
        until = time.monotonic() + timeout
        while True:
            health = probe(self.path, PROBE_DEADLINE)
            if health.state is State.OK or time.monotonic() > until:
                return health
            time.sleep(1)

    def stop(self) -> None:
        """Unmount: what is open is uploaded first, what hangs is killed."""
        self.run(["systemctl", "stop", self.unit], _STOP_DEADLINE)
        # What the unit did not mount: one made by hand, or one over another.
        if probe(self.path, PROBE_DEADLINE, remote=False).state is not State.ABSENT:
            unmount.run(["umount", "-c", self.path], PROBE_DEADLINE)
            unmount.detach(self.path)
        lock_bare(self.path)

    def _log(self, since: float) -> str:
        """Give the last lines of the backend, `mount` and the keeper since a time in seconds."""
        own = (self.backend.program,) if self.backend else ()
        greetings = self.backend.greetings if self.backend else ()
        argv = [
            "journalctl",
            "-u",
            self.unit,
            "-o",
            "cat",
            "--no-pager",
            "--since",
            f"@{since:.0f}",
        ]
        for program in (*own, "mount", "python3"):
            argv += ["-t", program]
        lines = self.run(argv, 20.0).text.strip().split("\n")
        told = [line.strip() for line in lines if line and not line.startswith(greetings)]
        return f"It says: {' | '.join(told[-3:])}" if told else "It says nothing."

    def _write_fstab(self, text: str) -> None:
        mode = keeper.FSTAB.stat().st_mode & 511 if keeper.FSTAB.exists() else 420
        write(keeper.FSTAB, File(text.encode("utf-8", "surrogateescape"), mode))

    def _write_files(self) -> None:
        for path, file in self.wanted.files.items():
            if _differs(path, file):
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path, file)
        for keys in names.key_files(self.path):
            if keys not in self.wanted.files:
                keys.unlink(missing_ok=True)
        self._systemctl("daemon-reload")
        self._systemctl("try-restart", names.watch_unit(self.path))

    def _remove_files(self) -> None:
        self._systemctl("disable", self.unit, ok=(0, 1))
        _enabled_link(self.path).unlink(missing_ok=True)
        for path in _own_files(self.path):
            path.unlink(missing_ok=True)
        if not any(names.UNIT_FOLDER.glob("lab-s3@*.service")):
            shutil.rmtree(names.PROGRAM_FOLDER, ignore_errors=True)
            names.ERRORS.unlink(missing_ok=True)
            for program in names.HELPED:
                names.mount_helper(program).unlink(missing_ok=True)
        self._systemctl("daemon-reload")

    def _remove_folder(self) -> None:
        folder = Path(self.path)
        if folder.is_dir():
            mountpoint.unlock(folder)
            with suppress(OSError):  # not empty: what lies in it is not ours
                folder.rmdir()

    def _systemctl(self, *words: str, ok: tuple[int, ...] = (0,)) -> None:
        done = self.run(["systemctl", *words], 60.0)
        if done.status not in ok:
            raise LabError(f"systemctl {' '.join(words)} fails: {done.text.strip()[-300:]}")


def lock_bare(path: str) -> bool:
    """Lock the mount point if nothing is mounted there; tell whether not even root can write."""
    if probe(path, PROBE_DEADLINE, remote=False).state is State.ABSENT and Path(path).is_dir():
        return mountpoint.lock(Path(path))
    return False


def write(path: Path, file: File) -> None:
    """Write a file so that a reader sees the old or the new one, never with a wider mode."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    opened = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "wb") as out:
        out.write(file.content)
        os.fchmod(out.fileno(), file.mode)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)


def require_systemd() -> None:
    """Refuse a host whose mounts nothing would keep."""
    if not Path("/run/systemd/system").is_dir():
        raise LabError("systemd does not run on this host, and it is what keeps the mount.")


def entry_differs(wanted: Wanted, found: Found) -> tuple[str, str]:
    """Give the mount point's line in fstab before and as wanted."""
    before = fstab.find(found.fstab, wanted.path)
    return (before.line() if before else "", wanted.entry.line() if wanted.entry else "")
