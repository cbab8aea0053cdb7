"""What the tests of parallel_unzip share: zips made byte by byte, and a run in a closed yard."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.lab.unzip.limits import Limits
from ansible.module_utils.lab.unzip.plan import Request
from ansible.module_utils.lab.unzip.sources import find_archives
from ansible.module_utils.lab.unzip.task import run
from ansible.module_utils.lab.unzip.worker import Modes

STATE = ".parallel_unzip.json"
LISTS = ".parallel_unzip.lists"
CORPORA = Path(__file__).resolve().parents[3] / "shared" / "data" / "zips"


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


@dataclass
class Part:
    """One member, with a lie wherever a field is given that would follow from the data."""

    name: bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    attributes: int = 0o100644 << 16
    host: int = 3
    extra: bytes = b""
    local_extra: bytes | None = None
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    after: bytes = b""
    packed: bytes | None = None
    offset: int | None = None
    comment: bytes = b""
    unlisted: bool = False

    def body(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == 8 else self.data


def make_zip(parts: Sequence[Part], prefix: bytes = b"", comment: bytes = b"", **end: Any) -> bytes:
    """The bytes of a zip; `end` overrides fields of the end record (count, length, start)."""
    out = bytearray(prefix)
    directory = b""
    count = 0
    for part in parts:
        offset = len(out) - len(prefix)
        body = part.body()
        true: dict[str, Any] = {
            "crc": zlib.crc32(part.data),
            "packed": len(body),
            "size": len(part.data),
            "flags": part.flags,
            "method": part.method,
            "name": part.name,
        }
        local, central = true | part.local, true | part.central
        local_extra = part.extra if part.local_extra is None else part.local_extra
        out += struct.pack(
            "<4sHHHHHLLLHH", b"PK\x03\x04", 20, local["flags"], local["method"], 0, 33,
            local["crc"], local["packed"], local["size"], len(local["name"]), len(local_extra),
        )  # fmt: skip
        out += local["name"] + local_extra + body + part.after
        if part.unlisted:
            continue
        count += 1
        directory += struct.pack(
            "<4sBBHHHHHLLLHHHHHLL", b"PK\x01\x02", 20, part.host, 20, central["flags"],
            central["method"], 0, 33, central["crc"], central["packed"], central["size"],
            len(central["name"]), len(part.extra), len(part.comment), 0, 0, part.attributes,
            offset if part.offset is None else part.offset,
        )  # fmt: skip
        directory += central["name"] + part.extra + part.comment
    said = {"count": count, "length": len(directory), "start": len(out) - len(prefix)} | end
    out += directory + struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, said["count"], said["count"], said["length"],
        said["start"], len(comment),
    )  # fmt: skip
    return bytes(out) + comment


Src = Path | str | Iterable[Path | str]


def request(src: Src, dest: Path, **options: Any) -> Request:
    given = [src] if isinstance(src, Path | str) else list(src)
    options.setdefault("modes", Modes(0o644, 0o755))
    options.setdefault("workers", 2)
    options.setdefault("limits", Limits())
    return Request(find_archives(map(str, given), recurse=False), str(dest), **options)


def unpack(src: Src, dest: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    return run(request(src, dest, **options), check)


def contents(folder: Path) -> dict[str, bytes | None]:
    """All below the folder but the module's own notes: path to bytes, None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name not in (STATE, LISTS) and path.parent.name != LISTS
    }
