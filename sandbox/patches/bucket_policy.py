"""Gap: a bucket policy is asked about actions that do not exist, and only by the object's method.

A HEAD is checked as `s3:HeadObject` and an upload's POST as `s3:PostObject`, so that a policy's
Deny on GetObject or PutObject did not hold for them, and one on ListBucket for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3 import models, responses
from moto.s3.exceptions import BucketAccessDeniedError, S3ClientError

from sandbox.patches import patch
from sandbox.settings import Settings

_REAL_NAMES = {"s3:HeadObject": "s3:GetObject", "s3:PostObject": "s3:PutObject"}


def apply(_settings: Settings) -> None:
    """Patch the question that is put to a bucket policy."""
    patch(models.FakeBucket, "get_permission", _get_permission)
    patch(responses.S3Response, "_bucket_response_get", _check_listing)


def _get_permission(
    original: Callable[..., Any], bucket: Any, action: str, resource: str
) -> PermissionResult:
    result: PermissionResult = original(bucket, _REAL_NAMES.get(action, action), resource)
    return result


def _check_listing(
    original: Callable[..., Any], response: Any, bucket_name: str, querystring: dict[str, Any]
) -> Any:
    response._set_action("BUCKET", "GET", querystring)
    if response.data["Action"] == "ListBucket":
        try:
            bucket = response.backend.get_bucket(bucket_name)
        except S3ClientError:
            return original(response, bucket_name, querystring)
        if bucket.get_permission("s3:ListBucket", bucket.arn) == PermissionResult.DENIED:
            raise BucketAccessDeniedError(bucket=bucket_name)
    return original(response, bucket_name, querystring)
