"""Serves the sandbox's application, with a fake engine, from a thread of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from sandbox.account import AdminKey, admin_key
from sandbox.server import Running, build
from sandbox.settings import REGION, Settings
from tests.unit.sandbox.fake_engine import FakeEngine


class Handler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@dataclass
class Served:
    """A running application and a way to talk to it."""

    url: str
    key: AdminKey
    running: Running | None = None
    engine: FakeEngine | None = None
    clients: dict[Any, Any] = field(default_factory=dict)  # slow to make

    def client(self, service: str, key: AdminKey | None = None, token: str | None = None) -> Any:
        used = key or self.key
        if (service, used, token) not in self.clients:
            self.clients[service, used, token] = self._new_client(service, used, token)
        return self.clients[service, used, token]

    def become(self, key_id: str, secret: str) -> None:
        """Let whatever else asks AWS in this process ask here, with this key."""
        os.environ["AWS_ENDPOINT_URL"] = self.url
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = key_id, secret

    def _new_client(self, service: str, used: AdminKey, token: str | None) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=used.access_key_id,
            aws_secret_access_key=used.secret_access_key,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )


@contextmanager
def _listening(application: Any) -> Iterator[str]:
    http = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()


@contextmanager
def sandbox(folder: Path) -> Iterator[Served]:
    """The sandbox, patched, its state in `folder`."""
    settings = Settings(slot=0, root=folder)
    # The example data is tested elsewhere.
    (folder / ".cache" / "fashion-mnist").mkdir(parents=True, exist_ok=True)
    running = build(settings, FakeEngine)
    with _listening(running.application) as url:
        yield Served(url, admin_key(settings), running, running.reconciler.engine)


@contextmanager
def plain_moto() -> Iterator[Served]:
    """moto as it comes."""
    with _listening(DomainDispatcherApplication(create_backend_app)) as url:
        yield Served(url, AdminKey("AKIAIOSFODNN7EXAMPLE", "secret"))
