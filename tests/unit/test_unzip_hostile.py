"""Hostile zips made here, so that no corpus is needed: each is refused and leaves no trace."""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.directory import FOLDER, read_directory
from ansible.module_utils.lab.unzip.engines import load_engine
from ansible.module_utils.lab.unzip.limits import Limits, Rules, parse_limits
from ansible.module_utils.lab.unzip.sources import find_archives

from .unzip_kit import STATE, Part, contents, deflate, make_zip, unpack

GOOD = Part(b"good.txt", b"good")
LINK = 0o120777 << 16
ZEROS = deflate(bytes(20 << 20))


def descriptor(
    data: bytes, signature: bytes = b"PK\x07\x08", wide: bool = False, add: int = 0
) -> bytes:
    sizes = (zlib.crc32(data), len(deflate(data)), len(data) + add)
    return signature + struct.pack("<LQQ" if wide else "<LLL", *sizes)


def streamed(data: bytes, after: bytes) -> Part:
    return Part(b"s.txt", data, flags=8, local={"crc": 0, "packed": 0, "size": 0}, after=after)


def names(*given: bytes) -> bytes:
    return make_zip([GOOD, *(Part(name, name) for name in given)])


def altered(data: bytes, at: int, value: int) -> bytes:
    changed = bytearray(data)
    changed[at] = value
    return bytes(changed)


