from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.engine.metadata_tree import VERSIONS, answer, children

TREE: dict[str, str | bytes] = {
    "meta-data/instance-id": "i-1",
    "meta-data/iam/info": "{}",
    "meta-data/iam/security-credentials/lab-role": '{"Code": "Success"}',
    "meta-data/public-keys": "0=lab",
    "meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAA lab",
    "meta-data/tags/instance/a key": "value",
    "meta-data/empty": "",
    "dynamic/instance-identity/document": "{}",
    "user-data": b"\x1f\x8b\x00raw",
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", "\n".join(VERSIONS)),
        ("/latest", "dynamic\nmeta-data\nuser-data"),
        ("/latest/", "dynamic\nmeta-data\nuser-data"),
        ("/latest/meta-data", "empty\niam/\ninstance-id\npublic-keys/\ntags/"),
        ("/latest/meta-data/", "empty\niam/\ninstance-id\npublic-keys/\ntags/"),
        ("/2021-03-23/meta-data/instance-id", "i-1"),
        ("/latest//meta-data/instance-id/", "i-1"),
        ("/latest/meta-data/iam/", "info\nsecurity-credentials/"),
        ("/latest/meta-data/iam/security-credentials/", "lab-role"),
        ("/latest/meta-data/iam/security-credentials/lab-role", '{"Code": "Success"}'),
        ("/latest/meta-data/public-keys/", "0=lab"),
        ("/latest/meta-data/public-keys/0/", "openssh-key"),
        ("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA lab"),
        ("/latest/meta-data/tags/instance/a%20key", "value"),
        ("/latest/meta-data/empty", ""),
    ],
)
def test_what_is_there(path: str, body: str) -> None:
    assert answer(TREE, path) == body.encode()


def test_user_data_is_given_byte_for_byte() -> None:
    assert answer(TREE, "/latest/user-data") == b"\x1f\x8b\x00raw"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/20210323/meta-data/instance-id",
        "/latest/meta-data/instance",
        "/latest/meta-data/instance-id/more",
        "/latest/meta-data/iam/security-credentials/other",
        "/latest/../meta-data",
    ],
)
def test_what_is_not_there(path: str) -> None:
    assert answer(TREE, path) is None


def test_no_user_data_no_role() -> None:
    tree = {"meta-data/instance-id": "i-1"}
    assert answer(tree, "/latest/user-data") is None
    assert answer(tree, "/latest/meta-data/iam/security-credentials/") is None
    assert answer(tree, "/latest/") == b"meta-data"


NAMES = st.text("abc-", min_size=1, max_size=3)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=8))
def test_walking_the_listings_finds_every_value(paths: list[list[str]]) -> None:
    tree = {"/".join(path): "value" for path in paths}

    def walk(directory: str) -> set[str]:
        found: set[str] = set()
        for name in children(tree, directory):
            path = f"{directory}/{name}".strip("/")
            if name.endswith("/"):
                found |= walk(path) | ({path} & tree.keys())
            else:
                found.add(path)
        return found

    assert walk("") == tree.keys()
