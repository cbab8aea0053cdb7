"""The example data: Fashion-MNIST's 70,000 images as PNG files in eleven zip archives.

They come from the Debian package dataset-fashion-mnist and are written once, into the
repository's .cache.
"""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

PACKAGE = "dataset-fashion-mnist"
FALLBACK_IMAGE = "gpulab/debian:13"
CLASSES = (
    "t-shirt-top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
SIDE = 28  # pixels
PER_ARCHIVE = 6000
TRAIN_ARCHIVES = 10
WORKERS = 2
MOMENT = (2020, 5, 23, 0, 0, 0)  # of the package; a fixed one keeps the archives the same

README = """Fashion-MNIST: 70,000 grayscale images of clothes, 28x28 pixels, in ten classes.

train-00.zip to train-09.zip  60,000 images for training, train/<class>/<index>.png
test.zip                      10,000 images for testing, test/<class>/<index>.png
labels-train.csv, labels-test.csv
                              path, index and name of the class of each image

Origin: Han Xiao, Kashif Rasul, Roland Vollgraf: Fashion-MNIST: a Novel Image Dataset for
Benchmarking Machine Learning Algorithms, https://github.com/zalandoresearch/fashion-mnist,
by way of the Debian package dataset-fashion-mnist. The pixels are unchanged; the PNG files
were written from the original IDX files.

Licence: MIT, Copyright (c) 2017 Zalando SE, https://tech.zalando.com
"""


@dataclass(frozen=True)
class Part:
    """Some consecutive images of one kind ("train" or "test")."""

    kind: str
    first: int
    pixels: bytes
    labels: bytes

    def members(self) -> Iterator[tuple[str, int, bytes]]:
        """Give each image's path, class and pixels."""
        area = SIDE * SIDE
        for n, label in enumerate(self.labels):
            path = f"{self.kind}/{CLASSES[label]}/{self.first + n:05d}.png"
            yield path, label, self.pixels[n * area : (n + 1) * area]


def build(folder: Path) -> Path:
    """Make the archives in `folder` unless they are there; returns it. Raises SandboxError."""
    with _only_one(folder.with_suffix(".lock")):
        if folder.exists():
            return folder
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fashion-mnist-") as scratch:
            unfinished = Path(scratch) / "done"
            unfinished.mkdir(mode=0o755)
            write(fetch(), unfinished)
            unfinished.rename(folder)
    return folder


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch() -> dict[str, bytes]:
    """Get the four IDX files out of the Debian package, by name without .gz."""
    package = _package_of_host() if shutil.which("apt-get") else None
    archive = package or _package_of_container()
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = Path(member.name).name.removesuffix(".gz")
            content = tar.extractfile(member) if member.isfile() else None
            if content and name.endswith("-ubyte"):
                data = content.read()
                found[name] = gzip.decompress(data) if member.name.endswith(".gz") else data
    return found


_GET = (
    f"apt-get -qq -o APT::Sandbox::User=root download {PACKAGE} ||"
    f" {{ apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download {PACKAGE}; }}"
)
# The package's files as a tar archive on standard output, all else on standard error.
_SCRIPT = (
    f'set -e; cd "$(mktemp -d)"; {{ {_GET}; }} >&2; dpkg-deb --fsys-tarfile ./*.deb; rm ./*.deb'
)


def _package_of_host() -> bytes | None:
    done = subprocess.run(["sh", "-c", _SCRIPT], check=False, capture_output=True)
    return done.stdout if done.returncode == 0 else None


def _package_of_container() -> bytes:
    command = ["docker", "run", "--rm", "--network", "host", "--entrypoint", "sh"]
    done = subprocess.run(
        [*command, FALLBACK_IMAGE, "-c", _SCRIPT], check=False, capture_output=True
    )
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason"]
        raise SandboxError(f"the package {PACKAGE} cannot be fetched: {reason[0]}")
    return done.stdout


def write(idx: dict[str, bytes], folder: Path) -> None:
    """Write archives, labels and README from the four IDX files."""
    parts: list[tuple[Path, Part]] = []
    for kind, prefix, archives in (("train", "train", TRAIN_ARCHIVES), ("test", "t10k", 1)):
        pixels = _payload(idx[f"{prefix}-images-idx3-ubyte"], dimensions=3)
        labels = _payload(idx[f"{prefix}-labels-idx1-ubyte"], dimensions=1)
        whole = Part(kind, 0, pixels, labels)
        (folder / f"labels-{kind}.csv").write_text(label_table(whole), encoding="utf-8")
        size = len(labels) // archives
        for n in range(archives):
            name = f"{kind}-{n:02d}.zip" if archives > 1 else f"{kind}.zip"
            parts.append((folder / name, _slice(whole, n * size, size)))
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(write_archive, *zip(*parts, strict=True)))
    (folder / "README.txt").write_text(README, encoding="utf-8")


def _payload(idx: bytes, dimensions: int) -> bytes:
    """Drop an IDX file's header: four bytes of magic, then four for each dimension."""
    return idx[4 + 4 * dimensions :]


def _slice(part: Part, first: int, count: int) -> Part:
    area = SIDE * SIDE
    pixels = part.pixels[first * area : (first + count) * area]
    return Part(part.kind, first, pixels, part.labels[first : first + count])


def label_table(part: Part) -> str:
    """Write the labels as CSV with a header."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "class"))
    rows.writerows((path, label, CLASSES[label]) for path, label, _ in part.members())
    return text.getvalue()


def write_archive(target: Path, part: Part) -> None:
    """Write one zip; the images are compressed already, so they are stored as they are."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path, _, pixels in part.members():
            entry = zipfile.ZipInfo(path, MOMENT)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, png(pixels))


def png(pixels: bytes, side: int = SIDE) -> bytes:
    """Encode a square of 8-bit gray pixels as a PNG file."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + pixels[n * side : (n + 1) * side] for n in range(side))
    chunks: Sequence[tuple[bytes, bytes]] = (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def main() -> None:
    """Build into the repository's cache: the server starts this as a process of its own."""
    os.nice(5)
    build(Path(__file__).resolve().parents[1] / ".cache" / "fashion-mnist")


if __name__ == "__main__":
    main()
