"""What a mount is to be, and what a program that makes it has to say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..bucket import Bucket
from ..credentials import Access
from ..fstab import Entry
from ..plan import File

Version = tuple[int, int]
Options = Mapping[str, str | None]  # "" for a flag, None for one that is taken away


@dataclass(frozen=True)
class Owner:
    """Whom all files belong to, as numbers."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Asked:
    """One mount. `cache_bytes` 0 sets no bound; `umask` has four octal digits."""

    path: str
    bucket: Bucket
    access: Access
    owner: Owner
    umask: str = "0022"
    allow_other: bool = True
    read_only: bool = False
    cache_dir: str = ""
    cache_bytes: int = 0
    profile: str = "general"
    options: Options = field(default_factory=dict)


class Backend(ABC):
    """A program that mounts. Its version is (major, minor)."""

    name: str  # the module's choice
    program: str
    fstype: str  # in fstab and in the kernel's table
    writes: bool = True
    random_writes: bool = False  # appends, changes in the middle, renames
    greetings: tuple[str, ...] = ()  # begin the lines that it logs whenever it starts
    newest: Version  # the newest that was tried, taken where none is installed
    install: str  # how to get it, in one sentence

    @abstractmethod
    def version_of(self, text: str) -> Version:
        """Read what `--version` says; raises LabError where it is too old."""

    @abstractmethod
    def check(self, asked: Asked, version: Version, known: Callable[[], frozenset[str]]) -> None:
        """Raise LabError for what this program cannot do; `known` asks it for its options."""

    @abstractmethod
    def entry(self, asked: Asked, version: Version) -> Entry:
        """Write the line of fstab, which is all that the mount is made of."""

    @abstractmethod
    def files(self, asked: Asked) -> dict[Path, File]:
        """Give the files that the line needs, those with keys among them."""

    def needs_role_name(self, access: Access, version: Version) -> bool:
        """Tell whether the role must be named because the program cannot find it out."""
        del access, version
        return False

    def refuse_metadata(
        self, access: Access, version: Version, wants_token: Callable[[], bool]
    ) -> None:
        """Raise LabError where the program cannot get the role's credentials here.

        `wants_token` asks whether the metadata service takes version 2 alone.
        """
        del access, version, wants_token

    def warnings(self, access: Access, version: Version) -> list[str]:
        """Say what is known not to work before it is tried."""
        del access, version
        return []


def source(bucket: Bucket) -> str:
    """Name the bucket and prefix as fstab and the kernel's table show them."""
    return f"{bucket.name}:/{bucket.prefix}" if bucket.prefix else bucket.name


def common_options(asked: Asked) -> dict[str, str | None]:
    """Give the options that mean the same to every backend."""
    return {
        # The service mounts at boot, not this line. No nofail: noauto says as much, and
        # mount.fuse of Debian 12 would hand it on to s3fs, which does not know it.
        **dict.fromkeys(("noauto", "_netdev", "nosuid", "nodev"), ""),
        **({"ro": ""} if asked.read_only else {}),
        **({"allow_other": ""} if asked.allow_other else {}),
        "uid": str(asked.owner.uid),
        "gid": str(asked.owner.gid),
        "umask": asked.umask,
    }
