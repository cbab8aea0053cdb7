"""What Python's zipfile writes is unpacked the same; what is damaged is refused or harmless."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from pathlib import Path

from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.extra import MAX32, extra_fields, wide_alone, wide_values
from ansible.module_utils.lab.unzip.limits import Limits
from ansible.module_utils.lab.unzip.names import BadNameError, safe_path
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .unzip_kit import Part, contents, make_zip, unpack

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
PLAIN = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/\\:")
PART = st.text(PLAIN, min_size=1, max_size=8).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(PART, min_size=1, max_size=4).map("/".join)
FILES = st.dictionaries(
    PATHS, st.tuples(st.sampled_from(METHODS), st.binary(max_size=3000)), max_size=12
)
ENGINES = st.sampled_from(["auto", "zlib"])


def has_conflict(paths: list[str]) -> bool:
    return any(other.startswith(f"{path}/") for path in paths for other in paths)


@settings(max_examples=60, deadline=None)
@given(files=FILES, streamed=st.booleans(), engine=ENGINES, workers=st.integers(1, 3))
def test_what_zipfile_writes_is_unpacked_the_same(
    files: dict[str, tuple[int, bytes]], streamed: bool, engine: str, workers: int
) -> None:
    raw = io.BytesIO()
    # A stream that cannot seek makes zipfile write data descriptors.
    target = _NoSeek(raw) if streamed else raw
    with zipfile.ZipFile(target, "w") as made:
        for path, (method, data) in files.items():
            made.writestr(path, data, method)
    with tempfile.TemporaryDirectory() as yard:
        archive, dest = Path(yard, "a.zip"), Path(yard, "dest")
        archive.write_bytes(raw.getvalue())
        try:
            unpack(archive, dest, engine=engine, workers=workers)
        except LabError as error:
            assert has_conflict(list(files)) or "keeps its state" in str(error)
            assert not dest.exists()
            return
        found = {path: data for path, data in contents(dest).items() if data is not None}
        assert found == {path: data for path, (_, data) in files.items()}
        assert not unpack(archive, dest)["changed"]


class _NoSeek(io.RawIOBase):
    def __init__(self, raw: io.BytesIO) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self._raw.write(data)


def sample() -> bytes:
    parts = [
        Part(b"train/0/a.png", b"abc" * 300),
        Part(b"train/0/b.png", bytes(500), method=0),
        Part("ä/x".encode(), b"y" * 40, flags=0x800, comment=b"said"),
        Part(b"d/", method=0),
    ]
    return make_zip(parts, comment=b"hello")


SAMPLE = sample()
TRUE = {"train/0/a.png": b"abc" * 300, "train/0/b.png": bytes(500), "ä/x": b"y" * 40}
CHANGES = st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(changes=CHANGES, cut=st.integers(0, len(SAMPLE)), engine=ENGINES)
@example(changes=[], cut=0, engine="zlib")
def test_damage_is_refused_or_harmless(
    changes: list[tuple[int, int]], cut: int, engine: str
) -> None:
    data = bytearray(SAMPLE)
    for at, value in changes:
        data[at] = value
    if cut < len(SAMPLE) // 4:
        del data[len(data) - cut :]
    with tempfile.TemporaryDirectory() as yard:
        archive, dest = Path(yard, "in", "a.zip"), Path(yard, "yard", "dest")
        archive.parent.mkdir()
        archive.write_bytes(data)
        try:
            unpack(archive, dest, engine=engine, workers=1)
        except LabError as error:
            assert "\n" not in str(error)
            assert not dest.parent.exists()
        else:
            assert {path.name for path in dest.parent.iterdir()} == {"dest"}
            assert not any(path.is_symlink() for path in dest.rglob("*"))
            # Names may have been altered in both headers, contents never: each has its CRC.
            found = [data for data in contents(dest).values() if data is not None]
            assert sorted(found) == sorted(TRUE.values())


@settings(max_examples=500, deadline=None)
@given(
    name=st.text(max_size=40)
    | st.lists(st.sampled_from(["a", "..", ".", "", "/", "\\", "C:"])).map("/".join)
)
def test_no_name_leads_out(name: str) -> None:
    for strict in (False, True):
        try:
            path = safe_path(name, Limits(), strict)
        except BadNameError:
            continue
        parts = path.split("/") if path else []
        assert not path.startswith("/")
        assert all(part not in ("", ".", "..") for part in parts)
        assert not any(ord(sign) < 32 or sign in "\\\x7f" for sign in path)
        assert [part for part in name.split("/") if part not in ("", ".")] == parts


HEADER_VALUES = st.tuples(*[st.sampled_from([0, 7, MAX32]) for _ in range(3)])
WIDE_FIELDS = st.builds(
    lambda kind, values, rest: (
        struct.pack(f"<HH{len(values)}Q", kind, 8 * len(values), *values) + rest
    ),
    st.sampled_from([1, 2]),
    st.lists(st.integers(0, 2**40), max_size=4),
    st.sampled_from([b"", b"\0", struct.pack("<HH", 9, 0)]),
)


@given(values=HEADER_VALUES, extra=WIDE_FIELDS)
@example(values=(7, 7, MAX32), extra=struct.pack("<HHQ", 1, 8, 5 << 30))
@example(values=(MAX32, MAX32, 7), extra=struct.pack("<HHQQ", 1, 16, 300, 200))
def test_the_short_way_to_zip64_values_is_the_long_one(
    values: tuple[int, int, int], extra: bytes
) -> None:
    found = wide_alone(b"..." + extra, 3, len(extra), values)
    usual = struct.pack("<HH", 1, 8 * values.count(MAX32))
    assert (found is not None) == (
        MAX32 in values and extra.startswith(usual) and len(extra) == 4 + 8 * values.count(MAX32)
    )
    if found is not None:
        assert found == wide_values("a.zip", b"name", extra_fields("a.zip", b"name", extra), values)
