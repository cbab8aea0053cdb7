"""Gaps of S3's authorization.

* HeadBucket is checked as an action of that name, which no policy can grant: it is s3:ListBucket.
  The encryption and public access block settings are checked as ListBucket and CreateBucket.
* CopyObject and UploadPartCopy read the source unchecked.
* DeleteObjects is checked against the bucket, not against its objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import xmltodict  # type: ignore[import-untyped]
from moto.s3 import responses
from moto.s3.exceptions import BucketAccessDeniedError

from sandbox.patches import patch
from sandbox.settings import Settings

_NAMES = {
    "GET": {
        "encryption": "GetEncryptionConfiguration",
        "publicAccessBlock": "GetBucketPublicAccessBlock",
        "ownershipControls": "GetBucketOwnershipControls",
    },
    "PUT": {
        "encryption": "PutEncryptionConfiguration",
        "publicAccessBlock": "PutBucketPublicAccessBlock",
        "ownershipControls": "PutBucketOwnershipControls",
    },
    "DELETE": {
        "encryption": "PutEncryptionConfiguration",
        "publicAccessBlock": "PutBucketPublicAccessBlock",
        "ownershipControls": "PutBucketOwnershipControls",
    },
}


def apply(_settings: Settings) -> None:
    """Patch which action a request is checked as."""
    bucket_actions = responses.ACTION_MAP["BUCKET"]
    bucket_actions["HEAD"]["DEFAULT"] = "ListBucket"
    for method, names in _NAMES.items():
        bucket_actions[method].update(names)
    patch(responses.S3Response, "_key_response_put", _check_copy_source)
    patch(responses.S3Response, "_bucket_response_delete_keys", _check_each_key)


def _check_copy_source(
    original: Callable[..., Any], response: Any, query: dict[str, Any], key_name: str
) -> Any:
    if source := response.headers.get("x-amz-copy-source"):
        bucket, _, key = unquote(urlsplit(source).path).lstrip("/").partition("/")
        response.data["Action"] = "GetObject"
        response._authenticate_and_authorize_s3_action(bucket_name=bucket, key_name=key)
    return original(response, query, key_name)


def _check_each_key(
    original: Callable[..., Any], response: Any, bucket_name: str, authenticated: bool = True
) -> Any:
    """Delete all of the keys or, if one of them is not permitted, refuse each."""
    asked = xmltodict.parse(response.body, strip_whitespace=False, force_list=("Object",))
    try:
        for entry in asked["Delete"].get("Object", []):
            response._authenticate_and_authorize_s3_action(bucket_name, entry["Key"])
    except BucketAccessDeniedError:
        return original(response, bucket_name, authenticated=False)
    return original(response, bucket_name, authenticated=True)
