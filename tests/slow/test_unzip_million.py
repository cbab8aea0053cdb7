"""A zip of a million members: neither the plan, nor any process, takes more than 200 MB."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slow.slow_kit import Tmpfs

ROOT = Path(__file__).resolve().parents[2]
FOLDERS, EACH = 1000, 1000
LIMIT = 200_000_000  # bytes
EXTRACTION = 120.0  # seconds
_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sBBHHHHHLLLHHHHHLL")

# A process of its own, so that its memory is the module's and not that of pytest.
CHILD = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
import tests.conftest
from library.parallel_unzip import ARGUMENTS, make_request, run

params = {name: said.get("default") for name, said in ARGUMENTS.items()}
params.update(src=[sys.argv[2]], dest=sys.argv[3], workers=2)
done = run(make_request(params), sys.argv[4] == "check")
with open("/proc/self/status") as lines:
    said = dict(line.split(":", 1) for line in lines)
print(json.dumps({
    "changed": done["changed"], "files": done["files"], "bytes": done["bytes"],
    "seconds": done["seconds"], "parent": int(said["VmHWM"].split()[0]) << 10,
    "worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
}))
"""


def content(folder: int, number: int) -> bytes:
    """Every other file is empty."""
    return b"" if number % 2 else b"%03d%03d" % (folder, number)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("million") / "million.zip"
    directory = []
    offset = 0
    with path.open("wb") as file:
        for folder in range(FOLDERS):
            bodies = []
            for number in range(EACH):
                name, data = (
                    b"class-%03d/image-%03d.png" % (folder, number),
                    content(folder, number),
                )
                crc, size = zlib.crc32(data), len(data)
                head = (20, 0, 0, 0, 33, crc, size, size, len(name))
                bodies.append(_LOCAL.pack(b"PK\3\4", *head, 0) + name + data)
                directory.append(
                    _CENTRAL.pack(
                        b"PK\1\2", 20, 3, *head, 0, 0, 0, 0, 0o100644 << 16, offset
                    ) + name
                )  # fmt: skip
                offset += len(bodies[-1])
            file.write(b"".join(bodies))
        entries = b"".join(directory)
        count = FOLDERS * EACH
        file.write(entries)
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count,
                               len(entries), offset))  # fmt: skip
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, offset + len(entries), 1))
        file.write(
            struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entries), offset, 0)
        )
    yield path
    path.unlink()


def run(archive: Path, dest: Path, how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT), str(archive), str(dest), how],
        capture_output=True, text=True, check=False, timeout=EXTRACTION * 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    print(how, said)
    return said


def test_plan(archive: Path, tmp_path: Path) -> None:
    said = run(archive, tmp_path / "dest", "check")
    assert (said["changed"], said["files"]) == (True, FOLDERS * EACH)
    assert not (tmp_path / "dest").exists()
    assert said["parent"] < LIMIT, f"the plan took {said['parent']} bytes"


def test_extraction_and_what_follows(archive: Path, tmpfs: Tmpfs) -> None:
    tmpfs.resize(size=12 << 30, nr_inodes=3_000_000)
    dest = tmpfs.path / "dest"
    began = time.monotonic()
    first = run(archive, dest, "run")
    assert time.monotonic() - began < EXTRACTION
    assert first["files"] == FOLDERS * EACH
    check_memory("extraction", first)
    check_files(dest)
    again = run(archive, dest, "run")
    assert not again["changed"]
    check_memory("the second run", again)
    (dest / "class-500/image-500.png").unlink()
    mended = run(archive, dest, "run")
    assert (mended["changed"], mended["files"]) == (True, 1)
    check_memory("the mend", mended)
    assert not run(archive, dest, "check")["changed"]


def check_memory(what: str, said: dict[str, Any]) -> None:
    for process in ("parent", "worker"):
        taken = said[process]
        assert taken < LIMIT, f"{what} took {taken} bytes in a {process}"


def check_files(dest: Path) -> None:
    folders = [path for path in dest.iterdir() if not path.name.startswith(".")]
    assert len(folders) == FOLDERS
    assert all(sum(1 for _ in folder.iterdir()) == EACH for folder in folders)
    for folder in range(0, FOLDERS, 37):
        for number in (0, 1, 500, 999):
            path = dest / f"class-{folder:03}" / f"image-{number:03}.png"
            assert path.read_bytes() == content(folder, number)
