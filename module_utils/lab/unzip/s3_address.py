"""Objects at s3://: found and signed for by boto3, whose own chain finds the credentials.

They are read by presigned URLs, as any https address is.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from email.message import Message
from typing import Any, TypeVar

from ansible.module_utils.lab.errors import LabError

from .http_answers import DENIED, Pin, read_failure, refused
from .sources import Access

_NAME = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_NOT_THERE = 404
_VALID = 3600  # seconds that a URL is signed for
_FRESH = 300.0  # seconds after which another is made: a role's credentials may end before the URL
_Answer = TypeVar("_Answer")


class S3Address:
    """An object, whose URL is signed when it is asked for."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.shown = f"s3://{bucket.name}/{key}"
        self.headers: dict[str, str] = {}
        self._bucket = bucket
        self._key = key
        self._url = ""
        self._until = 0.0

    def url(self) -> str:
        """Give a URL that is valid for some minutes at least; LabError without credentials."""
        if time.monotonic() > self._until:
            self._url = self._bucket.sign(self._key)
            self._until = time.monotonic() + _FRESH
        return self._url

    def renew(self) -> bool:
        """Sign anew when next asked."""
        self._until = 0.0
        return True


def find_objects(name: str, recurse: bool, access: Access) -> list[tuple[S3Address, Pin]]:
    """Find the object at s3://bucket/key, or the *.zip directly below s3://bucket/prefix/.

    With `recurse`, those at any depth below it. LabError: malformed, no
    boto3, no credentials, not there, not allowed, none below.
    """
    parts = _NAME.fullmatch(name)
    if not parts:
        raise LabError(
            f"src: {name!r} is no S3 address; write s3://bucket/key.zip, or s3://bucket/prefix/"
        )
    bucket = Bucket(parts[1], access)
    key = parts[2] or ""
    if key and not key.endswith("/"):
        return [(S3Address(bucket, key), bucket.look_at(key))]
    found = bucket.find(key, recurse)
    if not found:
        below = "below" if recurse else "directly below"
        raise LabError(
            f"src: there is no *.zip {below} {name}; name the prefix that holds the archives"
        )
    return [(S3Address(bucket, one), pin) for one, pin in found]


class Bucket:
    """A bucket in the region where it is; every method raises LabError."""

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self._access = access
        self._errors: Any = None
        asked = access.region or os.environ.get("AWS_REGION")
        self._client = self._connect(asked)
        home = self._region()
        if home and home != self._client.meta.region_name:
            self._client = self._connect(home)

    def find(self, prefix: str, recurse: bool) -> list[tuple[str, Pin]]:
        """Keys and versions of the *.zip below a prefix."""
        asked = {"Bucket": self.name, "Prefix": prefix}
        if not recurse:
            asked["Delimiter"] = "/"
        pages = self._client.get_paginator("list_objects_v2").paginate(**asked)
        shown = f"s3://{self.name}/{prefix}"
        return [
            (item["Key"], Pin(item["Size"], item["ETag"]))
            for page in self._tell(shown, lambda: list(pages))
            for item in page.get("Contents", ())
            if item["Key"].lower().endswith(".zip")
        ]

    def look_at(self, key: str) -> Pin:
        """Size and version of an object."""
        said = self._tell(
            f"s3://{self.name}/{key}",
            lambda: self._client.head_object(Bucket=self.name, Key=key),
        )
        return Pin(said["ContentLength"], said["ETag"])

    def sign(self, key: str) -> str:
        """Make a URL by which the object can be read for a while without credentials."""
        wanted = {"Bucket": self.name, "Key": key}
        url: str = self._tell(
            f"s3://{self.name}/{key}",
            lambda: self._client.generate_presigned_url(
                "get_object", Params=wanted, ExpiresIn=_VALID
            ),
        )
        return url

    def _connect(self, region: str | None) -> Any:
        try:
            import boto3  # noqa: PLC0415  only s3:// needs it
            import botocore.exceptions  # noqa: PLC0415  as boto3
            from botocore.config import Config  # noqa: PLC0415  as boto3
        except ImportError:
            raise LabError(
                f"src: s3://{self.name} needs boto3 on this host; install the package python3-boto3"
            ) from None
        self._errors = botocore.exceptions
        # Not every boto3 of a distribution reads these two by itself.
        endpoint = (
            self._access.endpoint
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
        )
        settings = Config(
            signature_version="s3v4",
            # By the bucket's name in the host, older boto3 signs for a host of all regions, which
            # may refer to the region's, where no signature fits. Certificates have no name either
            # for a bucket with a dot, nor have other services for any bucket.
            s3={"addressing_style": "path"},
            connect_timeout=10,
            read_timeout=30,
            retries={"max_attempts": 5, "mode": "standard"},
        )
        session = self._tell(f"s3://{self.name}", boto3.session.Session)
        return self._tell(
            f"s3://{self.name}",
            lambda: session.client(
                "s3",
                region_name=region or session.region_name or "us-east-1",
                endpoint_url=endpoint,
                verify=self._access.ca_bundle,
                config=settings,
            ),
        )

    def _region(self) -> str | None:
        """Ask where the bucket is; S3 tells it also to those who may not list it."""
        try:
            answer = self._client.head_bucket(Bucket=self.name)
        except self._errors.ClientError as error:
            answer = error.response
        except self._errors.BotoCoreError as error:
            raise self._unreached(f"s3://{self.name}", error) from None
        heads = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region: str | None = heads.get("x-amz-bucket-region")
        return region

    def _tell(self, shown: str, call: Callable[[], _Answer]) -> _Answer:
        try:
            return call()
        except self._errors.ClientError as error:
            raise _denied(shown, error.response) from None
        except self._errors.BotoCoreError as error:
            raise self._unreached(shown, error) from None
        except ValueError:  # of an endpoint that is no URL
            raise LabError(
                f"endpoint: is not the URL of an S3 service (for {shown}); write http://host:port"
            ) from None

    def _unreached(self, shown: str, error: Exception) -> LabError:
        credentials = (
            self._errors.NoCredentialsError,
            self._errors.PartialCredentialsError,
            self._errors.CredentialRetrievalError,
        )
        if isinstance(error, credentials):
            return LabError(
                f"{shown}: this host has no credentials for S3; give the instance a role that may "
                "read it, or mount the bucket and name the path"
            )
        what = type(error).__name__
        return LabError(
            f"{shown}: S3 cannot be asked for it ({what}); check region, endpoint, ca_bundle and "
            "the network, then run again"
        )


def _denied(shown: str, response: dict[str, Any]) -> LabError:
    """Say what S3 said no with; answers to HEAD have no code but their status."""
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    failure = read_failure(
        status, Message(), b"" if code.isdecimal() else f"<Code>{code}</Code>".encode()
    )
    if status in DENIED:
        return refused(shown, failure)
    if status == _NOT_THERE:
        return LabError(
            f"{shown}: is not there ({failure.said}); check bucket, key and endpoint, and end it "
            "with / if it stands for the archives below it"
        )
    return LabError(
        f"{shown}: S3 answered {failure.said}; check region and endpoint, then run again"
    )
