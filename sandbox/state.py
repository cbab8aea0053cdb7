"""The state of moto's backends on disk, so that a restart of the process loses nothing."""

from __future__ import annotations

import io
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from moto.backends import get_backend
from moto.iam.models import AWSManagedPolicy, IAMBackend, ManagedPolicy
from moto.s3.models import FakeKey

from sandbox.patches import object_store
from sandbox.settings import ACCOUNT_ID

log = logging.getLogger(__name__)

FORMAT = 1
# The services whose state is kept; the others start empty.
SERVICES = (
    "ec2",
    "efs",
    "iam",
    "sts",
    "s3",
    "kms",
    "secretsmanager",
    "cloudwatch",
    "budgets",
    "logs",
    "sns",
    "events",
    "scheduler",
)
DEBOUNCE_S = 0.5
ATTEMPTS = 20


class State:
    """Saves and loads the backends. Saving is atomic: a crash leaves the last state whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.pickle"
        self.extra: dict[str, Any] = {}  # what the reconciler wants kept
        self._saving = threading.Lock()
        self._dirty = threading.Event()

    def load(self) -> bool:
        """Fill the backends from disk; False if nothing was saved.

        Raises ValueError for a state of another format, pickle and OS errors for a broken one.
        """
        if not self.path.exists():
            return False
        saved = pickle.loads(self.path.read_bytes())  # noqa: S301  our own file, mode 0600
        if saved["format"] != FORMAT:
            raise ValueError(f"{self.path} is of format {saved['format']}, not {FORMAT}")
        for (service, region), backend in saved["backends"].items():
            dict.__setitem__(_regions(service), region, backend)
        for region, parameters in saved["parameters"].items():
            _regions("ssm")[region]._parameters.update(parameters)
        self.extra = saved["extra"]
        object_store.discard_orphans(_contents_in_use())
        return True

    def save(self) -> None:
        """Write everything now. Waits while another thread does the same."""
        with self._saving:
            self._dirty.clear()
            unused = object_store.condemned()
            data = _retry(self._dump)
            scratch = self.path.with_suffix(".new")
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            scratch.replace(self.path)
            object_store.discard(unused)

    def save_soon(self) -> None:
        """Have it written within a moment."""
        self._dirty.set()

    def keep_saving(self) -> None:
        """Write what save_soon() asked for, for ever; the body of a thread."""
        while True:
            self._dirty.wait()
            time.sleep(DEBOUNCE_S)
            try:
                self.save()
            except Exception:
                log.exception("The state could not be saved; trying again")
                self._dirty.set()

    def _dump(self) -> bytes:
        backends = {
            (service, region): backend
            for service in SERVICES
            for region, backend in list(_regions(service).items())
            if not region.startswith("aws-")  # IAM's in the other partitions: never used
        }
        # The rest of SSM's backend cannot be pickled; public names come from amis.json.
        parameters = {
            region: {
                name: versions
                for name, versions in list(backend._parameters.items())
                if not name.startswith("/aws/")
            }
            for region, backend in list(_regions("ssm").items())
        }
        target = io.BytesIO()
        _Pickler(target, protocol=pickle.HIGHEST_PROTOCOL).dump(
            {
                "format": FORMAT,
                "backends": backends,
                "parameters": parameters,
                "extra": self.extra,
            }
        )
        return target.getvalue()


class _Pickler(pickle.Pickler):
    """Knows how to write the private keys of KMS, which do not know it themselves.

    AWS's managed policies, 4 MB that moto brings along, are written by name alone.
    """

    def reducer_override(self, value: Any) -> Any:
        """Tell how a value is made again; pickle knows of all others."""
        if isinstance(value, AWSManagedPolicy):
            return _aws_managed_policy, (value.arn,)
        if isinstance(value, (RSAPrivateKey, EllipticCurvePrivateKey)):
            encoded = value.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            return _private_key, (encoded,)
        return NotImplemented


@cache
def _aws_managed_policies() -> dict[str, ManagedPolicy]:
    backend = IAMBackend(region_name="aws", account_id=ACCOUNT_ID)
    return {policy.arn: policy for policy in backend.aws_managed_policies}


def _aws_managed_policy(arn: str) -> ManagedPolicy:
    return _aws_managed_policies()[arn]


def _private_key(encoded: bytes) -> Any:
    return load_der_private_key(encoded, None)


def _regions(service: str) -> Any:
    return get_backend(service)[ACCOUNT_ID]  # type: ignore[call-overload]


def _retry(dump: Callable[[], bytes]) -> bytes:
    """Dump again if a request changed something meanwhile, which pickle notices."""
    for attempt in range(ATTEMPTS):
        try:
            return dump()
        except RuntimeError:
            time.sleep(0.01 * attempt)
    return dump()


def _contents_in_use() -> set[str]:
    used: set[str] = set()
    for backend in list(_regions("s3").values()):
        for bucket in backend.buckets.values():
            for _, versions in bucket.keys.lists():
                used.update(_content_names(versions))
            for upload in bucket.multiparts.values():
                used.update(_content_names(upload.parts.values()))
    return used


def _content_names(keys: Any) -> set[str]:
    return {key._value_buffer.name for key in keys if isinstance(key, FakeKey)}
