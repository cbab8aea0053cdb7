"""Classes of archives, good and hostile, one made for each: what the module and strict say of it.

The archives are in unzip_classes. What is taken is held against Python's own zipfile,
name by name and byte by byte.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.limits import Limits

from .unzip_classes import AS_ZIPFILE, CASES, Case, Found
from .unzip_kit import Part, contents, make_zip, unpack

RESERVED = ".parallel_unzip"
each = pytest.mark.parametrize("case", CASES, ids=str)


def as_zipfile(archive: Path, folder: Path) -> Found:
    with zipfile.ZipFile(archive) as other:
        other.extractall(folder)
    return found_in(folder)


def found_in(dest: Path) -> Found:
    """All in dest but the module's notes, which are at its top."""
    paths = (path for path in sorted(dest.rglob("*")))
    named = {str(path.relative_to(dest)): path for path in paths}
    return {
        name: None if path.is_dir() else path.read_bytes()
        for name, path in named.items()
        if not name.startswith(RESERVED)
    }


def check(case: Case, rule: str | None, folder: Path, **options: Any) -> None:
    archive, dest = folder / "in" / "a.zip", folder / "yard" / "dest"
    archive.parent.mkdir()
    archive.write_bytes(case.data)
    dest.mkdir(parents=True)
    if rule is not None:
        with pytest.raises(LabError) as refused:
            unpack(archive, dest, **options)
        said = str(refused.value)
        assert said.startswith((f"{archive}: ", "src: ")) and "; " in said and "\n" not in said
        assert rule in said.replace(str(archive), "")
        assert contents(folder / "yard") == {"dest": None}
        return
    unpack(archive, dest, **options)
    expected = as_zipfile(archive, folder / "other") if case.found is AS_ZIPFILE else case.found
    assert found_in(dest) == expected
    assert not unpack(archive, dest, **options)["changed"]
    assert {path.name for path in (folder / "yard").iterdir()} == {"dest"}


def test_names_of_the_cases_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@each
def test_class_of_archives(case: Case, tmp_path: Path) -> None:
    check(case, case.rule, tmp_path)


@each
def test_class_of_archives_when_strict(case: Case, tmp_path: Path) -> None:
    check(case, case.strict, tmp_path, strict=True, workers=1)


@pytest.mark.parametrize(
    ("limits", "parts", "rule"),
    [
        (Limits(max_files=3), [Part(b"%d" % n) for n in range(3)], None),
        (Limits(max_files=3), [Part(b"%d" % n) for n in range(4)], "limits.max_files"),
        (Limits(max_files=3), [Part(b"%d/" % n, method=0) for n in range(4)], "limits.max_files"),
        (Limits(max_bytes=30), [Part(b"%d" % n, bytes(10)) for n in range(3)], None),
        (Limits(max_bytes=29), [Part(b"%d" % n, bytes(10)) for n in range(3)], "limits.max_bytes"),
        (Limits(max_name=5), [Part(b"a/b/c", b"x")], None),
        (Limits(max_name=5), [Part(b"a/b/cd", b"x")], "limits.max_name"),
        (Limits(max_name=5), [Part("éé/é".encode(), b"x", flags=0x800)], "limits.max_name"),
        (Limits(max_ratio=2), [Part(b"a", bytes(10 << 20))], None),  # at the floor
        (Limits(max_ratio=2), [Part(b"a", bytes((10 << 20) + 1))], "limits.max_ratio"),
        (
            Limits(max_ratio=2),
            [Part(b"%d" % n, bytes(1 << 20)) for n in range(11)],
            "limits.max_ratio",
        ),
    ],
)
def test_limits_to_the_point(
    limits: Limits, parts: list[Part], rule: str | None, tmp_path: Path
) -> None:
    case = Case("limits", make_zip(parts), rule, rule, AS_ZIPFILE)
    check(case, rule, tmp_path, limits=limits)


def test_limits_hold_for_all_archives_together(tmp_path: Path) -> None:
    zips = [tmp_path / name for name in ("a.zip", "b.zip")]
    for path in zips:
        path.write_bytes(make_zip([Part(path.stem.encode(), bytes(10))]))
    with pytest.raises(LabError, match=r"limits\.max_bytes"):
        unpack(zips, tmp_path / "dest", limits=Limits(max_bytes=19))
    with pytest.raises(LabError, match=r"limits\.max_files"):
        unpack(zips, tmp_path / "dest", limits=Limits(max_files=1))
    assert unpack(zips, tmp_path / "dest", limits=Limits(max_bytes=20, max_files=2))["files"] == 2


def test_exactly_65535_members_need_no_zip64(tmp_path: Path) -> None:
    header = struct.pack("<4sHHHHHLLLHH", b"PK\x03\x04", 20, 0, 0, 0, 33, 0, 0, 0, 6, 0)
    entry = struct.Struct("<4sBBHHHHHLLLHHHHHLL6s")
    names = [b"%06d" % n for n in range(0xFFFF)]
    body = b"".join(header + name for name in names)
    directory = b"".join(
        entry.pack(b"PK\1\2", 20, 3, 20, 0, 0, 0, 33, 0, 0, 0, 6, 0, 0, 0, 0, 0, 36 * n, name)
        for n, name in enumerate(names)
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), len(body), 0)
    (tmp_path / "a.zip").write_bytes(body + directory + end)
    said = unpack(tmp_path / "a.zip", tmp_path / "dest", check=True)
    assert (said["files"], said["bytes"]) == (0xFFFF, 0)
