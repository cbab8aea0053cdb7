from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.engine import listening

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
REST = "00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0"


def row(local: str, state: str = "0A") -> str:
    return f"   0: {local} 00000000:0000 {state} {REST}\n"


@pytest.mark.parametrize(
    ("rows", "ports"),
    [
        ("", set()),
        (row("00000000:0016"), {22}),
        (row("050010AC:22B8"), {8888}),
        (row("0100007F:22B8"), set()),  # 127.0.0.1
        (row("0B00007F:0035"), set()),  # 127.0.0.11
        (row("00000000:0016", "01"), set()),  # established
        (row("00000000000000000000000000000000:0050"), {80}),
        (row("00000000000000000000000001000000:0050"), set()),  # ::1
        (row("0000000000000000FFFF00000100007F:0050"), set()),  # ::ffff:127.0.0.1
        (row("0000000000000000FFFF0000050010AC:0050"), {80}),
        (row("00000000:0016") + row("0100007F:0017") + row("00000000:FFFF"), {22, 65535}),
    ],
)
def test_parse(rows: str, ports: set[int]) -> None:
    assert listening.parse(HEAD + rows) == ports


@given(st.sets(st.integers(1, 65535), max_size=20))
def test_every_port_is_read(ports: set[int]) -> None:
    table = HEAD + "".join(row(f"00000000:{port:04X}") for port in ports)
    assert listening.parse(table) == ports


def test_the_real_table_of_this_process() -> None:
    with socket.create_server(("", 0)) as open_to_all:
        port = open_to_all.getsockname()[1]
        assert port in listening.listening_ports(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as local:
        assert local.getsockname()[1] not in listening.listening_ports(os.getpid())


def test_a_process_that_is_gone_listens_at_nothing() -> None:
    assert listening.listening_ports(2**22 + 1) == set()