def end64(start: int = 0, before: bytes = b"") -> bytes:
    """An archive without members that has zip64 end records."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 0, 0, 0, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start, 1)
    return (
        before + record + locator + make_zip([], count=0xFFFF, length=0xFFFFFFFF, start=0xFFFFFFFF)
    )


REFUSED: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", "is empty"),
    "html": (b"<!DOCTYPE html><p>sign in", "web page"),
    "s3 error": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
    "cut off": (make_zip([GOOD])[:-30], "cut off"),
    "cut at the front": (make_zip([GOOD])[10:], "outside the file"),
    "text": (b"hello", "not a zip archive"),
    "absolute": (names(b"/etc/passwd"), "absolute name"),
    "climbs": (names(b"../up"), "climbs"),
    "climbs inside": (names(b"a/../../up"), "climbs"),
    "bare ..": (names(b".."), "climbs"),
    "backslash": (names(b"..\\up"), "backslash"),
    "drive": (names(b"C:\\x"), "backslash"),
    "drive with slash": (names(b"C:/x"), "drive letter"),
    "unc": (names(b"//host/share"), "absolute name"),
    "nul": (names(b"a\0b"), "control character"),
    "newline": (names(b"a\nb"), "control character"),
    "escape": (names(b"a\x1b[2Jb"), "control character"),
    "no name": (names(b""), "empty name"),
    "name of dest": (names(b"."), "name of dest"),
    "our state": (names(STATE.encode()), "keeps its state"),
    "our stage": (names(b".parallel_unzip.part/x"), "keeps its state"),
    "long name": (names(b"x" * 300), "longer than 255"),
    "longer path": (names(b"/".join([b"x" * 250] * 5)), "limits.max_name"),
    "deep": (names(b"d/" * 40 + b"x"), "limits.max_depth"),
    "bad utf-8": (make_zip([Part(b"\xff\xfe", b"x", flags=0x800)]), "UTF-8"),
    "twice": (names(b"a", b"a"), "twice"),
    "two spellings": (names(b"a/b", b"a//b"), "twice"),
    "three spellings": (names(b"a/b", b"./a/b", b"a/./b"), "twice"),
    "file and folder": (names(b"a", b"a/b"), "a file here and a folder"),
    "file and empty folder": (
        make_zip([Part(b"a", b"x"), Part(b"a/")]),
        "a file here and a folder",
    ),
    "link": (make_zip([Part(b"l", b"/etc/passwd", attributes=LINK)]), "symbolic link"),
    "link then file": (
        make_zip([Part(b"l", b"/tmp", attributes=LINK), Part(b"l/x", b"x")]),
        "symbolic link",
    ),
    "device": (make_zip([Part(b"d", attributes=0o60644 << 16)]), "special file"),
    "pipe": (make_zip([Part(b"p", attributes=0o10644 << 16)]), "special file"),
    "link of another host": (
        make_zip([Part(b"l", b"/etc", attributes=LINK, host=0)]),
        "symbolic link",
    ),
    "folder without slash": (make_zip([Part(b"d", attributes=0o40755 << 16)]), "named as a file"),
    "folder with bytes": (make_zip([Part(b"d/", b"x")]), "claims 1 bytes"),
    "folder with packed bytes": (
        make_zip([Part(b"d/", packed=deflate(b"xxx"), attributes=0)]),
        "does not unpack",
    ),
    "encrypted": (make_zip([Part(b"a", b"x", flags=1)]), "encrypted"),
    "masked": (make_zip([Part(b"a", b"x", flags=0x2000)]), "encrypted"),
    "unknown method": (make_zip([Part(b"a", b"x", method=97)]), "method 97"),
    "deflate64": (make_zip([Part(b"a", b"x", method=9)]), "Deflate64"),
    "bad crc": (make_zip([Part(b"a", b"x", local={"crc": 1}, central={"crc": 1})]), "CRC"),
    "bad crc stored": (
        make_zip([Part(b"a", b"x", method=0, local={"crc": 1}, central={"crc": 1})]),
        "CRC",
    ),
    "other name": (make_zip([Part(b"a", b"x", local={"name": b"b"})]), "another name"),
    "other method": (make_zip([Part(b"a", b"x", local={"method": 0})]), "another method"),
    "other crc": (make_zip([Part(b"a", b"x", local={"crc": 1})]), "other sizes or another CRC"),
    "other size": (make_zip([Part(b"a", b"x", local={"size": 2})]), "other sizes or another CRC"),
    "encrypted inside": (make_zip([Part(b"a", b"x", local={"flags": 1})]), "other flags"),
    "holds 20 MB, says 10": (
        make_zip([Part(b"a", bytes(10), packed=ZEROS)]),
        "does not unpack to the 10 bytes",
    ),
    "holds 10, says 20 MB": (
        make_zip([Part(b"a", bytes(9 << 20), packed=deflate(bytes(10)))]),
        "does not unpack",
    ),
    "stored size lies": (
        make_zip([Part(b"a", b"xyz", method=0, central={"size": 2}, local={"size": 2})]),
        "does not unpack",
    ),
    "bytes after the stream": (
        make_zip([Part(b"a", b"x", packed=deflate(b"x") + b"yy")]),
        "does not unpack",
    ),
    "stream without end": (
        make_zip([Part(b"a", b"x" * 99, packed=deflate(b"x" * 99)[:-1])]),
        "does not unpack",
    ),
    "no stream": (make_zip([Part(b"a", b"", packed=b"")]), "does not unpack"),
    "garbage": (make_zip([Part(b"a", b"x", packed=b"\xff" * 40)]), "does not unpack"),
    "descriptor lies": (
        make_zip([streamed(b"abc", descriptor(b"abc", add=1))]),
        "data descriptor that disagrees",
    ),
    "descriptor missing": (make_zip([streamed(b"abc", b"")]), "data descriptor that disagrees"),
    "shared bytes": (
        make_zip([Part(b"a", b"x" * 99), Part(b"b", b"x" * 99, offset=0)]),
        "overlaps",
    ),
    "one header, many names": (
        make_zip([Part(b"a", ZEROS), *(Part(b"%d" % i, ZEROS, offset=0) for i in range(50))]),
        "overlaps",
    ),
    "overlap by the local extra field": (
        altered(make_zip([Part(b"a", b"\0\0\0\0four", method=0), GOOD]), 28, 4),  # its length
        "overlaps",
    ),
    "hidden member": (
        make_zip([GOOD, Part(b"b", b"x", unlisted=True), Part(b"c", b"y")]),
        "hidden zip record",
    ),
    "hidden at the end": (make_zip([GOOD, Part(b"b", b"x", unlisted=True)]), "hidden zip record"),
    "hidden in front": (
        make_zip([GOOD], prefix=make_zip([Part(b"b", b"x")])),
        "before its first member",
    ),
    "zip in the comment": (make_zip([GOOD], comment=make_zip([Part(b"b", b"x")])), None),
    "bytes behind": (make_zip([GOOD]) + b"x", "does not end where"),
    "count too small": (make_zip([GOOD, Part(b"b", b"x")], count=1), "belong to no member"),
    "count too large": (make_zip([GOOD], count=2), "fewer members"),
    "directory too long": (make_zip([GOOD], length=99999), "outside the file"),
    "zip64 without record": (
        make_zip([GOOD], start=0xFFFFFFFF),
        "zip64 end record that is not there",
    ),
    "zip64 locator lies": (end64(start=8), "points elsewhere"),
    "zip64 twice": (end64(before=end64()), "before its first member"),
    "zip64 field missing": (
        make_zip([Part(b"a", b"x", central={"size": 0xFFFFFFFF})]),
        "lacks the zip64 field",
    ),
    "zip64 field lies": (
        make_zip([Part(b"a", b"x", extra=struct.pack("<HHQQ", 1, 16, 7, 3))]),
        "zip64 field that disagrees",
    ),
    "zip64 field short": (
        make_zip(
            [Part(b"a", b"x", central={"size": 0xFFFFFFFF}, extra=struct.pack("<HHL", 1, 4, 1))]
        ),
        "zip64 field",
    ),
    "two zip64 fields": (
        make_zip([Part(b"a", b"x", extra=struct.pack("<HHQQ", 1, 16, 1, 3) * 2)]),
        "two of them",
    ),
    "extra field overruns": (
        make_zip([Part(b"a", b"x", extra=b"\x75\x70\xff\x00x")]),
        "runs past its end",
    ),
    "extra field scraps": (make_zip([Part(b"a", b"x", extra=b"zzz")]), "belong to no field"),
    "second name": (
        make_zip(
            [Part(b"a", b"x", extra=struct.pack("<HHBL", 0x7075, 6, 1, zlib.crc32(b"a")) + b"b")]
        ),
        "second, different name",
    ),
    "second name climbs": (
        make_zip(
            [
                Part(
                    b"\xe9",
                    b"x",
                    extra=struct.pack("<HHBL", 0x7075, 9, 1, zlib.crc32(b"\xe9")) + b"../b",
                )
            ]
        ),
        "climbs",
    ),
    "split": (altered(make_zip([GOOD]), -18, 1), "split"),  # the number of this disk
}


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_no_trace(case: str, workers: int, tmp_path: Path) -> None:
    data, rule = REFUSED[case]
    archive = tmp_path / "in" / "bad.zip"
    archive.parent.mkdir()
    archive.write_bytes(data)
    dest = tmp_path / "yard" / "dest"
    dest.mkdir(parents=True)
    with pytest.raises(LabError) as refused:
        unpack(archive, dest, workers=workers)
    assert str(refused.value).startswith(f"{archive}: ")
    if rule:
        assert rule in str(refused.value)
    assert contents(tmp_path / "yard") == {"dest": None}


def test_absolute_name_is_not_written_there(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    (tmp_path / "a.zip").write_bytes(names(str(evil).encode()))
    with pytest.raises(LabError, match="absolute name"):
        unpack(tmp_path / "a.zip", tmp_path / "dest")
    assert not evil.exists() and not (tmp_path / "dest").exists()


def good_cases() -> dict[str, tuple[bytes, dict[str, bytes | None]]]:
    bits = 0o106755 << 16
    accents = "ä/日本.txt".encode()
    field = struct.pack("<HHBL", 0x7075, 5 + len(accents), 1, zlib.crc32(b"\x84/x")) + accents
    old = {"crc": 0, "packed": 0, "size": 0}
    both = Part(b"e", b"", flags=8, method=0, local=old, after=b"PK\x07\x08" + bytes(20))
    wide = Part(b"w", b"x", central={"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF},
                extra=struct.pack("<HHQQ", 1, 16, 1, 3), local_extra=b"")  # fmt: skip
    return {
        "plain": (make_zip([GOOD]), {"good.txt": b"good"}),
        "no members": (make_zip([]), {}),
        "no members, zip64": (end64(), {}),
        "comment": (make_zip([GOOD], comment=b"hello"), {"good.txt": b"good"}),
        "self-extractor": (make_zip([GOOD], prefix=b"#!/bin/sh\n"), {"good.txt": b"good"}),
        "streamed": (make_zip([streamed(b"abc", descriptor(b"abc"))]), {"s.txt": b"abc"}),
        "streamed, no signature": (
            make_zip([streamed(b"abc", descriptor(b"abc", b""))]),
            {"s.txt": b"abc"},
        ),
        "streamed, wide": (
            make_zip([streamed(b"abc", descriptor(b"abc", wide=True))]),
            {"s.txt": b"abc"},
        ),
        "streamed, empty": (make_zip([both]), {"e": b""}),
        "streamed, true header": (
            make_zip([Part(b"s", b"abc", flags=8, after=descriptor(b"abc"))]),
            {"s": b"abc"},
        ),
        "zip64 sizes": (make_zip([wide]), {"w": b"x"}),
        "stored": (make_zip([Part(b"a", b"xyz", method=0)]), {"a": b"xyz"}),
        "folders": (make_zip([Part(b"d/"), Part(b"d/e/", method=0)]), {"d": None, "d/e": None}),
        "folder twice": (make_zip([Part(b"d/", method=0), Part(b"d/", method=0)]), {"d": None}),
        "folder after its file": (
            make_zip([Part(b"d/a", b"x"), Part(b"d/")]),
            {"d": None, "d/a": b"x"},
        ),
        "padding": (
            make_zip([Part(b"a", b"x", after=bytes(40)), GOOD]),
            {"a": b"x", "good.txt": b"good"},
        ),
        "zero padding in the extra field": (
            make_zip([Part(b"a", b"x", extra=b"\0\0\0")]),
            {"a": b"x"},
        ),
        "dots and spaces": (
            make_zip([Part(b"./a /..b/c...", b"x")]),
            {"a ": None, "a /..b": None, "a /..b/c...": b"x"},
        ),
        "colon": (make_zip([Part(b"12:30.png", b"x")]), {"12:30.png": b"x"}),
        "code page 437": (
            make_zip([Part(b"\x84.txt", b"x", host=0, attributes=0)]),
            {"ä.txt": b"x"},
        ),
        "utf-8 without its flag": (make_zip([Part("ä".encode(), b"x")]), {"ä": b"x"}),
        "Unicode path field": (
            make_zip([Part(b"\x84/x", b"x", extra=field)]),
            {"ä": None, "ä/日本.txt": b"x"},
        ),
        "case": (make_zip([Part(b"A", b"x"), Part(b"a", b"y")]), {"A": b"x", "a": b"y"}),
        "setuid": (make_zip([Part(b"a", b"x", attributes=bits)]), {"a": b"x"}),
    }


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("case", good_cases())
def test_taken_and_unpacked(case: str, workers: int, tmp_path: Path) -> None:
    data, found = good_cases()[case]
    (tmp_path / "a.zip").write_bytes(data)
    unpack(tmp_path / "a.zip", tmp_path / "dest", workers=workers)
    assert contents(tmp_path / "dest") == found
    assert not unpack(tmp_path / "a.zip", tmp_path / "dest")["changed"]


@pytest.mark.parametrize(
    "case", ["streamed", "padding", "self-extractor", "Unicode path field", "case", "folder twice"]
)
def test_strict_refuses_what_real_programs_write(case: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(good_cases()[case][0])
    with pytest.raises(LabError):
        unpack(tmp_path / "a.zip", tmp_path / "dest", strict=True)
    assert not (tmp_path / "dest").exists()


def test_modes_of_files(tmp_path: Path) -> None:
    parts = [
        Part(b"plain", b"x", attributes=0o100600 << 16),
        Part(b"program", b"x", attributes=0o104777 << 16),
        Part(b"dos", b"x", host=0, attributes=0o100755 << 16),
    ]
    (tmp_path / "a.zip").write_bytes(make_zip(parts))
    unpack(tmp_path / "a.zip", tmp_path / "dest")
    dest = tmp_path / "dest"
    modes = {name: (dest / name).stat().st_mode & 0o7777 for name in (*contents(dest), STATE)}
    assert modes == {"plain": 0o644, "program": 0o755, "dos": 0o644, STATE: 0o644}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bzip2_and_lzma(method: int, tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as made:
        made.writestr("a", data)
    unpack(tmp_path / "a.zip", tmp_path / "dest")
    assert contents(tmp_path / "dest") == {"a": data}
    damaged = bytearray((tmp_path / "a.zip").read_bytes())
    damaged[60] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(damaged)
    with pytest.raises(LabError, match=r"does not unpack|does not match its CRC"):
        unpack(tmp_path / "b.zip", tmp_path / "other")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("engine", ["auto", "zlib"])
def test_member_too_large_for_one_piece(method: int, engine: str, tmp_path: Path) -> None:
    data = b"".join(zlib.crc32(b"%d" % i).to_bytes(4, "big") * 16 for i in range(300_000))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as made:
        made.writestr("small", b"x")
        made.writestr("large", data)
        made.writestr("last", b"y")
    unpack(tmp_path / "a.zip", tmp_path / "dest", engine=engine)
    assert contents(tmp_path / "dest") == {"small": b"x", "large": data, "last": b"y"}


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_large_member_where_files_cannot_be_mapped(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    (tmp_path / "a.zip").write_bytes(make_zip([Part(b"a", bytes(17 << 20))]))
    unpack(tmp_path / "a.zip", tmp_path / "dest", limits=Limits(max_ratio=2000))
    assert contents(tmp_path / "dest") == {"a": bytes(17 << 20)}


@pytest.mark.skipif(
    load_engine().inflate_into is None, reason="libdeflate is not here: no file is mapped"
)
def test_large_member_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr("mmap.mmap", None)
    (tmp_path / "a.zip").write_bytes(make_zip([Part(b"a", bytes(17 << 20))]))
    with pytest.raises(LabError, match="the disk is full"):
        unpack(tmp_path / "a.zip", tmp_path / "dest", limits=Limits(max_ratio=2000))
    assert not (tmp_path / "dest").exists()


def test_large_member_that_lies_stops_at_its_size(tmp_path: Path) -> None:
    packed = deflate(bytes(40 << 20))
    (tmp_path / "a.zip").write_bytes(make_zip([Part(b"a", bytes(17 << 20), packed=packed)]))
    with pytest.raises(LabError, match="does not unpack to the 17825792 bytes"):
        unpack(tmp_path / "a.zip", tmp_path / "dest", limits=Limits(max_ratio=2000))
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(max_bytes=10, max_ratio=2000), "limits.max_bytes"),
        (Limits(max_files=1), "limits.max_files"),
        (Limits(max_ratio=100), "limits.max_ratio"),
        (Limits(max_depth=1), "limits.max_depth"),
        (Limits(max_name=2), "limits.max_name"),
    ],
)
def test_limits(limits: Limits, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(make_zip([Part(b"a/b/c", bytes(11 << 20)), Part(b"c", b"x")]))
    with pytest.raises(LabError, match=said):
        unpack(tmp_path / "a.zip", tmp_path / "dest", limits=limits)
    assert not (tmp_path / "dest").exists()
    unpack(tmp_path / "a.zip", tmp_path / "dest", limits=Limits(max_ratio=2000))


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"max_bytes": "lots"}, "limits.max_bytes: 'lots' is not a size"),
        ({"max_bytes": "0"}, "limits.max_bytes: '0' is not a size"),
        ({"max_bytes": "-5G"}, "limits.max_bytes: '-5G' is not a size"),
        ({"max_files": 0}, "limits.max_files: 0 is below 1"),
        ({"max_ratio": -1}, "limits.max_ratio: -1 is below 1"),
    ],
)
def test_limits_that_are_none(given: dict[str, object], rule: str) -> None:
    with pytest.raises(LabError, match=rule):
        parse_limits(given)


def test_sizes_are_read() -> None:
    assert parse_limits({"max_bytes": "2k"}).max_bytes == 2048
    assert parse_limits({"max_bytes": "3GiB"}).max_bytes == 3 << 30
    assert parse_limits({"max_bytes": 7, "max_files": None}) == Limits(max_bytes=7)


def test_directory_reads_what_pythons_zipfile_writes(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/b.txt", b"hello")
        made.mkdir("empty")
    (tmp_path / "a.zip").write_bytes(raw.getvalue())
    (archive,) = find_archives([str(tmp_path / "a.zip")], recurse=False)
    reader = archive.open()
    directory = read_directory(archive, reader, Limits(), Rules(Limits(), strict=True))
    reader.close()
    (columns,) = directory.blocks()
    first, second = columns.members()
    assert (first.path, first.size, first.crc, first.offset) == (
        "a/b.txt",
        5,
        zlib.crc32(b"hello"),
        0,
    )
    assert (second.path, second.kind, first.limit) == ("empty", FOLDER, second.offset)
    assert len(directory) == 2
