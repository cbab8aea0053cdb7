"""What the slow tests share: filesystems of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

RESERVED = ".parallel_unzip"


def mount_tmpfs(path: Path, **options: int) -> bool:
    """Mount a tmpfs on a folder; False where this process may not."""
    if os.geteuid() != 0:
        return False
    given = [f"-o{name}={value}" for name, value in options.items()]
    return not subprocess.run(
        ["mount", "-t", "tmpfs", *given, "tmpfs", path], check=False
    ).returncode


def unmount(path: Path) -> None:
    """Unmount, also where something there is still open."""
    subprocess.run(["umount", "--lazy", path], check=True)


def brought(dest: Path) -> dict[str, bytes]:
    """All files in dest but the module's own notes, which are at its top."""
    files: dict[str, bytes] = {}
    for folder, below, names in os.walk(dest):
        above = Path(folder).relative_to(dest)
        if folder == str(dest):
            below[:] = [name for name in below if not name.startswith(RESERVED)]
            names[:] = [name for name in names if not name.startswith(RESERVED)]
        files.update((str(above / name), Path(folder, name).read_bytes()) for name in names)
    return files


class Tmpfs:
    """A mounted tmpfs whose size and inodes can be set."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, **options: int) -> None:
        """Set `size` in bytes (whole pages) or `nr_inodes`."""
        given = ",".join(f"{name}={value}" for name, value in options.items())
        subprocess.run(["mount", "-o", f"remount,{given}", self.path], check=True)

    def used(self) -> tuple[int, int]:
        """Bytes and inodes in use."""
        said = os.statvfs(self.path)
        return (said.f_blocks - said.f_bfree) * said.f_frsize, said.f_files - said.f_ffree


# How a filesystem that folds names is made, each tried where the kernel or a driver has it:
# its name, the command that makes it, whether folders are marked for it.
_FOLDING = (
    ("ext4 with casefold", ["mkfs.ext4", "-q", "-O", "casefold", "-E", "encoding=utf8"], True),
    ("vfat", ["mkfs.vfat"], False),
    ("exfat", ["mkfs.exfat"], False),
)


def folding(root: Path) -> str:
    """Mount such a filesystem at root/mounted, with a folder `dir`; gives why it cannot be."""
    if os.geteuid() != 0:
        return "mount needs root"
    reasons = []
    image, mounted = root / "image", root / "mounted"
    mounted.mkdir()
    for name, make, marks in _FOLDING:
        image.write_bytes(b"")
        os.truncate(image, 64 << 20)
        if not shutil.which(make[0]) or _fails(*make, str(image)):
            reasons.append(f"{make[0]} cannot make {name}")
            continue
        loop = _output("losetup", "--find", "--show", str(image))
        (root / "loop").write_text(loop)
        if all(_fails(*mount, loop, str(mounted)) for mount in (["mount"], [f"mount.{name}-fuse"])):
            reasons.append(f"{name} is not in this kernel, and no mount.{name}-fuse is installed")
            _fails("losetup", "--detach", loop)
            continue
        (mounted / "dir").mkdir()
        if marks:
            _fails("chattr", "+F", str(mounted / "dir"))
        return ""
    return "; ".join(reasons)


def _fails(*command: str) -> bool:
    if not shutil.which(command[0]):
        return True
    return bool(subprocess.run(command, check=False, capture_output=True).returncode)


def _output(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()
