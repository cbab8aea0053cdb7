"""Which archives are meant by `src`, and how they are opened and read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ansible.module_utils.lab.errors import LabError

_O_READ = os.O_RDONLY | os.O_CLOEXEC


class Reader(Protocol):
    """An opened archive, for one process that opened it itself (after a fork), and one thread.

    Both reads raise LabError where the archive cannot be read, or is another by now.
    """

    def read_at(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`, short only at the archive's end."""

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`; gives the bytes read, short only at the archive's end."""

    def close(self) -> None:
        """Give back what it holds; a second call does nothing."""


class Archive(Protocol):
    """An archive as it was when the plan was made."""

    @property
    def path(self) -> str:
        """How it is shown and noted: an absolute path, or an address without any secret."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def stamp(self) -> str:
        """What tells it, beside its size, from another of that path: a file's time, an ETag."""

    @property
    def remote(self) -> bool:
        """Whether each read costs a round trip."""

    def open(self) -> Reader:
        """Open for reading; LabError if it is not the one that was planned with."""


@dataclass(frozen=True)
class Access:
    """How addresses are reached; None is what the host's environment says, else AWS."""

    region: str | None = None
    endpoint: str | None = None
    """URL of the S3 service."""
    ca_bundle: str | None = None
    """Path of certificates that are trusted as well as the host's own."""


class FileReader:
    """Reads a file by its descriptor."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    def read_at(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`, short only at the file's end; LabError."""
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise unreadable(self._path, error) from error
        return data

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`; gives the bytes read, short only at the end; LabError."""
        filled = 0
        try:
            while filled < len(view):
                count = os.preadv(self._fd, [view[filled:]], offset + filled)
                if not count:
                    break
                filled += count
        except OSError as error:
            raise unreadable(self._path, error) from error
        return filled

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@dataclass(frozen=True)
class FileArchive:
    """A zip file on the host; `mtime_ns` in nanoseconds."""

    path: str
    size: int
    mtime_ns: int

    @property
    def stamp(self) -> str:
        """The time of its last change."""
        return str(self.mtime_ns)

    @property
    def remote(self) -> bool:
        """No: a read is a system call."""
        return False

    def open(self) -> FileReader:
        """Open for reading; LabError if the file is not the one that was planned with."""
        try:
            fd = os.open(self.path, _O_READ)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if _identity(os.fstat(fd)) != (self.size, self.mtime_ns):
            os.close(fd)
            raise changed(self.path)
        return FileReader(self.path, fd)


def _identity(status: os.stat_result) -> tuple[int, int]:
    # Not the inode: FUSE gives a file of a mounted bucket another one after a while.
    return status.st_size, status.st_mtime_ns


def changed(path: str) -> LabError:
    """Say that an archive is not the one any more that the plan was made with."""
    return LabError(
        f"{path}: changed while it was being unpacked; "
        "nothing was moved into dest, run again once it is complete"
    )


def unreadable(path: str, error: OSError) -> LabError:
    """Say that the system will not let us read an archive."""
    return LabError(
        f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
    )


def shown_address(name: str) -> str:
    """Give an address without user, password, query and fragment; anything else as it is."""
    scheme, mark, rest = name.partition("://")
    if not mark or scheme == "s3":
        return name
    host, slash, path = rest.partition("#")[0].partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def find_archives(
    given: Iterable[str], recurse: bool, access: Access | None = None
) -> list[Archive]:
    """Find the archives that paths of files or folders name, each once, sorted by path.

    A folder stands for the *.zip in it (with `recurse`, below it as well), and
    so does an address at s3:// that ends in a slash. LabError: nothing given, a
    path or address that is not there, not readable or not a file, a folder
    without archives.
    """
    found: dict[str, Archive] = {}
    names = [name for name in given if name]
    if not names:
        raise LabError("src: is empty; give the path of an archive, a list of them, or a folder")
    for name in names:
        for archive in _expand(name, recurse, access or Access()):
            known = found.setdefault(archive.path, archive)
            if "?" in name and (known.size, known.stamp) != (archive.size, archive.stamp):
                raise LabError(
                    f"src: {archive.path} is there with two queries that name two archives, and "
                    "no query is noted; unpack them in two tasks, with a dest each"
                )
    return sorted(found.values(), key=lambda archive: archive.path)


def _expand(name: str, recurse: bool, access: Access) -> Sequence[Archive]:
    if "://" in name:
        from .remote import find_remote  # noqa: PLC0415  HTTP and TLS only where they are needed

        return find_remote(name, recurse, access)
    return [_look_at(path) for path in _find_files(name, recurse)]


def _find_files(name: str, recurse: bool) -> list[Path]:
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


def _look_at(path: Path) -> FileArchive:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(str(path), error) from error
    if not stat.S_ISREG(status.st_mode):
        raise LabError(f"{path}: is not a file; src takes zip files and folders of them")
    return FileArchive(str(path), *_identity(status))
