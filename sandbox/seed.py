"""Puts the example data into a lab's bucket when it is created."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from moto.s3.models import s3_backends

from sandbox.settings import ACCOUNT_ID, Settings

log = logging.getLogger(__name__)

BUCKET_PREFIX = "gpulab-"
KEY_PREFIX = "datasets/fashion-mnist/"
TYPES = {".zip": "application/zip", ".csv": "text/csv", ".txt": "text/plain"}
BUILD_WITHIN_S = 300


class Seeder:
    """Has the data built in the background from the start, and waits for it when it is needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.root / ".cache" / "fashion-mnist"
        self._building = None if self._folder.exists() else self._start_building()

    def _start_building(self) -> subprocess.Popen[bytes]:
        # A process of its own: a pool of processes does not go with a server's threads.
        return subprocess.Popen(
            [sys.executable, "-m", "sandbox.fashion_mnist"], cwd=self._settings.root
        )

    def seed(self, bucket_name: str) -> None:
        """Fill a bucket of a lab; one with data of that name, or of another owner, is left."""
        backend = s3_backends[ACCOUNT_ID]["aws"]
        bucket = backend.buckets.get(bucket_name)
        if bucket is None or not bucket_name.startswith(BUCKET_PREFIX) or len(bucket.keys):
            return
        if not self._ready():
            log.error("%s stays without example data: it could not be built", bucket_name)
            return
        for path in sorted(self._folder.iterdir()):
            self._put(bucket_name, path)

    def _ready(self) -> bool:
        if not self._folder.exists():
            if self._building is None or self._building.poll() is not None:
                self._building = self._start_building()
            self._building.wait(BUILD_WITHIN_S)
        return self._folder.exists()

    @staticmethod
    def _put(bucket_name: str, path: Path) -> None:
        key = s3_backends[ACCOUNT_ID]["aws"].put_object(
            bucket_name, KEY_PREFIX + path.name, path.read_bytes()
        )
        key.set_metadata({"Content-Type": TYPES[path.suffix]})
