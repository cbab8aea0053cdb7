"""Copy, mount or unzip: the table, and what always holds."""

from __future__ import annotations

import pytest
from ansible.module_utils.lab.dataset.choice import (
    SPARE,
    USES,
    Disk,
    Survey,
    decide,
    size_text,
)
from ansible.module_utils.lab.errors import LabError
from hypothesis import given
from hypothesis import strategies as st

GB = 1_000_000_000
SMALL = Survey(1_000_000, 100 * GB)  # images of 100 kB
LARGE = Survey(100, 100 * GB)  # shards of 1 GB
ZIPS = Survey(3, 100 * GB, archives=3)
FAST, DATA = "/scratch/datasets/x", "/data/datasets/x"


def fast(free: int, held: int = 0) -> Disk:
    return Disk("instance store", FAST, free * GB + SPARE, held * GB, fast=True)


def data(free: int, held: int = 0) -> Disk:
    return Disk("data volume", DATA, free * GB + SPARE, held * GB)


@pytest.mark.parametrize(
    ("use", "survey", "disks", "expected", "why"),
    [
        ("mount", None, [data(500)], ("mount", ""), "use: mount was asked for"),
        ("unzip", None, [data(500)], ("unzip", ""), "use: unzip was asked for"),
        ("copy", SMALL, [fast(200), data(500)], ("copy", FAST), "the instance store has room"),
        ("copy", SMALL, [fast(50), data(500)], ("copy", DATA), "the data volume has room"),
        ("copy", SMALL, [fast(200), data(0, held=100)], ("copy", DATA), "the data volume has room"),
        ("copy", ZIPS, [data(500)], ("copy", DATA), "use: copy was asked for"),
        ("auto", ZIPS, [fast(500)], ("unzip", ""), "all 3 files are zip archives"),
        ("auto", SMALL, [fast(100), data(500)], ("copy", FAST),
         "1,000,000 files, 100 GB, fit into the 100 GB that are free on the instance store"),
        ("auto", SMALL, [fast(99), data(125)], ("copy", DATA), "free on the data volume"),
        ("auto", SMALL, [fast(99), data(124)], ("mount", ""),
         "too much for the 99 GB that are free on the instance store and the 124 GB that are free"),
        ("auto", LARGE, [data(199)], ("mount", ""), "100 GB, are too much for the 199 GB"),
        ("auto", LARGE, [data(200)], ("copy", DATA), "fit into the 200 GB"),
        ("auto", SMALL, [fast(200), data(1, held=100)], ("copy", DATA),
         "a copy of it lies on the data volume already"),
        ("auto", SMALL, [fast(1, held=100), data(500)], ("copy", FAST), "instance store already"),
        ("auto", SMALL, [data(0)], ("mount", ""), "too much for the 0 B that are free on the data"),
    ],
)  # fmt: skip
def test_decides(
    use: str, survey: Survey | None, disks: list[Disk], expected: tuple[str, str], why: str
) -> None:
    decision = decide(use, survey, disks)
    assert (decision.use, decision.folder) == expected
    assert why in decision.reason


def test_refuses_a_copy_that_fits_nowhere() -> None:
    says = "The copy has 100 files, 100 GB, and does not fit: the 99 GB that are free on the inst"
    with pytest.raises(LabError, match=says):
        decide("copy", LARGE, [fast(99), data(5)])


sizes = st.integers(min_value=0, max_value=10**15)


@given(
    use=st.sampled_from(USES),
    files=st.integers(min_value=1, max_value=10**7),
    size=sizes,
    rooms=st.lists(st.tuples(sizes, st.booleans()), min_size=1, max_size=2),
)
def test_a_copy_always_fits_and_is_chosen_again_when_it_is_there(
    use: str, files: int, size: int, rooms: list[tuple[int, bool]]
) -> None:
    disks = [
        Disk(f"disk {at}", f"/{at}", free, fast=is_fast) for at, (free, is_fast) in enumerate(rooms)
    ]
    survey = Survey(files, size)
    try:
        first = decide(use, survey, disks)
    except LabError:
        assert use == "copy"
        assert all(size > disk.room for disk in disks)
        return
    assert first.reason
    if first.use != "copy":
        return
    filled = [
        Disk(one.name, one.folder, one.free - size, size, one.fast)
        if one.folder == first.folder
        else one
        for one in disks
    ]
    assert size <= next(one for one in filled if one.folder == first.folder).room
    again = decide(use, survey, filled)
    assert (again.use, again.folder) == (first.use, first.folder)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (147_897_477_120, "148 GB"), (10**14, "100 TB")],
)
def test_writes_a_size(size: int, text: str) -> None:
    assert size_text(size) == text
