"""Error replies in the forms of AWS's protocols, for what moto cannot answer itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

StartResponse = Callable[..., Any]
Environ = dict[str, Any]

# Not 500: every client would ask again, several times, and wait in between.
STATUS = "400 Bad Request"


def service_of(environ: Mapping[str, Any]) -> str:
    """Read the service from the credential scope of a signed request; "s3" if there is none."""
    scope = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2]
    parts = scope.partition(",")[0].split("/")
    scope_parts = 5
    return parts[3] if len(parts) == scope_parts else "s3"


def error(
    environ: Environ, start_response: StartResponse, code: str, message: str
) -> Iterable[bytes]:
    """Answer with an error that the caller's SDK understands."""
    service = service_of(environ)
    if "HTTP_X_AMZ_TARGET" in environ or "json" in environ.get("CONTENT_TYPE", ""):
        kind, text = "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message})
    else:
        kind, text = "text/xml", _xml(service, escape(code), escape(message))
    body = text.encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("x-amzn-ErrorType", code),
    ]
    start_response(STATUS, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]


def _xml(service: str, code: str, message: str) -> str:
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    if service == "ec2":
        errors = f"<Errors><Error>{inner}</Error></Errors>"
        return f"<Response>{errors}<RequestID>-</RequestID></Response>"
    if service == "s3":
        return f"<Error>{inner}</Error>"
    return f"<ErrorResponse><Error>{inner}</Error><RequestId>-</RequestId></ErrorResponse>"
