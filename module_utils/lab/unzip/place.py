"""The staging folder, and the move from it into dest."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ansible.module_utils.lab.errors import LabError

from .dest import STAGE
from .limits import Limits
from .names import BadNameError, safe_path
from .worker import O_FOLDER, Modes

_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def staging(dest: int) -> Iterator[int]:
    """Make an empty folder in dest, closed to others, that is gone afterwards come what may."""
    remove_stage(dest)
    os.mkdir(STAGE, 0o700, dir_fd=dest)
    fd = os.open(STAGE, O_FOLDER, dir_fd=dest)
    try:
        yield fd
    finally:
        os.close(fd)
        remove_stage(dest)


def remove_stage(dest: int) -> None:
    """Remove what a killed run left."""
    try:
        # By the kernel's name for dest, since rmtree takes a descriptor from Python 3.11 on only.
        shutil.rmtree(f"/proc/self/fd/{dest}/{STAGE}")
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(STAGE, dir_fd=dest)
    except OSError:
        # rmtree refuses a link, which only someone else can have put there.
        if not stat.S_ISLNK(os.stat(STAGE, dir_fd=dest, follow_symlinks=False).st_mode):
            raise
        os.unlink(STAGE, dir_fd=dest)


def move_in(stage: int, dest: int, replaceable: Collection[str], above: str = "") -> None:
    """Move all that is staged into dest, whole folders at once where dest has none of that name.

    LabError when something that the plan did not see is in the way.
    """
    with os.scandir(stage) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = above + entry.name
        there = _there(dest, entry.name)
        if there is None:
            os.rename(entry.name, entry.name, src_dir_fd=stage, dst_dir_fd=dest)
        elif entry.is_dir(follow_symlinks=False):
            _merge(stage, dest, entry.name, path, replaceable)
        elif path in replaceable and stat.S_IFMT(there.st_mode) in (stat.S_IFREG, stat.S_IFLNK):
            os.rename(entry.name, entry.name, src_dir_fd=stage, dst_dir_fd=dest)
        else:
            raise _appeared(path)


def _merge(stage: int, dest: int, name: str, path: str, replaceable: Collection[str]) -> None:
    source = os.open(name, O_FOLDER, dir_fd=stage)
    try:
        try:
            target = os.open(name, O_FOLDER, dir_fd=dest)
        except OSError:
            raise _appeared(path) from None
        try:
            move_in(source, target, replaceable, f"{path}/")
        finally:
            os.close(target)
    finally:
        os.close(source)


def _there(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _appeared(path: str) -> LabError:
    return LabError(
        f"dest: {path} appeared in dest while archives were being unpacked; "
        "move it away and run again"
    )


def remove_files(dest: int, paths: Collection[str]) -> None:
    """Remove files of ours, and the folders that this leaves empty."""
    folders: set[str] = set()
    for path in paths:
        with _parent(dest, path) as (folder, name):
            if folder is None:
                continue
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=folder)
            above = path.rpartition("/")[0]
            while above:
                folders.add(above)
                above = above.rpartition("/")[0]
    for path in sorted(folders, reverse=True):
        with _parent(dest, path) as (folder, name):
            if folder is not None:
                with contextlib.suppress(OSError):  # not empty, most of the time
                    os.rmdir(name, dir_fd=folder)


def repair_files(dest: int, paths: Collection[str], modes: Modes) -> None:
    """Put owner, group and mode of files right."""
    for path in paths:
        with _parent(dest, path) as (folder, name):
            if folder is None:
                continue
            os.chown(name, modes.uid, modes.gid, dir_fd=folder, follow_symlinks=False)
            if modes.exact and stat.S_ISREG(
                os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            ):
                fd = os.open(name, _O_READ, dir_fd=folder)
                try:
                    os.fchmod(fd, modes.file)
                finally:
                    os.close(fd)


@contextmanager
def _parent(dest: int, path: str) -> Iterator[tuple[int | None, str]]:
    """Open the folder that holds `path`, following no link; None where it is gone."""
    opened: list[int] = []
    current: int | None = dest
    *above, name = path.split("/")
    try:
        # The path may come from the manifest, which whoever owns dest can write.
        safe_path(path, Limits(max_depth=len(above) + 2, max_name=1 << 16), strict=True)
        for part in above:
            current = os.open(part, O_FOLDER, dir_fd=current)
            opened.append(current)
    except (OSError, BadNameError):
        current = None
    try:
        yield current, name
    finally:
        for fd in opened:
            os.close(fd)
