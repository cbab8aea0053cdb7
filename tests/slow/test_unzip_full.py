"""A disk that fills up, or runs out of inodes: seen before the start, and met at every point."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError

from tests.slow.slow_kit import Tmpfs
from tests.unit.unzip_kit import Part, contents, make_zip, unpack

PAGE = 4096
FILES = 60
SIZE = 5000  # bytes of a file: two pages
LARGE = {"size": 64 << 20, "nr_inodes": 10_000}
ROOM = "ansible.module_utils.lab.unzip.plan.free_space"


def write(folder: Path, version: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    parts = [Part(b"d%d/%d" % (n % 7, n), version * (SIZE // len(version))) for n in range(FILES)]
    # Stored, so that each byte of the archive is one on the disk.
    for part in parts:
        part.method = 0
    archive = folder / "a.zip"
    archive.write_bytes(make_zip(parts))
    return archive


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write(tmp_path / "in", b"new")


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan believes that there is room for everything."""
    monkeypatch.setattr(ROOM, lambda _: (1 << 50, None))


def refused(archive: Path, dest: Path, workers: int = 2) -> str:
    with pytest.raises(LabError) as said:
        unpack(archive, dest, workers=workers)
    assert "\n" not in str(said.value) and "; " in str(said.value)
    return str(said.value)


@pytest.mark.parametrize(
    ("small", "said"),
    [
        ({"size": FILES * PAGE}, "bytes are needed"),
        ({"nr_inodes": FILES}, "inodes are needed"),
    ],
)
def test_seen_before_anything_is_written(
    small: dict[str, int], said: str, archive: Path, tmpfs: Tmpfs
) -> None:
    tmpfs.resize(**LARGE | small)
    dest = tmpfs.path / "dest"
    assert said in refused(archive, dest)
    assert contents(tmpfs.path) == {}
    dest.mkdir()
    (dest / "mine").write_text("kept")
    assert said in refused(archive, dest)
    assert contents(tmpfs.path) == {"dest": None, "dest/mine": b"kept"}
    tmpfs.resize(**LARGE)
    assert unpack(archive, dest)["files"] == FILES
    assert not unpack(archive, dest)["changed"]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """All files and folders, the module's own included."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def test_met_at_every_page(blind: None, tmp_path: Path, tmpfs: Tmpfs) -> None:
    """A first run and an update, on a disk that has a page more each time."""
    points = sweep(tmp_path, tmpfs, "size", PAGE)
    assert points > 100


def test_met_at_every_inode(blind: None, tmp_path: Path, tmpfs: Tmpfs) -> None:
    points = sweep(tmp_path, tmpfs, "nr_inodes", 1)
    assert points > 100


def sweep(tmp_path: Path, tmpfs: Tmpfs, what: str, step: int) -> int:
    """Unpack two versions, the room of each run ending a step later; gives how many runs failed."""
    failed = 0
    for version in (b"old", b"new"):
        archive = write(tmp_path / "in", version)
        # The archive and its time differ, so this is an update of what is there.
        before = snapshot(tmpfs.path)
        room = tmpfs.used()[what == "nr_inodes"] + step
        while True:
            tmpfs.resize(**LARGE | {what: room})
            try:
                unpack(archive, tmpfs.path / "dest", workers=1 + failed % 2)
            except LabError as error:
                said = str(error)
            else:
                break
            assert "full" in said and "\n" not in said
            tmpfs.resize(**LARGE)
            assert snapshot(tmpfs.path) == before, f"with {what}={room}: {said}"
            failed += 1
            room += step
        tmpfs.resize(**LARGE)
        assert not unpack(archive, tmpfs.path / "dest", verify="crc")["changed"]
        check_whole(tmpfs.path / "dest", version)
    return failed


def check_whole(dest: Path, version: bytes) -> None:
    found = {path: data for path, data in contents(dest).items() if data is not None}
    assert len(found) == FILES and set(found.values()) == {version * (SIZE // len(version))}
    own = [path.name for path in dest.iterdir() if path.name.endswith((".new", ".part"))]
    assert own == []
