"""A machine to start from in the unit tests of the engine."""

from __future__ import annotations

import dataclasses
from typing import Any

from sandbox.model import IngressRule, Machine


def machine(**changes: Any) -> Machine:
    return dataclasses.replace(
        Machine(
            instance_id="i-0123456789abcdef0",
            running=True,
            image="gpulab/debian:13",
            login_user="admin",
            hostname="ip-172-31-0-5.ec2.internal",
            private_ip="172.31.0.5",
            public_ip="127.77.0.5",
            root_gib=8,
        ),
        **changes,
    )


def tcp(first: int, last: int, *sources: str) -> IngressRule:
    return IngressRule("tcp", first, last, sources)
