#!/usr/bin/python3
"""A proxy on 127.0.0.1 that counts requests: PORT UPSTREAM_PORT FILE.

FILE holds the counts so far, as JSON: {"HEAD": 3, "GET": 1, "LIST": 2}; removing it starts anew.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

UPSTREAM, RECORD = int(sys.argv[2]), Path(sys.argv[3])
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
counting = threading.Lock()


def count(method: str, path: str) -> None:
    """Add one request to the record."""
    lists = (
        method == "GET"
        and {"prefix", "list-type", "max-keys"}
        & parse_qs(urlsplit(path).query, keep_blank_values=True).keys()
    )
    with counting:
        counts = Counter(json.loads(RECORD.read_text()) if RECORD.exists() else {})
        counts["LIST" if lists else method] += 1
        RECORD.write_text(json.dumps(counts))


class Proxy(BaseHTTPRequestHandler):
    """Passes every request on."""

    protocol_version = "HTTP/1.1"

    def pass_on(self) -> None:
        """Count a request, pass it on and give its answer."""
        count(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", UPSTREAM, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        # What HEAD says of the size is the object's; its body is empty.
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", size or "0")
        self.end_headers()
        self.wfile.write(data)
        upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        """Say nothing."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Proxy).serve_forever()
