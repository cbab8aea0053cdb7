"""What moto 5.2.5 lacks or does otherwise than AWS, one small file per gap.

`tests/unit/sandbox/gaps.py` holds a probe for each, run with and without the patches: an upgrade
of moto thus shows which of them became needless.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from sandbox.settings import Settings

# In this order; `launch` is the outermost layer around RunInstances.
MODULES = (
    "addresses",
    "authorization",
    "bucket_policy",
    "console",
    "images",
    "instance_state",
    "network",
    "object_store",
    "placement_groups",
    "quotas",
    "root_volume",
    "s3_actions",
    "security_groups",
    "signatures",
    "spot",
    "ssm_names",
    "volumes",
    "launch_attributes",
    "launch",
)

_applied: list[Settings] = []


def patch(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Replace the function `owner.name`; the replacement gets the original as first argument."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def patched(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, patched)


def apply_all(settings: Settings) -> None:
    """Patch moto in this process, once. Raises RuntimeError if done for another slot already."""
    if _applied:
        if _applied[0] != settings:
            raise RuntimeError(f"moto is patched for slot {_applied[0].slot} in this process")
        return
    _applied.append(settings)
    for name in MODULES:  # only now: they import moto, which is slow
        importlib.import_module(f"{__name__}.{name}").apply(settings)
