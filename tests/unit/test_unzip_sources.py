"""Archives that are files: found, read, and told from others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.sources import FileReader, find_archives, shown_address

DATA = os.urandom(100_000)


@pytest.mark.parametrize(
    ("length", "offset"), [(0, 0), (10, 0), (100_000, 0), (200_000, 5), (10, 99_995), (10, 100_000)]
)
def test_reads(length: int, offset: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(DATA)
    (archive,) = find_archives([str(path)], recurse=False)
    reader = archive.open()
    expected = DATA[offset : offset + length]
    assert reader.read_at(length, offset) == expected
    buffer = bytearray(length)
    assert reader.read_into(memoryview(buffer), offset) == len(expected)
    assert buffer[: len(expected)] == expected
    reader.close()
    reader.close()
    assert not archive.remote


def test_another_file_of_that_name_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(DATA)
    (archive,) = find_archives([str(path)], recurse=False)
    os.utime(path, ns=(1, 1))
    with pytest.raises(LabError, match="changed while it was being unpacked"):
        archive.open()
    (again,) = find_archives([str(path)], recurse=False)
    assert again.size == archive.size and again.stamp != archive.stamp


def test_a_read_that_fails_names_the_archive(tmp_path: Path) -> None:
    reader = FileReader("/s3/a.zip", os.open(tmp_path, os.O_RDONLY))
    with pytest.raises(LabError, match=r"/s3/a.zip: cannot be read \(Is a directory\)"):
        reader.read_at(1, 0)
    with pytest.raises(LabError, match=r"/s3/a.zip: cannot be read \(Is a directory\)"):
        reader.read_into(memoryview(bytearray(1)), 0)
    reader.close()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/a/b.zip", "/a/b.zip"),
        ("s3://bucket/a?b#c.zip", "s3://bucket/a?b#c.zip"),
        ("https://host/a.zip?q=1#top", "https://host/a.zip"),
        ("https://host/a.zip#top?q=1", "https://host/a.zip"),
        ("https://me:word@host:8443/a.zip", "https://host:8443/a.zip"),
        ("https://me:wo@rd@host/a@b.zip", "https://host/a@b.zip"),
        ("https://host?q=1/2", "https://host"),
        ("https://host", "https://host"),
    ],
)
def test_what_is_shown_of_an_address(given: str, shown: str) -> None:
    assert shown_address(given) == shown
