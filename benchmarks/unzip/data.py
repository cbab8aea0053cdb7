"""The data sets: made once, always the same bytes, kept in the cache folder."""

from __future__ import annotations

import array
import functools
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox import fashion_mnist
from sandbox.errors import SandboxError

from .errors import MissingError
from .zips import DEFLATED, STORED, BigMember, Packed, ZipWriter, members_of, pack, unpacked

VERSION = 1  # of the generators: another one makes the data sets anew
ARCHIVES = 40
PER_ARCHIVE = 1500
TINY = 60_000
PER_FOLDER = 600
LARGE_BYTES = 220 << 20
GIANT_BYTES = 1200 << 20
_BLOCK = 4 << 20
_WORKERS = 2
_ALPHABET = 1500  # different images; each member is one of them with a comment of its own
_SMALLEST, _LARGEST = 3_000, 140_000
# Log-normal sizes with a mean of 24.3 kB: a mix of photographs and thumbnails.
_MU, _SIGMA = 9.919, 0.6
_ZEROS = 0.6  # share of the floats that are 0


@dataclass(frozen=True)
class Place:
    """Where data sets lie, and how large they are: 1.0 is the size that the figures are for."""

    cache: Path
    scale: float

    def folder(self, name: str) -> Path:
        """Folder of the data set of that name."""
        return self.cache / "data" / f"v{VERSION}-{self.scale:g}" / name

    def count(self, whole: int) -> int:
        """Scale a number of things, at least one."""
        return max(1, round(whole * self.scale))


@dataclass(frozen=True)
class DataSet:
    """A folder of zips; `make` fills it. `limited`: the CPU targets against the limit hold."""

    key: str
    title: str
    make: Callable[[Place, Path], None]
    limited: bool = True


def archives_of(folder: Path) -> list[Path]:
    """List the zips of a data set in order."""
    return sorted(folder.glob("*.zip"))


def build(chosen: DataSet, place: Place) -> Path:
    """Make a data set unless it is there; gives its folder. MissingError if it cannot be had."""
    folder = place.folder(chosen.key)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{chosen.key}-") as scratch:
            unfinished = Path(scratch) / "set"
            unfinished.mkdir()
            chosen.make(place, unfinished)
            unfinished.rename(folder)
    return folder


# Images


@functools.cache
def image(number: int) -> bytes:
    """One of 1,500 JPEG-like files: tables, then bits of which a little more are 1 than 0.

    That comes to 7.9 bits of information a byte, like the entropy-coded scan of a JPEG: deflate
    wins 1 to 2 % by its Huffman codes and finds no repetition, so unpacking is as dear as of a
    real one. Random bytes would end up in stored blocks and cost nothing.
    """
    dice = random.Random(number)  # noqa: S311  the same bytes each time
    size = int(min(max(dice.lognormvariate(_MU, _SIGMA), _SMALLEST), _LARGEST))
    one, two, three, four = (int.from_bytes(dice.randbytes(size)) for _ in range(4))
    scan = (one | two & three & four).to_bytes(size).replace(b"\xff", b"\xff\0")[:size]
    return b"\xff\xd8" + _tables() + scan + b"\xff\xd9"


