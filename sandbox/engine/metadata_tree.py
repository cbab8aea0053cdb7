"""Finds answers in the metadata tree of an instance, as EC2's metadata service does."""

from __future__ import annotations

import re
from urllib.parse import unquote

from sandbox.model import MetadataTree

VERSIONS = ("1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "2024-04-11", "latest")
_DATED = re.compile(r"\d{4}-\d\d-\d\d")


def answer(tree: MetadataTree, path: str) -> bytes | None:
    """Give the body for a request path (with its version), None for "not found".

    A value is given as it is, a directory as the names in it, a line each; a name that has
    names below it ends with "/". A key that is a directory as well is its listing, as EC2's
    `meta-data/public-keys` is: "0=name".
    """
    version, _, rest = unquote(path).strip("/").partition("/")
    if not version:
        return "\n".join(VERSIONS).encode()
    if version not in VERSIONS and not _DATED.fullmatch(version):
        return None
    rest = rest.strip("/")
    value = tree.get(rest)
    if value is None:
        names = children(tree, rest)
        if not rest:  # as EC2 does, the top alone shows its directories without a "/"
            names = [name.rstrip("/") for name in names]
        return "\n".join(names).encode() or None
    return value if isinstance(value, bytes) else value.encode()


def children(tree: MetadataTree, directory: str) -> list[str]:
    """Give the names in a directory of the tree, sorted; those of directories end with "/"."""
    prefix = f"{directory}/" if directory else ""
    names: set[str] = set()
    for key in tree:
        if key.startswith(prefix):
            name, slash, _ = key[len(prefix) :].partition("/")
            names.add(name + slash)
    return sorted(name for name in names if name and f"{name}/" not in names)
