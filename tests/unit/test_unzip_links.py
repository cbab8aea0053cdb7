"""Symbolic links, where asked for: those that point inside dest are made, all others refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.worker import Modes

from .unzip_kit import Part, contents, make_zip, unpack

LINK = 0o120777 << 16


def link(name: bytes, target: bytes) -> Part:
    return Part(name, target, method=0, attributes=LINK)


def archive(tmp_path: Path, *parts: Part) -> Path:
    path = tmp_path / "a.zip"
    path.write_bytes(make_zip(parts))
    return path


INSIDE = [
    (b"l", b"good"),
    (b"a/b/l", b"../../good"),
    (b"a/l", b"b/c"),
    (b"l", b"nowhere"),
    (b"l", b"./a//b"),
    (b"a/l", b"."),
    (b"a/l", b".."),
]


@pytest.mark.parametrize(("name", "target"), INSIDE)
@pytest.mark.parametrize("workers", [1, 4])
def test_link_inside_is_made_and_then_left_alone(
    name: bytes, target: bytes, workers: int, tmp_path: Path
) -> None:
    source = archive(tmp_path, Part(b"good", b"good"), link(name, target))
    dest = tmp_path / "dest"
    said = unpack(source, dest, check=True, links=True)
    did = unpack(source, dest, links=True, workers=workers)
    assert (said["files"], did["files"], said["diff"]) == (2, 2, did["diff"])
    assert (dest / os.fsdecode(name)).readlink() == Path(target.decode())
    for verify in ("stat", "crc"):
        assert not unpack(source, dest, links=True, verify=verify)["changed"]


OUTSIDE = [
    (b"l", b"/etc/passwd", "absolute target"),
    (b"l", b"..", "outside dest"),
    (b"a/l", b"../..", "outside dest"),
    (b"a/l", b"./../../x", "outside dest"),
    (b"l", b"a/../..", "behind a name"),
    (b"a/l", b"b/../c", "behind a name"),
    (b"l", b"", "target of 0 bytes"),
    (b"l", b"x" * 5000, "target of 5000 bytes"),
    (b"l", b"a\0b", "absolute target"),
]


@pytest.mark.parametrize(("name", "target", "rule"), OUTSIDE)
def test_link_outside_is_refused(name: bytes, target: bytes, rule: str, tmp_path: Path) -> None:
    source = archive(tmp_path, Part(b"good", b"good"), link(name, target))
    with pytest.raises(LabError, match=rule):
        unpack(source, tmp_path / "dest", links=True)
    assert contents(tmp_path) == {"a.zip": source.read_bytes()}


def test_link_is_refused_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"is a symbolic link; .*symlinks: inside"):
        unpack(archive(tmp_path, link(b"l", b"good")), tmp_path / "dest")


@pytest.mark.parametrize("workers", [1, 8])
def test_nothing_is_written_through_a_link(workers: int, tmp_path: Path) -> None:
    for parts in (
        (link(b"d", b"e"), Part(b"d/x", b"x"), Part(b"e/y", b"y")),
        (Part(b"d/x", b"x"), link(b"d", b"e")),
        (link(b"x", b"y"), Part(b"x", b"x")),
    ):
        with pytest.raises(LabError, match=r"folder in|twice"):
            unpack(archive(tmp_path, *parts), tmp_path / "dest", links=True, workers=workers)
        assert not (tmp_path / "dest").exists()


def test_altered_link_is_put_right_and_a_file_in_its_place_is_kept(tmp_path: Path) -> None:
    source, dest = archive(tmp_path, link(b"l", b"good"), Part(b"good", b"g")), tmp_path / "dest"
    unpack(source, dest, links=True)
    (dest / "l").unlink()
    (dest / "l").symlink_to("else")
    done = unpack(source, dest, links=True, verify="crc")
    assert (done["changed"], done["files"], (dest / "l").read_text()) == (True, 1, "g")
    (dest / "l").unlink()
    (dest / "l").write_text("mine")
    with pytest.raises(LabError, match="is a file where a link is to go"):
        unpack(source, dest, links=True)
    assert (dest / "l").read_text() == "mine"


def test_changed_archive_replaces_a_link(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    unpack(archive(tmp_path, link(b"l", b"good"), Part(b"good", b"g")), dest, links=True)
    source = archive(tmp_path, link(b"l", b"other"), Part(b"other", b"o"))
    assert unpack(source, dest, links=True, purge=True)["removed"] == 1
    assert (dest / "l").readlink() == Path("other") and not (dest / "good").exists()
    assert not unpack(source, dest, links=True, purge=True)["changed"]
    source = archive(tmp_path, Part(b"other", b"o"))
    assert unpack(source, dest, links=True, purge=True)["removed"] == 1
    assert not (dest / "l").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_of_a_link_is_set_and_kept(tmp_path: Path) -> None:
    source, dest = archive(tmp_path, link(b"l", b"good"), Part(b"good", b"g")), tmp_path / "dest"
    modes = Modes(0o640, 0o755, exact=True, uid=1234, gid=2345)
    unpack(source, dest, links=True, modes=modes)
    assert (dest / "l").lstat().st_uid == 1234
    assert (dest / "good").stat().st_uid == 1234
    os.chown(dest / "l", 0, 0, follow_symlinks=False)
    assert unpack(source, dest, links=True, modes=modes)["repaired"] == 1
    assert (dest / "l").lstat().st_uid == 1234
    assert (dest / "good").stat().st_mode & 0o7777 == 0o640
    assert not unpack(source, dest, links=True, modes=modes)["changed"]
