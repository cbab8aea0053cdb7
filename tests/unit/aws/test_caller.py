"""The host is opened to the caller, and never to everyone instead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible.module_utils.lab.aws import caller
from ansible.module_utils.lab.errors import LabError


def answers(*texts: str | OSError) -> Callable[[str], str]:
    """Answer the sources in turn."""
    left = list(texts)

    def fetch(_url: str) -> str:
        answer = left.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    return fetch


def test_the_users_networks_come_first() -> None:
    assert caller.allowed(("203.0.113.0/24",), {"GPULAB_CALLER_CIDR": "10.0.0.0/8"}, answers()) == (
        "203.0.113.0/24",
    )


def test_the_environment_comes_next() -> None:
    environ = {"GPULAB_CALLER_CIDR": "127.0.0.1/32"}
    assert caller.allowed((), environ, answers()) == ("127.0.0.1/32",)


def test_a_bad_environment_is_refused() -> None:
    with pytest.raises(LabError, match=r'GPULAB_CALLER_CIDR is "me"'):
        caller.allowed((), {"GPULAB_CALLER_CIDR": "me"}, answers())


def test_an_environment_that_names_everyone_is_refused() -> None:
    with pytest.raises(LabError, match=r"GPULAB_CALLER_CIDR is 0\.0\.0\.0/0, which is no caller"):
        caller.allowed((), {"GPULAB_CALLER_CIDR": "0.0.0.0/0"}, answers())


@pytest.mark.parametrize("first", ["8.8.8.8", OSError("no route")])
def test_the_callers_own_address(first: str | OSError) -> None:
    assert caller.allowed((), {}, answers(first, "8.8.8.8")) == ("8.8.8.8/32",)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "<html>",
        "10.0.0.1",
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104 - nothing is bound here
        "2001:4860:4860::8888",
        OSError("timed out"),
    ],
)
def test_no_address_is_an_error_with_a_way_out(answer: str | OSError) -> None:
    with pytest.raises(LabError, match="-e lab_allowed_cidrs="):
        caller.allowed((), {}, answers(answer, answer))
