"""Which archives are meant by `src`, and how they are opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.lab.errors import LabError

_O_READ = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True)
class Archive:
    """A zip file as it was when the plan was made; `mtime_ns` in nanoseconds."""

    path: str
    size: int
    mtime_ns: int

    def open(self) -> int:
        """Open for reading; LabError if the file is not the one that was planned with."""
        try:
            fd = os.open(self.path, _O_READ)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if _identity(os.fstat(fd)) != (self.size, self.mtime_ns):
            os.close(fd)
            raise LabError(
                f"{self.path}: changed while it was being unpacked; "
                "nothing was moved into dest, run again once it is complete"
            )
        return fd


def _identity(status: os.stat_result) -> tuple[int, int]:
    # Not the inode: FUSE gives a file of a mounted bucket another one after a while.
    return status.st_size, status.st_mtime_ns


def unreadable(path: str, error: OSError) -> LabError:
    """Say that the system will not let us read an archive."""
    return LabError(
        f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
    )


def find_archives(given: Iterable[str], recurse: bool) -> list[Archive]:
    """Find the archives that paths of files or folders name, each once, sorted by path.

    A folder stands for the *.zip in it (with `recurse`, below it as well).
    LabError: nothing given, an address, a path that is not there or not a
    file, a folder without archives.
    """
    found: dict[str, Archive] = {}
    names = [name for name in given if name]
    if not names:
        raise LabError("src: is empty; give the path of an archive, a list of them, or a folder")
    for name in names:
        for path in _expand(name, recurse):
            archive = _look_at(path)
            found.setdefault(archive.path, archive)
    return sorted(found.values(), key=lambda archive: archive.path)


def _expand(name: str, recurse: bool) -> list[Path]:
    if "://" in name:
        raise LabError(
            f"src: {name!r} is an address, and only paths on the host can be read; "
            "copy the archive there first, or name it below the mounted bucket"
        )
    path = Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111  resolve() would follow links
    try:
        if not path.is_dir():
            return [path]
        pattern = path.rglob("*") if recurse else path.iterdir()
        archives = [one for one in pattern if one.suffix.lower() == ".zip" and not one.is_dir()]
    except OSError as error:
        raise unreadable(name, error) from error
    if not archives:
        below = "below" if recurse else "in"
        raise LabError(
            f"src: there is no *.zip {below} {name}; name the folder that holds the archives"
        )
    return archives


def _look_at(path: Path) -> Archive:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(str(path), error) from error
    if not stat.S_ISREG(status.st_mode):
        raise LabError(f"{path}: is not a file; src takes zip files and folders of them")
    return Archive(str(path), *_identity(status))


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes from `offset`, short only at the file's end."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
