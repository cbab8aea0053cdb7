"""The folder that is unpacked into: what is there, how much room it has, who holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible.module_utils.lab.errors import LabError

from .directory import FILE, LINK
from .names import RESERVED
from .worker import O_FOLDER

STAGE = f"{RESERVED}.part"
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_FOLDERS = 200
_PIECE = 1 << 20
_TYPES = {FILE: stat.S_IFREG, LINK: stat.S_IFLNK}
_WHAT = {FILE: "file", LINK: "link"}


class Look:
    """Reads what is in dest and follows no link below it; `fd` is None where there is no dest."""

    def __init__(self, dest: str, fd: int | None) -> None:
        self._dest = dest
        self._open: dict[str, int | None] = {}
        self.root = fd
        self.bare = fd is None or _is_bare(fd)
        """Whether nothing but our own state is in dest."""

    def leftover(self) -> bool:
        """Whether a killed run left its staging folder."""
        return self.root is not None and _status(STAGE, self.root) is not None

    def at(self, path: str, kind: int = FILE, refuse: bool = True) -> os.stat_result | None:
        """Status of a file or link, None where nothing is there.

        LabError when something else is there; None for that as well unless `refuse`.
        """
        above, _, name = path.rpartition("/")
        folder = self._folder(above, refuse)
        status = _status(name, folder) if folder is not None else None
        if status is None or stat.S_IFMT(status.st_mode) == _TYPES[kind]:
            return status
        if refuse:
            raise LabError(
                f"{self._dest}/{path}: is {_kind(status)} where a {_WHAT[kind]} is to go; "
                "move it away and run again"
            )
        return None

    def has_folder(self, path: str) -> bool:
        """Whether the folder is there; LabError when something else is."""
        return self._folder(path, refuse=True) is not None

    def crc(self, path: str, kind: int = FILE) -> int:
        """CRC-32 of a file, or of a link's target; LabError when it cannot be read."""
        above, _, name = path.rpartition("/")
        crc = 0
        try:
            folder = self._folder(above, refuse=True)
            if kind == LINK:
                return zlib.crc32(os.readlink(name.encode(), dir_fd=folder))
            fd = os.open(name, _O_READ, dir_fd=folder)
            with os.fdopen(fd, "rb", buffering=0) as file:
                while data := file.read(_PIECE):
                    crc = zlib.crc32(data, crc)
        except OSError as error:
            raise LabError(
                f"{self._dest}/{path}: cannot be read ({error.strerror}); mend its permissions"
            ) from error
        return crc

    def _folder(self, path: str, refuse: bool) -> int | None:
        if not path or self.root is None:
            return self.root
        if path in self._open:
            return self._open[path]
        if len(self._open) >= _OPEN_FOLDERS:
            self.close()
        above, _, name = path.rpartition("/")
        parent = self._folder(above, refuse)
        fd = None
        if parent is not None:
            try:
                fd = os.open(name, O_FOLDER, dir_fd=parent)
            except FileNotFoundError:
                fd = None
            except OSError as error:
                if refuse:
                    raise self._no_folder(path, name, parent, error) from error
        self._open[path] = fd
        return fd

    def _no_folder(self, path: str, name: str, parent: int, error: OSError) -> LabError:
        status = _status(name, parent)
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and status:
            what = f"is {_kind(status)} where a folder is to go"
        else:
            what = f"cannot be opened ({error.strerror})"
        return LabError(f"{self._dest}/{path}: {what}; move it away and run again")

    def close(self) -> None:
        """Close all folders but dest itself."""
        for fd in self._open.values():
            if fd is not None:
                os.close(fd)
        self._open.clear()


def _is_bare(fd: int) -> bool:
    with os.scandir(fd) as entries:
        return all(entry.name.startswith(RESERVED) for entry in entries)


def _status(name: str, folder: int | None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kind(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "a symbolic link"
    if stat.S_ISDIR(status.st_mode):
        return "a folder"
    return "a file" if stat.S_ISREG(status.st_mode) else "a special file"


def free_space(dest: str) -> tuple[int, int | None]:
    """Free bytes and inodes where dest is or will be; None for inodes that are not counted."""
    place = Path(dest)
    while not place.exists() and place != place.parent:
        place = place.parent
    said = os.statvfs(place)
    root = os.geteuid() == 0
    room = (said.f_bfree if root else said.f_bavail) * said.f_frsize
    if not said.f_files:
        return room, None
    return room, said.f_ffree if root else said.f_favail


def open_dest(dest: str) -> int | None:
    """Descriptor of dest, None where nothing is there; LabError where it is no folder."""
    try:
        return os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.islink(dest):  # noqa: PTH114  as the system calls around it
            raise LabError(
                f"dest: {dest} is a link to nothing; make its target or remove the link"
            ) from None
        return None
    except NotADirectoryError:
        raise LabError(
            f"dest: {dest} is not a folder, or lies below a file; name a folder"
        ) from None
    except OSError as error:
        raise LabError(
            f"dest: {dest} cannot be opened ({error.strerror}); mend its permissions"
        ) from error


@contextmanager
def hold_dest(dest: str, mode: int, patience: float) -> Iterator[tuple[int, bool]]:
    """Make dest if need be and hold it against other runs.

    Gives its descriptor and whether it was made.

    What was made is removed again if the block fails and left it empty. LabError
    if another run holds it for longer than `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        made = _make(dest, mode)
        fd = open_dest(dest)
        if fd is not None:
            _lock(fd, dest, deadline, patience)
            if _is_at(fd, dest):
                break
            # Another run had made it, failed, and removed it again.
            os.close(fd)
    try:
        yield fd, bool(made)
    except BaseException:
        for folder in made:
            try:
                os.rmdir(folder)  # noqa: PTH106  as the system calls around it
            except OSError:
                break
        raise
    finally:
        os.close(fd)


def _is_at(fd: int, dest: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(dest))  # noqa: PTH116  as the calls around it
    except FileNotFoundError:
        return False


def _make(dest: str, mode: int) -> list[str]:
    """Make dest and what is missing above it; gives what was made, deepest first."""
    missing = []
    path = Path(dest)
    while not path.exists() and not path.is_symlink():
        missing.append(path)
        path = path.parent
    made: list[str] = []
    try:
        for folder in reversed(missing):
            with suppress(FileExistsError):  # another run makes it just now
                folder.mkdir(mode)
                made.insert(0, str(folder))
    except OSError as error:
        raise LabError(
            f"dest: {dest} cannot be made ({error.strerror}); make it or mend what lies above it"
        ) from error
    return made


def _lock(fd: int, dest: str, deadline: float, patience: float) -> None:
    """Lock dest until `deadline`; LabError, and `fd` closed, if another run holds it."""
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = _holder(fd)
                os.close(fd)
                raise LabError(
                    f"dest: another run{holder} has been unpacking into {dest} "
                    f"for {patience:.0f} s; wait for it and run again"
                ) from None
            time.sleep(0.1)
        except OSError:
            return  # a filesystem without locks: nothing better to be had
        else:
            return


def _holder(fd: int) -> str:
    """Name the process that the kernel says holds the lock."""
    inode = f":{os.fstat(fd).st_ino} "
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    held = [
        line.split() for line in lines if "FLOCK" in line and inode in line and "->" not in line
    ]
    return f" (process {held[0][4]})" if held else ""
