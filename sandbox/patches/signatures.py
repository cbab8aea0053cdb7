"""Gaps of authentication: checked after the first request only if told, and then wrongly.

* Requests are let through unchecked unless moto is told to; here none is, from the start.
* A query string that the client did not escape as AWS does is refused: s3fs could not enter a
  sub-directory.
* An unsigned request, or a presigned address, is an internal error.
* Credentials of a role that have expired still work.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import AuthFailureError, InvalidClientTokenIdError, _RESTError
from moto.core.utils import utcnow
from moto.iam import access_control
from moto.s3.exceptions import S3AccessDeniedError, S3ClientError
from moto.sts.models import sts_backends
from werkzeug.datastructures import Headers

from sandbox.patches import patch
from sandbox.patches.authorization import check_permitted
from sandbox.settings import Settings
from sandbox.signature import authorization_of_query, parse_authorization, signature_of

FORM_BODY = "sandbox.form_body"  # where the application leaves it in the WSGI environment
MAX_CLOCK_SKEW = timedelta(minutes=15)


class ExpiredTokenError(_RESTError):
    """What AWS answers to temporary credentials past their time."""

    code = 403

    def __init__(self) -> None:
        super().__init__("ExpiredToken", "The security token included in the request is expired")


def apply(_settings: Settings) -> None:
    """Check the signature of every request."""
    patch(ActionAuthenticatorMixin, "_authenticate_and_authorize_action", _authenticate)
    patch(access_control.IAMRequestBase, "check_signature", _check_signature)
    patch(access_control.AssumedRoleAccessKey, "__init__", _check_expiry)


def _authenticate(
    _original: Callable[..., Any], response: Any, request_class: type, resource: str = "*"
) -> None:
    query = urlsplit(response.uri).query
    headers = Headers(list(response.headers))
    if "Authorization" not in headers:
        presigned = authorization_of_query(query)
        if presigned is None:
            raise _unsigned(request_class)
        headers["Authorization"] = presigned
        if token := parse_qs(query).get("X-Amz-Security-Token"):
            headers["X-Amz-Security-Token"] = token[0]
    try:
        parse_authorization(headers["Authorization"])
    except ValueError:
        raise _unsigned(request_class) from None
    request = request_class(
        account_id=response.current_account,
        method=response.method,
        path=response.raw_path + (f"?{query}" if query else ""),
        data=response.data,
        # A form's body is gone once its fields have been read.
        body=response.normalized_request.environ.get(FORM_BODY, response.raw_body),
        headers=headers,
        action=response._get_action(),
    )
    request.check_signature()
    check_permitted(response, request, resource)


def _unsigned(request_class: type) -> Exception:
    if request_class is access_control.S3IAMRequest:
        return S3AccessDeniedError()
    return InvalidClientTokenIdError()


def _check_signature(_original: Callable[..., Any], request: Any) -> None:
    path, _, query = request._path.partition("?")
    body = request._body
    credential = parse_authorization(request._headers["Authorization"])
    _check_time(request, query)
    expected = signature_of(
        credential,
        request._access_key.create_credentials().secret_key,
        method=request._method,
        path=path,
        query=query,
        headers=request._headers,
        body=body if isinstance(body, bytes) else str(body or "").encode(),
    )
    if not hmac.compare_digest(expected, credential.signature):
        request._raise_signature_does_not_match()


def _check_time(request: Any, query: str) -> None:
    fields = {name: values[0] for name, values in parse_qs(query).items()}
    signed = request._headers.get("X-Amz-Date") or fields.get("X-Amz-Date", "")
    try:
        age = time.time() - datetime.strptime(signed, "%Y%m%dT%H%M%S%z").timestamp()
    except ValueError:
        request._raise_signature_does_not_match()
        return
    limit = float(fields.get("X-Amz-Expires", MAX_CLOCK_SKEW.total_seconds()))
    if not -MAX_CLOCK_SKEW.total_seconds() <= age <= limit:
        if isinstance(request, access_control.S3IAMRequest):
            if "X-Amz-Expires" in fields:
                raise S3ClientError("AccessDenied", "Request has expired")
            raise S3ClientError(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )
        raise AuthFailureError()


def _check_expiry(original: Callable[..., Any], key: Any, **kwargs: Any) -> None:
    original(key, **kwargs)
    sts = sts_backends[kwargs["account_id"]][kwargs["partition"]]
    role = sts.get_assumed_role_from_access_key(kwargs["access_key_id"])
    if role and role.expiration.replace(tzinfo=UTC) < utcnow().replace(tzinfo=UTC):
        raise ExpiredTokenError()
