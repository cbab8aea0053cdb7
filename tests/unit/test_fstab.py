"""The one reader and writer of /etc/fstab."""

from __future__ import annotations

import pytest
from ansible.module_utils.lab.s3mount.fstab import (
    Entry,
    escape,
    find,
    parse_line,
    unescape,
    with_entry,
    without_path,
)
from hypothesis import given
from hypothesis import strategies as st

ROOT = Entry("UUID=1", "/", "ext4", ("defaults",), 0, 1)
LINES = [
    ("UUID=1 / ext4 defaults 0 1", ROOT),
    ("UUID=1\t/\text4\tdefaults\t0\t1", ROOT),
    ("  UUID=1   /  ext4 defaults 0 1  ", ROOT),
    ("UUID=1 / ext4 defaults 0 1 # the root", ROOT),
    ("UUID=1 / ext4 defaults 1", Entry("UUID=1", "/", "ext4", ("defaults",), 1)),
    ("UUID=1 / ext4 defaults", Entry("UUID=1", "/", "ext4", ("defaults",))),
    ("UUID=1 / ext4 defaults # no numbers", Entry("UUID=1", "/", "ext4", ("defaults",))),
    (
        r"a\040b /my\040disk ext4 rw,nofail 0 2",
        Entry("a b", "/my disk", "ext4", ("rw", "nofail"), 0, 2),
    ),
    (r"back\134slash /t\011ab ext4 rw", Entry("back\\slash", "/t\tab", "ext4", ("rw",))),
    (r"caf\303\251 /caf\303\251 ext4 rw", Entry("café", "/café", "ext4", ("rw",))),
    (
        "s3fs#b /s3 fuse _netdev,url=https://a.b 0 0",
        Entry("s3fs#b", "/s3", "fuse", ("_netdev", "url=https://a.b")),
    ),
    ("# UUID=1 / ext4 defaults 0 1", None),
    ("#UUID=1 / ext4 defaults 0 1", None),
    ("", None),
    ("   \t ", None),
    ("UUID=1 / ext4", None),
    ("UUID=1 / ext4 defaults 0 1 2", None),
    ("UUID=1 / ext4 defaults zero 1", None),
]


@pytest.mark.parametrize(("line", "entry"), LINES)
def test_reads_a_line(line: str, entry: Entry | None) -> None:
    assert parse_line(line) == entry


TEXT = """\
# a comment
UUID=1 /    ext4   defaults 0 1

s3fs#old /s3 fuse _netdev
tmpfs /s3 tmpfs rw 0 0
/dev/b /s3data ext4 rw 0 2
"""
NEW = Entry("new", "/s3", "fuse.s3fs", ("noauto", "_netdev"))


def test_finds_the_last_line_of_a_mount_point() -> None:
    assert find(TEXT, "/s3") == Entry("tmpfs", "/s3", "tmpfs", ("rw",))
    assert find(TEXT, "/s3/") == find(TEXT, "/s3")
    assert find(TEXT, "/other") is None


def test_replaces_in_place_and_keeps_the_rest_byte_for_byte() -> None:
    assert with_entry(TEXT, NEW) == (
        "# a comment\nUUID=1 /    ext4   defaults 0 1\n\n"
        "new /s3 fuse.s3fs noauto,_netdev 0 0\n/dev/b /s3data ext4 rw 0 2\n"
    )


@pytest.mark.parametrize("text", ["", "# only a comment", "/dev/a / ext4 rw 0 1\n"])
def test_appends_where_there_is_no_line(text: str) -> None:
    after = with_entry(text, NEW)
    assert after.endswith("new /s3 fuse.s3fs noauto,_netdev 0 0\n")
    assert find(after, "/s3") == NEW
    assert without_path(after, "/s3").rstrip("\n") == text.rstrip("\n")


def test_removes_lines_of_four_fields_too() -> None:
    assert find(without_path(TEXT, "/s3"), "/s3") is None
    assert "/s3data" in without_path(TEXT, "/s3")


def test_gives_options_by_name() -> None:
    entry = Entry("b", "/s3", "fuse.s3fs", ("ro", "uid=1", "url=http://a=b", "uid=2"))
    assert (entry.option("ro"), entry.option("uid"), entry.option("url")) == ("", "2", "http://a=b")
    assert entry.option("u") is None


ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1)
FIELD = ANY.filter(lambda text: not text[0].isspace())
ENTRIES = st.builds(
    Entry,
    FIELD,
    FIELD.map(lambda text: "/" + text),
    st.sampled_from(["ext4", "fuse.s3fs"]),
    st.lists(FIELD.filter(lambda text: "," not in text), min_size=1, max_size=4).map(tuple),
    st.integers(0, 1),
    st.integers(0, 2),
)


@given(ANY)
def test_escapes_come_back(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set(" \t\n#")


@given(ENTRIES)
def test_an_entry_comes_back_from_its_line(entry: Entry) -> None:
    assert parse_line(entry.line()) == entry


@given(
    st.lists(
        st.one_of(ENTRIES.map(Entry.line), FIELD.map(lambda text: "#" + text.replace("\n", "")))
    ),
    ENTRIES,
)
def test_writing_is_found_again_changes_nothing_else_and_is_idempotent(
    lines: list[str], entry: Entry
) -> None:
    text = "".join(f"{line}\n" for line in lines)
    after = with_entry(text, entry)
    assert find(after, entry.path) == entry
    assert with_entry(after, entry) == after
    assert without_path(after, entry.path) == without_path(text, entry.path)
