"""The instance metadata service (versions 1 and 2) of one machine."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sandbox.engine.metadata_tree import answer
from sandbox.model import Metadata, MetadataSource

ADDRESS = "169.254.169.254"
PORT = 80
TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
MAX_TTL_S = 21600
MAX_BODY = 65536
IDLE_S = 60
ERROR_PAGE = (
    '<?xml version="1.0" encoding="iso-8859-1"?>\n'
    '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{code} - {phrase}</title></head>'
    "<body><h1>{code} - {phrase}</h1></body></html>\n"
)

log = logging.getLogger(__name__)


class Tokens:
    """The session tokens of one machine."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def issue(self, ttl_s: int) -> str:
        """Give a new token that is good for `ttl_s` seconds."""
        token = secrets.token_urlsafe(40)
        now = time.monotonic()
        with self._lock:
            self._until = {one: until for one, until in self._until.items() if until > now}
            self._until[token] = now + ttl_s
        return token

    def remaining(self, token: str) -> float:
        """Give for how many more seconds a token is good; 0 or less when it is not."""
        with self._lock:
            return self._until.get(token, 0.0) - time.monotonic()


class MetadataServer(ThreadingHTTPServer):
    """Serves one machine's metadata on a socket that listens inside its network."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, instance_id: str, source: MetadataSource) -> None:
        super().__init__((ADDRESS, PORT), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.instance_id = instance_id
        self.source = source
        self.tokens = Tokens()
        self._thread = threading.Thread(
            target=self.serve_forever, name=f"metadata-{instance_id}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = IDLE_S

    def do_PUT(self) -> None:
        if not self._read_body() or self._metadata() is None:
            return None
        if self.path.rstrip("/") != TOKEN_PATH:
            return self._fail(HTTPStatus.NOT_FOUND)
        if "X-Forwarded-For" in self.headers:  # a token is not for those behind a proxy
            return self._fail(HTTPStatus.FORBIDDEN)
        ttl = self.headers.get(TTL_HEADER, "")
        if not ttl.isascii() or not ttl.isdigit() or not 1 <= int(ttl) <= MAX_TTL_S:
            return self._fail(HTTPStatus.BAD_REQUEST)
        token = self.server.tokens.issue(int(ttl))
        return self._reply(token.encode(), headers={TTL_HEADER: ttl})

    def do_GET(self) -> None:
        metadata = self._metadata()
        if metadata is None:
            return None
        headers: dict[str, str] = {}
        token = self.headers.get(TOKEN_HEADER)
        if token is not None:
            remaining = self.server.tokens.remaining(token)
            if remaining <= 0:
                return self._fail(HTTPStatus.UNAUTHORIZED)
            headers[TTL_HEADER] = str(int(remaining))
        elif metadata.options.tokens_required:
            return self._fail(HTTPStatus.UNAUTHORIZED)
        body = answer(metadata.tree, self.path.partition("?")[0])
        if body is None:
            return self._fail(HTTPStatus.NOT_FOUND)
        return self._reply(body, headers=headers)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _metadata(self) -> Metadata | None:
        """Ask the control plane; None when the request has been answered with an error."""
        try:
            metadata = self.server.source(self.server.instance_id)
        except Exception:  # whatever it is, the machine gets a clean answer
            log.exception("metadata of %s", self.server.instance_id)
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR)
            return None
        if not metadata.options.enabled:
            self._fail(HTTPStatus.FORBIDDEN)
            return None
        return metadata

    def _read_body(self) -> bool:
        """Read a request's body away, chunked ones too (s3fs sends an empty chunked one)."""
        try:
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                while size := int(self.rfile.readline(MAX_BODY).split(b";")[0].strip(), 16):
                    if size > MAX_BODY:
                        raise ValueError(size)
                    self.rfile.read(size + 2)
                while self.rfile.readline(MAX_BODY).strip():  # trailers
                    pass
            else:
                self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY))
        except ValueError:
            self.close_connection = True
            self._fail(HTTPStatus.BAD_REQUEST)
            return False
        return True

    def _fail(self, status: HTTPStatus) -> None:
        page = ERROR_PAGE.format(code=status.value, phrase=status.phrase)
        self._reply(page.encode(), status=status, kind="text/html")

    def _reply(
        self,
        body: bytes,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        kind: str = "text/plain",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug("metadata of %s: " + format, self.server.instance_id, *args)
