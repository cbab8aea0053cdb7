"""The kernel's table of mounts, and the names made from a path."""

from __future__ import annotations

import pytest
from ansible.module_utils.lab.s3mount import names
from ansible.module_utils.lab.s3mount.fstab import escape
from ansible.module_utils.lab.s3mount.mountinfo import Mount, mounts_at, parse
from hypothesis import given
from hypothesis import strategies as st

TABLE = r"""
25 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw,discard
90 25 0:44 / /s3 rw,nosuid,nodev,relatime shared:50 - fuse.s3fs my-bucket rw,user_id=0,allow_other
91 90 0:45 / /s3 ro,relatime - fuse.s3fs s3fs rw
92 25 0:46 / /my\040mount rw - fuse.s3fs a\134b:/p rw
93 25 0:47 / /none rw shared:3 master:1 - tmpfs  ro
"""


def test_reads_the_table_lowest_first() -> None:
    assert mounts_at("/s3", TABLE) == [
        Mount("0:44", "/s3", "fuse.s3fs", "my-bucket", read_only=False),
        Mount("0:45", "/s3", "fuse.s3fs", "s3fs", read_only=True),
    ]


def test_reads_escaped_names_and_empty_sources() -> None:
    assert mounts_at("/my mount", TABLE)[0].source == "a\\b:/p"
    assert mounts_at("/none", TABLE)[0] == Mount("0:47", "/none", "tmpfs", "", read_only=True)
    assert mounts_at("/s", TABLE) == []


def test_reads_this_machine() -> None:
    assert parse(open("/proc/self/mountinfo").read())  # noqa: SIM115, PTH123 - one line


# What the kernel escapes is what fstab escapes: blanks, tabs, line feeds, backslashes and #.
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
MOUNTS = st.builds(
    Mount,
    device=st.integers(0, 300).map(lambda minor: f"0:{minor}"),
    path=ANY.map(lambda text: f"/{text}"),
    fstype=st.sampled_from(["fuse.s3fs", "fuse.rclone", "ext4", "tmpfs"]),
    source=st.one_of(st.just(""), ANY),
    read_only=st.booleans(),
)
# shared:1 master:2 propagate_from:3 unbindable: any number of them, none too
TAGS = st.lists(st.sampled_from(["shared:1", "master:2", "propagate_from:3", "unbindable"]))


def kernel_line(mount: Mount, tags: list[str]) -> str:
    options = "ro,nosuid" if mount.read_only else "rw,errors=remount-ro"
    before = ["25", "1", mount.device, escape("/root dir"), escape(mount.path), options, *tags]
    return " ".join([*before, "-", mount.fstype, escape(mount.source), "rw,user_id=0"])


@given(st.lists(st.tuples(MOUNTS, TAGS), min_size=1))
def test_a_table_comes_back_from_its_lines(table: list[tuple[Mount, list[str]]]) -> None:
    mounts = [mount for mount, _ in table]
    text = "".join(f"{kernel_line(mount, tags)}\n" for mount, tags in table)
    assert parse(text) == mounts
    for mount in mounts:
        assert mounts_at(mount.path, text) == [one for one in mounts if one.path == mount.path]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/s3", "s3"),
        ("/", "-"),
        ("//data//s3/", "data-s3"),
        ("/my-data", r"my\x2ddata"),
        ("/.hidden", r"\x2ehidden"),
        ("/a.b", "a.b"),
        ("/my mount", r"my\x20mount"),
        ("/café", r"caf\xc3\xa9"),
    ],
)
def test_escapes_a_path_as_systemd_does(path: str, name: str) -> None:
    assert names.escape_path(path) == name
