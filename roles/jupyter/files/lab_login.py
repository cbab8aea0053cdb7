"""The login of the lab's Jupyter: by password, not as often as somebody likes, and told to no log.

Each try costs the server a third of a second of its own time, in which no notebook is served; so
tries are counted before the password is looked at.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jupyter_server.auth.identity import PasswordIdentityProvider, User
from tornado.web import HTTPError, RequestHandler
from traitlets import Integer

MINUTE = 60.0
TOO_MANY = 429
SOURCES_KEPT = 1000
# Tornado writes the whole address of a request that failed; jupyter-server hides tokens in its own
# lines alone.
TORNADO = ("tornado.access", "tornado.application", "tornado.general")
TOKEN = re.compile(r"(token=)[^&\s)'\"]+")


@dataclass
class Limiter:
    """So many tries at once from each address, and as many more in each minute."""

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, source: str) -> bool:
        """Whether this address may try now; a try that is refused is not counted."""
        now = self.clock()
        left = self._now(source, now)
        if left < 1:
            return False
        if len(self._left) >= SOURCES_KEPT:
            self._left = {s: kept for s, kept in self._left.items() if not self._full(s, now)}
        self._left[source] = (left - 1, now)
        return True

    def _now(self, source: str, now: float) -> float:
        left, at = self._left.get(source, (self.per_minute, now))
        return min(float(self.per_minute), left + (now - at) * self.per_minute / MINUTE)

    def _full(self, source: str, now: float) -> bool:
        return self._now(source, now) >= self.per_minute


class NoToken(logging.Filter):
    """Hides the token that an address names."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let each line through, without tokens."""
        said = record.getMessage()
        if TOKEN.search(said):
            record.msg, record.args = TOKEN.sub(r"\1[secret]", said), ()
        return True


class LabLogin(PasswordIdentityProvider):  # type: ignore[misc]  # jupyter-server is on the host only
    """The password login of jupyter-server, with a limit."""

    tries_per_minute = Integer(10, config=True, help="Logins a minute from one address.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limiter = Limiter(self.tries_per_minute)
        for name in TORNADO:
            logging.getLogger(name).addFilter(NoToken())

    def process_login_form(self, handler: RequestHandler) -> User | None:
        """Look at the password, unless this address has tried too often."""
        source = str(handler.request.remote_ip)
        if not self._limiter.take(source):
            self.log.warning("Too many logins from %s: refused without a look", source)
            raise HTTPError(TOO_MANY, "too many logins from %s", source, reason="Too many logins")
        return super().process_login_form(handler)
