"""Gap: GetConsoleOutput gives the same made-up text for every instance."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.responses import EC2Response

from sandbox.patches import patch
from sandbox.settings import Settings

KEPT_BYTES = 64 * 1024  # as much as EC2 gives

Source = Callable[[str], str]
_source: list[Source] = []


def apply(_settings: Settings) -> None:
    """Patch GetConsoleOutput."""
    patch(EC2Response, "get_console_output", _get_console_output)


def read_from(source: Source) -> None:
    """Tell where an instance's console is to be read: the engine starts after the patches."""
    _source[:] = [source]


def _get_console_output(_original: Callable[..., Any], response: Any) -> ActionResult:
    instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
    printed = "" if instance.state == "terminated" else _source[0](instance.id)
    output = base64.b64encode(printed.encode()[-KEPT_BYTES:]).decode()
    return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})
