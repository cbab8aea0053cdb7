"""What is done through a mount, or by s5cmd without one, and how fast it must be."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import ways
from .programs import CACHE, Programs
from .service import BUCKET, LARGE, environment, folder_of, images

READERS = (ways.USERS, ways.S3FS, ways.RCLONE, ways.NEW_RCLONE, ways.DIRECT)
WRITERS = (ways.USERS, "s3fs, profile general", ways.S3FS_WRITE, ways.DIRECT)
RCLONES = (ways.RCLONE, ways.NEW_RCLONE)
_PIECE = 1 << 20
_MIB = 1 << 20
_SEED = 7


@dataclass(frozen=True)
class Job:
    """One run: through `mount`, or by s5cmd at `port` where that is None; `size` of the set."""

    mount: Path | None
    port: int
    size: int
    keys: int
    programs: Programs


Phases = Iterator[str]  # each name after its phase is done


@dataclass(frozen=True)
class Target:
    """How many times as fast as the users' line a way must be in a phase."""

    phase: str
    way: str
    times: float


@dataclass(frozen=True)
class Set:
    """`rate` in MB/s a connection; `size` at scale 1."""

    key: str
    title: str
    work: Callable[[Job], Phases]
    ways: tuple[str, ...]
    size: int
    targets: tuple[Target, ...]
    rate: float = 80.0


def walk(job: Job) -> Phases:
    """List every key."""
    if job.mount:
        found = sum(len(names) for _, _, names in os.walk(job.mount / "train"))
    else:
        found = _s5cmd(job, "ls", f"s3://{BUCKET}/train/*").count("\n")
    if found != job.keys:
        raise OSError(f"{found} keys instead of {job.keys}")
    yield "walk"


def epochs(readers: int) -> Callable[[Job], Phases]:
    """Read images in shuffled order, twice, by so many processes."""

    def work(job: Job) -> Phases:
        chosen = random.Random(_SEED).sample(images(job.keys), min(job.size, job.keys))  # noqa: S311 - the same order for all
        if not job.mount:
            dest = folder_of("download")
            lines = (f"cp s3://{BUCKET}/{key} {dest}/{Path(key).name}\n" for key in chosen)
            (CACHE / "commands").write_text("".join(lines), encoding="ascii")
            _s5cmd(job, "--numworkers", "64", "run", str(CACHE / "commands"))
            yield "epoch 1"
            return
        paths = [job.mount / key for key in chosen]
        with multiprocessing.get_context("fork").Pool(readers) as pool:
            for epoch in ("epoch 1", "epoch 2"):
                sum(pool.imap_unordered(_read, paths, chunksize=8))
                yield epoch

    return work


def _read(path: Path) -> int:
    done = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            done += len(piece)
    return done


def sequential(job: Job) -> Phases:
    """Read the first bytes of the large file from front to back."""
    if job.mount:
        left = job.size
        with (job.mount / LARGE).open("rb", buffering=0) as file:
            while left > 0:
                left -= len(file.read(min(_PIECE, left)))
    else:
        dest = folder_of("download") / LARGE
        _s5cmd(job, "cp", "-c", "16", "-p", "16", f"s3://{BUCKET}/{LARGE}", str(dest))
    yield "read"


def write_large(job: Job) -> Phases:
    """Write one file from end to end; it counts as written when it is closed and in S3."""
    name = f"written-{time.monotonic_ns()}"
    block = random.Random(_SEED).randbytes(_PIECE)  # noqa: S311 - the same bytes for all
    if job.mount:
        with (job.mount / name).open("wb", buffering=0) as file:
            for _ in range(job.size // _PIECE):
                file.write(block)
    else:
        source = CACHE / "source.bin"
        source.write_bytes(block * (job.size // _PIECE))
        _s5cmd(job, "cp", "-c", "16", "-p", "16", str(source), f"s3://{BUCKET}/{name}")
    yield "write"
    _s5cmd(job, "rm", f"s3://{BUCKET}/{name}")


def write_small(job: Job) -> Phases:
    """Write many files of 10 kB, one after the other."""
    name = f"small-{time.monotonic_ns()}"
    source = job.mount / name if job.mount else folder_of("download") / name
    source.mkdir()
    if job.mount:
        yield ""  # the folder is not what is measured
    for at in range(job.size):
        (source / f"{at:04d}.txt").write_bytes(b"x" * 10_000)
    if not job.mount:
        yield ""
        _s5cmd(job, "cp", f"{source}/", f"s3://{BUCKET}/{name}/")
    yield "write"
    _s5cmd(job, "rm", f"s3://{BUCKET}/{name}/*")


def _s5cmd(job: Job, *words: str) -> str:
    command = [job.programs.s5cmd(), *words]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment(job.port)
    )
    if done.returncode:
        raise OSError(f"s5cmd: {done.stderr.strip()[:200]}")
    return done.stdout


def _all(phase: str, names: tuple[str, ...], times: float) -> tuple[Target, ...]:
    return tuple(Target(phase, name, times) for name in names)


SETS = {
    one.key: one
    for one in (
        Set(
            "walk",
            "a walk over all keys",
            walk,
            READERS,
            0,
            (Target("walk", ways.S3FS, 10), *_all("walk", RCLONES, 50)),
        ),
        Set(
            "images4",
            "500 images in shuffled order, 4 readers",
            epochs(4),
            READERS,
            500,
            (
                Target("epoch 1", ways.S3FS, 1),
                *_all("epoch 1", RCLONES, 2.5),
                Target("epoch 2", ways.S3FS, 1.8),
                *_all("epoch 2", RCLONES, 15),
            ),
        ),
        Set(
            "images16",
            "1,000 images in shuffled order, 16 readers",
            epochs(16),
            READERS,
            1000,
            _all("epoch 1", RCLONES, 4),
        ),
        Set(
            "sequential",
            "a file of 1 GiB from front to back",
            sequential,
            READERS,
            1024 * _MIB,
            _all("read", (ways.S3FS, *RCLONES), 1.3),
        ),
        Set(
            "slow",
            "256 MiB from front to back, 10 MB/s a connection",
            sequential,
            READERS[:-1],
            256 * _MIB,
            _all("read", (ways.S3FS, *RCLONES), 2.3),
            rate=10,
        ),
        Set(
            "write",
            "256 MiB written, 10 MB/s a connection",
            write_large,
            WRITERS,
            256 * _MIB,
            (Target("write", ways.S3FS_WRITE, 1.35),),
            rate=10,
        ),
        Set(
            "small",
            "200 files of 10 kB written one after the other",
            write_small,
            WRITERS,
            200,
            (Target("write", ways.S3FS_WRITE, 2.5),),
        ),
    )
}
STREAMED = Target("write", ways.S3FS_WRITE, 2.0)  # where s3fs uploads while it is written to
