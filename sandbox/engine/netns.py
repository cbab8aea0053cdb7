"""Sockets inside a container's network namespace.

A thread can be in another network than its process: a short-lived one enters the namespace,
binds the socket and ends, and the socket stays usable from here. So nothing of the sandbox
listens beyond loopback, and the caller is known by the socket that it came in on.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000
RTM_NEWADDR = 20
NLMSG_ERROR = 2
NLM_F_REQUEST_ACK_CREATE_REPLACE = 0x1 | 0x4 | 0x400 | 0x100
IFA_ADDRESS, IFA_LOCAL = 1, 2
LOOPBACK_INDEX = 1  # of the interface lo, in every namespace
HOST_PREFIX = 32
BACKLOG = 128

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def network_of(pid: int) -> int | None:
    """Give the identity of the network namespace of `pid`, None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def inside(pid: int, action: Callable[[], T]) -> T:
    """Run `action` in the network namespace of `pid`. Raises what it raises, and OSError."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
                if _libc.setns(namespace.fileno(), CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns: {os.strerror(number)}")
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name=f"netns-{pid}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def add_loopback_address(address: str) -> None:
    """Give the interface lo another address; nothing happens when it has it."""
    packed = socket.inet_aton(address)
    body = struct.pack("=BBBBI", socket.AF_INET, HOST_PREFIX, 0, 0, LOOPBACK_INDEX)
    for kind in (IFA_LOCAL, IFA_ADDRESS):
        body += struct.pack("=HH", 4 + len(packed), kind) + packed
    header = struct.pack(
        "=IHHII", 16 + len(body), RTM_NEWADDR, NLM_F_REQUEST_ACK_CREATE_REPLACE, 1, 0
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(header + body)
        answer = netlink.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR:
        number = -struct.unpack_from("=i", answer, 16)[0]
        if number:
            raise OSError(number, f"adding {address} to lo: {os.strerror(number)}")


def listener(address: str, port: int) -> socket.socket:
    """Make a listening TCP socket in the calling thread's network. Raises OSError."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
