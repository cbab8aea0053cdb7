from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from sandbox import fashion_mnist
from sandbox.fashion_mnist import Part, label_table, png, write, write_archive


def decoded(data: bytes) -> tuple[tuple[int, ...], bytes]:
    """Read a PNG file by the book: header, and pixels of unfiltered rows."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        name, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        (check,) = struct.unpack(">I", data[place + 8 + length : place + 12 + length])
        assert check == zlib.crc32(name + content)
        chunks[name] = content
        place += 12 + length
    header = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    rows = zlib.decompress(chunks[b"IDAT"])
    width = header[0] + 1
    return header, b"".join(
        rows[n : n + width][1:] for n in range(0, len(rows), width) if rows[n] == 0
    )


def test_png_keeps_every_pixel() -> None:
    pixels = bytes(n % 256 for n in range(28 * 28))
    assert decoded(png(pixels)) == ((28, 28, 8, 0, 0, 0, 0), pixels)


@pytest.fixture
def part() -> Part:
    return Part("train", 41, bytes(range(256)) * 7 + bytes(3 * 784 - 1792), bytes((9, 0, 4)))


def test_label_table(part: Part) -> None:
    assert label_table(part) == (
        "path,label,class\n"
        "train/ankle-boot/00041.png,9,ankle-boot\n"
        "train/t-shirt-top/00042.png,0,t-shirt-top\n"
        "train/coat/00043.png,4,coat\n"
    )


def test_archive_is_the_same_each_time(part: Part, tmp_path: Path) -> None:
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    write_archive(first, part)
    write_archive(second, part)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [path for path, _, _ in part.members()]
        assert decoded(archive.read("train/coat/00043.png"))[1] == part.pixels[2 * 784 :]


def test_eleven_archives(tmp_path: Path) -> None:
    def idx(dimensions: int, data: bytes) -> bytes:
        return bytes(4 + 4 * dimensions) + data

    files = {
        "train-images-idx3-ubyte": idx(3, bytes(20 * 784)),
        "train-labels-idx1-ubyte": idx(1, bytes(n % 10 for n in range(20))),
        "t10k-images-idx3-ubyte": idx(3, bytes(5 * 784)),
        "t10k-labels-idx1-ubyte": idx(1, bytes(5)),
    }
    write(files, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.zip")) == [
        "test.zip",
        *(f"train-{n:02d}.zip" for n in range(10)),
    ]
    with zipfile.ZipFile(tmp_path / "train-09.zip") as archive:
        assert archive.namelist() == ["train/bag/00018.png", "train/ankle-boot/00019.png"]
    assert "MIT" in (tmp_path / "README.txt").read_text()


def test_unfinished_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "fetch", lambda: {"train-images-idx3-ubyte": b""})
    target = tmp_path / "fashion-mnist"
    with pytest.raises(KeyError):
        fashion_mnist.build(target)
    assert [p.name for p in tmp_path.iterdir()] == ["fashion-mnist.lock"]
