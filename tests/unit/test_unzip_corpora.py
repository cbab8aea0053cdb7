"""The public corpora of good and hostile zips, where the checkout has them beside it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError

from .unzip_kit import CORPORA, STATE, contents, unpack

pytestmark = pytest.mark.skipif(
    not CORPORA.is_dir(),
    reason=f"the zip corpora are not at {CORPORA}: hostile zips of others UNTESTED",
)

# They declare 9 bytes and hold 51, and the CRC is that of both: read as what they declare.
SHORTENED = {"short_usize.zip", "short_usize_zip64.zip"}
# Byte for byte one of yauzl's failures (a backslash); encrypted; compression method 7.
NOT_FOR_US = {"sloppy-filenames.zip", "bogus-compression-method.zip"}
# PyPI refuses these, and real programs write them: streaming writers (a data descriptor, plain or
# of zip64 width), self-extractors (bytes in front), Info-ZIP on a host without UTF-8 (a Unicode
# path field).
MADE_BY_SOMEONE = {
    "data_descriptor.zip",
    "data_descriptor_zip64.zip",
    "prefix.zip",
    "non_ascii_original_name.zip",
}
GO_REFUSED = {
    "dupdir.zip",  # a/b is a file and a folder
    "readme.notzip",  # cut off
    "readme.zip",  # bytes behind the comment
    "symlink.zip",
    "test-baddirsz.zip",
    "test-prefix.zip",  # bytes behind the comment, as the next
    "test-trailing-junk.zip",
}


def of(folder: str) -> list[Path]:
    return sorted((CORPORA / folder).iterdir()) if CORPORA.is_dir() else []


GOOD = (
    of("warehouse-accept")
    + [path for path in of("warehouse-reject") if path.name in MADE_BY_SOMEONE]
    + [p for p in of("yauzl-success") if p.name not in NOT_FOR_US and "encryption" not in p.name]
    + [path for path in of("go") if path.name not in GO_REFUSED]
    + of("cpython")
)
BAD = (
    [path for path in of("warehouse-reject") if path.name not in MADE_BY_SOMEONE]
    + [p for p in of("yauzl-success") if p.name in NOT_FOR_US or "encryption" in p.name]
    + [path for path in of("go") if path.name in GO_REFUSED]
    + of("yauzl-failure")
    + of("zip-slip")
)
WORKERS = pytest.mark.parametrize("workers", [1, 2, 8])


def label(path: object) -> str:
    return f"{path.parent.name}/{path.name[:40]}" if isinstance(path, Path) else str(path)


@WORKERS
@pytest.mark.parametrize("archive", GOOD, ids=label)
def test_good_zip_is_unpacked_and_then_left_alone(
    archive: Path, workers: int, tmp_path: Path
) -> None:
    dest = tmp_path / "yard" / "dest"
    first = unpack(archive, dest, workers=workers)
    with zipfile.ZipFile(archive) as other:
        # Python has no name at all for the member that is named by a Unicode path field alone.
        names = [info for info in other.infolist() if not info.filename.endswith("/")]
        expected = sorted(other.read(info) for info in names)
    assert first["files"] == len(names) == first["archives"][0]["files"]
    assert sorted(data for data in contents(dest).values() if data is not None) == expected
    assert not unpack(archive, dest, workers=workers)["changed"]
    assert {path.name for path in (tmp_path / "yard").iterdir()} == {"dest"}


@WORKERS
@pytest.mark.parametrize("archive", BAD, ids=label)
def test_bad_zip_is_refused_and_leaves_no_trace(
    archive: Path, workers: int, tmp_path: Path
) -> None:
    dest = tmp_path / "yard" / "dest"
    dest.mkdir(parents=True)
    (dest / "mine").write_text("kept")
    with pytest.raises(LabError) as refused:
        unpack(archive, dest, workers=workers)
    said = str(refused.value)
    assert said.startswith(f"{archive}: ") and "; " in said and "\n" not in said
    assert contents(tmp_path) == {"yard": None, "yard/dest": None, "yard/dest/mine": b"kept"}
    assert not (dest / STATE).exists()


@pytest.mark.parametrize("archive", of("warehouse-reject"), ids=label)
def test_strict_refuses_all_that_pypi_refuses(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError):
        unpack(archive, tmp_path / "dest", strict=True)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("archive", of("warehouse-accept"), ids=label)
def test_strict_takes_what_pypi_takes(archive: Path, tmp_path: Path) -> None:
    assert unpack(archive, tmp_path / "dest", strict=True)["changed"]
    if archive.name in SHORTENED:
        assert contents(tmp_path / "dest") == {"file": b"# benign\n"}


def test_the_corpora_are_all_there() -> None:
    assert (len(GOOD), len(BAD)) == (10 + 4 + 16 + 23 + 7, 31 + 6 + 7 + 25 + 4)
