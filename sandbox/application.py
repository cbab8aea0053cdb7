"""The WSGI application: moto's, with the machines brought in step before a change is answered."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from sandbox.errors import SandboxError
from sandbox.locks import MOTO_LOCK
from sandbox.patches.signatures import FORM_BODY
from sandbox.reconciler import Reconciler
from sandbox.replies import Environ, StartResponse, error, service_of
from sandbox.settings import Settings
from sandbox.state import State

log = logging.getLogger(__name__)

READS = ("Describe", "Get", "List", "Search", "Simulate", "Lookup", "Validate")
HEALTH = "/_sandbox/health"
# The services whose changes concern the machines.
ON_MACHINES = ("ec2", "elasticfilesystem")
# moto's own control pages, which would switch authorization off for anyone.
HIDDEN = ("/moto-api", "/latest/")
BUCKET_PATH = re.compile(r"/([^/?]+)/?")

SeedBucket = Callable[[str], None]


class Application:
    """Answers AWS calls. A change of EC2 or IAM is in the machines and on disk when it returns."""

    def __init__(
        self, settings: Settings, reconciler: Reconciler, state: State, seed_bucket: SeedBucket
    ) -> None:
        self.settings = settings
        self.reconciler = reconciler
        self.state = state
        self.seed_bucket = seed_bucket
        self.moto: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(_backend_app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        path = str(environ.get("PATH_INFO", ""))
        if path == HEALTH:
            return self._health(start_response)
        if path.startswith(HIDDEN):
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        try:
            return self._serve(environ, start_response)
        except NotImplementedError as problem:
            message = f"{problem}: the sandbox (moto) does not have it".replace("\n", " ")
            return error(environ, start_response, "InvalidAction", message)
        except SandboxError as problem:
            log.error("%s", problem)
            return error(environ, start_response, "SandboxError", str(problem))
        except Exception as problem:
            log.exception("%s %s failed", environ.get("REQUEST_METHOD"), path)
            message = f"The sandbox failed: {problem!r}; see {self.settings.state_dir}/server.log"
            return error(environ, start_response, "InternalError", message)

    def _serve(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if service_of(environ) == "s3":
            return self._serve_s3(environ, start_response)
        fields = _form(environ)
        action = fields.get("Action", [""])[0] or _json_action(environ)
        if not action and environ.get("REQUEST_METHOD") in ("DELETE", "POST", "PUT"):
            action = str(environ.get("PATH_INFO", ""))  # REST services name no action (Scheduler)
        if not action or action.startswith(READS) or fields.get("DryRun") == ["true"]:
            with MOTO_LOCK:
                return [b"".join(self.moto(environ, start_response))]
        return self._change(environ, start_response, action, fields)

    def _change(
        self,
        environ: Environ,
        start_response: StartResponse,
        action: str,
        fields: dict[str, list[str]],
    ) -> Iterable[bytes]:
        with self.reconciler.lock:
            reply = Reply()
            with MOTO_LOCK:
                body = b"".join(self.moto(environ, reply))
            if reply.succeeded:
                try:
                    if action == "RebootInstances":
                        self.reconciler.reboot(_numbered(fields, "InstanceId"))
                    if service_of(environ) in ON_MACHINES:
                        self.reconciler.step()
                finally:
                    self.state.save()
        start_response(reply.status, reply.headers)
        return [body]

    def _serve_s3(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD")
        if method in ("GET", "HEAD", "OPTIONS"):
            return self.moto(environ, start_response)
        reply = Reply()
        body = b"".join(self.moto(environ, reply))
        if reply.succeeded:
            bucket = BUCKET_PATH.fullmatch(str(environ.get("PATH_INFO", "")))
            if method == "PUT" and bucket and not environ.get("QUERY_STRING"):
                self.seed_bucket(bucket[1])
            if bucket:
                self.state.save()
            else:
                self.state.save_soon()
        start_response(reply.status, reply.headers)
        return [body]

    def _health(self, start_response: StartResponse) -> Iterable[bytes]:
        body = json.dumps({"slot": self.settings.slot, "pid": os.getpid()}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body]


def _backend_app(service: Any) -> Any:
    if service is None:
        raise NotImplementedError("No such service")
    return create_backend_app(service)


class Reply:
    """Holds a reply back: it takes the place of WSGI's start_response."""

    def __init__(self) -> None:
        self.status = "500 Internal Server Error"
        self.headers: list[tuple[str, str]] = []

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Keep the status and the headers."""
        self.status, self.headers = status, headers
        return lambda _data: None

    @property
    def succeeded(self) -> bool:
        """Whether the call was carried out."""
        return self.status.startswith("2")


def _form(environ: Environ) -> dict[str, list[str]]:
    """Read a form's fields, and leave the body where moto looks for it."""
    if not str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        return parse_qs(str(environ.get("QUERY_STRING", "")))
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    environ[FORM_BODY] = body
    return parse_qs(body.decode())


def _json_action(environ: Environ) -> str:
    return str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]


def _numbered(fields: dict[str, list[str]], name: str) -> list[str]:
    return [values[0] for key, values in fields.items() if key.startswith(f"{name}.")]