def _tables() -> bytes:
    """As long as JPEG's quantization and Huffman tables, and the same in each file."""
    return bytes((n * n // 7 + n) % 251 for n in range(600))


def _with_comment(body: bytes, number: int) -> bytes:
    text = b"image %016d" % number
    return body[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + body[2:]


def _images_of(number: int, count: int) -> Iterator[Packed]:
    dice = random.Random(1000 + number)  # noqa: S311  the same bytes each time
    for n in range(count):
        body = _with_comment(image(dice.randrange(_ALPHABET)), number * 10_000 + n)
        yield pack(f"part-{number:02d}/images/{number:02d}_{n:06d}.jpg", body)


def _write_images(job: tuple[Path, int, int]) -> None:
    folder, number, count = job
    with ZipWriter(folder / f"part-{number:02d}.zip") as archive:
        for member in _images_of(number, count):
            archive.add(member)


def make_many(place: Place, folder: Path) -> None:
    """Write the 40 zips of 1,500 images each; a smaller scale has fewer images in each."""
    jobs = [(folder, number, place.count(PER_ARCHIVE)) for number in range(ARCHIVES)]
    with ProcessPoolExecutor(_WORKERS) as pool:
        list(pool.map(_write_images, jobs))


def _same_images(place: Place) -> Iterator[Packed]:
    """Give the images of the many zips in folders of 600, packed as they were there."""
    done = 0
    for path in archives_of(build(SETS["a"], place)):
        for member in members_of(path):
            name = f"train/n{done // PER_FOLDER:08d}/{done:06d}.jpg"
            yield Packed(name, member.method, member.crc, member.size, member.data)
            done += 1


def make_one(place: Place, folder: Path) -> None:
    """Write one zip of all the images."""
    with ZipWriter(folder / "images.zip") as archive:
        for member in _same_images(place):
            archive.add(member)


def make_stored(place: Place, folder: Path) -> None:
    """Write one zip of all the images, stored."""
    with ZipWriter(folder / "images.zip") as archive:
        for member in _same_images(place):
            archive.add(pack(member.name, unpacked(member), STORED))


def make_zip64(place: Place, folder: Path) -> None:
    """Write one zip of all the images, every size and offset in a zip64 field."""
    with ZipWriter(folder / "images.zip", zip64=True) as archive:
        for member in _same_images(place):
            archive.add(member)


# Tiny files


def _tiny(number: int) -> bytes:
    dice = random.Random(number)  # noqa: S311  the same bytes each time
    if number % 2:
        side = 40
        dim = bytes(value // 3 for value in dice.randbytes(side * side))
        return fashion_mnist.png(dim, side)
    boxes = [[round(dice.random(), 3) for _ in range(4)] for _ in range(dice.randrange(25, 50))]
    label = {"id": number, "class": number // 2 % 10, "split": "train", "boxes": boxes}
    return json.dumps(label).encode()


def make_tiny(place: Place, folder: Path) -> None:
    """Write one zip of 60,000 files of 1 to 2 kB: small PNGs and JSON labels, by turns."""
    with ZipWriter(folder / "tiny.zip") as archive:
        for n in range(place.count(TINY)):
            kind = "png" if n % 2 else "json"
            archive.add(pack(f"mini/{n // 2 % 10}/{n // 2:05d}.{kind}", _tiny(n)))


# Large files


def _table(seed: int, size: int) -> Iterator[bytes]:
    """Make a CSV of sensor readings: walks, classes, a few words.

    A block of 4 MiB comes again and again: deflate sees 32 KiB back and cannot tell.
    """
    dice = random.Random(seed)  # noqa: S311  the same bytes each time
    rows: list[str] = []
    length, speed, depth = 0, 4000, 40_000
    while length < _BLOCK:
        speed = (speed + dice.randrange(-3, 4)) % 10_000
        depth = (depth + dice.randrange(-3, 4)) % 100_000
        who = ("person,train", "cyclist,val", "vehicle,test")[min(dice.randrange(30), 2)]
        rows.append(f"{1_700_000_000 + len(rows)},{dice.randrange(40):03d},{speed},{depth},{who}\n")
        length += len(rows[-1])
    return _repeat("".join(rows).encode()[:_BLOCK], size)


def _numbers(seed: int, size: int) -> Iterator[bytes]:
    """32-bit floats as an array library writes them: walks in steps of 1/4, 60 % zeros."""
    dice = random.Random(seed)  # noqa: S311  the same bytes each time
    values, here = array.array("f"), 0.0
    for _ in range(_BLOCK // 4):
        here += dice.randrange(-2, 3) / 4
        values.append(here if dice.random() > _ZEROS else 0.0)
    return _repeat(values.tobytes(), size)


def _repeat(block: bytes, size: int) -> Iterator[bytes]:
    while size > 0:
        yield block[:size]
        size -= len(block)


def _write_large(job: tuple[Path, int, int]) -> None:
    folder, number, size = job
    name, source = (f"table-{number}.csv", _table) if number % 2 else (f"a-{number}.npy", _numbers)
    _write_one(folder / f"large-{number}.zip", name, source(number, size))


def _write_one(path: Path, name: str, pieces: Iterator[bytes]) -> None:
    member = BigMember(name)
    for piece in pieces:
        member.add(piece)
    with ZipWriter(path) as archive:
        archive.add(member.finish())


def make_large(place: Place, folder: Path) -> None:
    """Write six zips with one large compressible file each."""
    jobs = [(folder, number, place.count(LARGE_BYTES)) for number in range(6)]
    with ProcessPoolExecutor(_WORKERS) as pool:
        list(pool.map(_write_large, jobs))


def make_giant(place: Place, folder: Path) -> None:
    """Write one zip with one giant member."""
    _write_one(folder / "giant.zip", "giant.csv", _table(99, place.count(GIANT_BYTES)))


# Real ones


def make_fashion(place: Place, folder: Path) -> None:
    """Link the sandbox's zips of Fashion-MNIST; of its 60,000 training images, a share by scale."""
    try:
        source = fashion_mnist.build(place.cache.parent / "fashion-mnist")
    except SandboxError as error:
        raise MissingError(str(error)) from error
    found = archives_of(source)
    for path in found[: place.count(len(found))]:
        shutil.copyfile(path, folder / path.name)


def make_clipart(place: Place, folder: Path) -> None:
    """Zip the pictures of Debian's package openclipart-png; a smaller scale has every nth."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = debian_package("openclipart-png", Path(scratch)) / "usr/share/openclipart/png"
        pictures = sorted(path for path in root.rglob("*.png") if path.is_file())
        with ZipWriter(folder / "openclipart.zip") as archive:
            for path in pictures[:: max(1, round(1 / place.scale))]:
                archive.add(pack(str(path.relative_to(root)), path.read_bytes(), DEFLATED))


def debian_package(name: str, folder: Path) -> Path:
    """Fetch a package and lay its files out below `folder`; MissingError with apt's reason."""
    if not shutil.which("apt-get"):
        raise MissingError(f"{name} is a Debian package, and this machine has no apt-get")
    folder.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name]
    done = subprocess.run(fetch, cwd=folder, check=False, capture_output=True, text=True)
    found = sorted(folder.glob(f"{name}_*.deb"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MissingError(f"apt-get could not fetch {name}: {reason}")
    subprocess.run(["dpkg-deb", "-x", found[0], folder], check=True, capture_output=True)
    found[0].unlink()
    return folder


SETS = {
    one.key: one
    for one in (
        DataSet("a", "40 zips, 60,000 JPEG-like images", make_many),
        DataSet("b", "one zip, the same 60,000 images", make_one),
        DataSet("c", "one zip, 60,000 tiny files", make_tiny),
        DataSet("d", "6 zips, one large compressible file each", make_large, limited=False),
        DataSet("e", "one zip, one giant member", make_giant, limited=False),
        DataSet("f", "one zip, the images stored", make_stored),
        DataSet("g", "one zip, the images, zip64", make_zip64),
        DataSet("h", "11 zips, Fashion-MNIST's PNGs", make_fashion),
        DataSet("i", "one zip, openclipart's PNGs", make_clipart),
    )
}
