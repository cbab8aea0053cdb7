"""The least of S3 that clients need to fetch an object: FOLDER LATENCY_MS serves FOLDER/BUCKET/KEY.

Ranges, If-Match, HEAD and a bucket's list, without looking at signatures; the kernel sends the
bytes, so that the server takes little of the CPU that client and server share here.
"""

from __future__ import annotations

import os
import re
import sys
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_OK, _PARTIAL = 200, 206
_NOT_FOUND, _CHANGED, _BAD_RANGE = 404, 412, 416


class Server(ThreadingHTTPServer):
    """Serves one folder; `latency` in seconds before each answer."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, latency: float) -> None:
        self.folder = folder
        self.latency = latency
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection, kept for many requests."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_HEAD(self) -> None:
        """Describe an object, or a bucket."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Send an object or a range of it, or list a bucket."""
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, body: bool) -> None:
        time.sleep(self.server.latency)
        address = urlsplit(self.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        if not key:
            self._list(bucket, parse_qs(address.query).get("prefix", [""])[0], body)
            return
        try:
            fd = os.open(self.server.folder / bucket / key, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._refuse(_NOT_FOUND, "NoSuchKey", body)
            return
        try:
            self._send_object(fd, body)
        finally:
            os.close(fd)

    def _send_object(self, fd: int, body: bool) -> None:
        status = os.fstat(fd)
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        if self.headers.get("If-Match", etag).strip('"') != etag.strip('"'):
            self._refuse(_CHANGED, "PreconditionFailed", body)
            return
        first, past = find_range(self.headers.get("Range", ""), status.st_size)
        if first >= past:
            self._refuse(_BAD_RANGE, "InvalidRange", body)
            return
        whole = "Range" not in self.headers
        self.send_response(_OK if whole else _PARTIAL)
        if not whole:
            self.send_header("Content-Range", f"bytes {first}-{past - 1}/{status.st_size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
        self._end_head("application/zip", past - first)
        if body:
            self._send_file(fd, first, past)

    def _send_file(self, fd: int, first: int, past: int) -> None:
        self.wfile.flush()
        while first < past:
            first += os.sendfile(self.connection.fileno(), fd, first, past - first)

    def _list(self, bucket: str, prefix: str, body: bool) -> None:
        folder = self.server.folder / bucket
        if not folder.is_dir():
            self._refuse(_NOT_FOUND, "NoSuchBucket", body)
            return
        rows = "".join(
            f"<Contents><Key>{escape(path.name)}</Key><Size>{path.stat().st_size}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            for path in sorted(folder.iterdir())
            if path.name.startswith(prefix)
        )
        self._send_xml(_OK, f"<ListBucketResult>{rows}</ListBucketResult>", body)

    def _refuse(self, status: int, code: str, body: bool) -> None:
        self._send_xml(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", body)

    def _send_xml(self, status: int, text: str, body: bool) -> None:
        data = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
        self.send_response(status)
        self._end_head("application/xml", len(data))
        if body:
            self.wfile.write(data)

    def _end_head(self, kind: str, length: int) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("x-amz-bucket-region", "us-east-1")
        self.end_headers()


def find_range(header: str, size: int) -> tuple[int, int]:
    """First byte and the one past the last that a Range header asks for; (0, 0) if none is left."""
    match = _RANGE.fullmatch(header)
    if not match or not any(match.groups()):
        return 0, size
    if not match[1]:
        return max(0, size - int(match[2])), size
    first = int(match[1])
    past = min(size, int(match[2]) + 1) if match[2] else size
    return (first, past) if first < past else (0, 0)


def main() -> None:
    """Serve until killed; the port is the first line of the output."""
    server = Server(Path(sys.argv[1]), float(sys.argv[2]) / 1000)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
