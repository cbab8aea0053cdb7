"""State asked for x state found -> steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount.fstab import Entry
from ansible.module_utils.lab.s3mount.plan import Action, Folder, Found, Wanted, make_plan
from ansible.module_utils.lab.s3mount.probe import Health, State

ENTRY = Entry("b", "/s3", "fuse.s3fs", ("noauto",))
OTHER = "b /s3 fuse.s3fs noauto,uid=5 0 0\n"
SAME = f"{ENTRY.line()}\n"
UNIT = Path("/etc/systemd/system/lab-s3@s3.service")

BARE = Found("", Health(State.ABSENT), Folder.MISSING, stale_files=(UNIT,))
CONFIGURED = Found(SAME, Health(State.ABSENT), Folder.LOCKED, own_files=(UNIT,), enabled=True)
GOOD = Found(
    SAME,
    Health(State.OK, source="b"),
    Folder.COVERED,
    own_files=(UNIT,),
    running=True,
    enabled=True,
    matches=True,
)


def with_state(state: State, *, running: bool = True) -> Found:
    return Found(
        SAME,
        Health(state, source="b"),
        Folder.COVERED,
        own_files=(UNIT,),
        running=running,
        enabled=True,
        matches=True,
    )


CHANGED = Found(OTHER, GOOD.health, Folder.COVERED, (UNIT,), (UNIT,), running=True, enabled=True)
BY_HAND = Found("", GOOD.health, Folder.COVERED, (UNIT,), running=False)
OPEN = Found(SAME, Health(State.ABSENT), Folder.OPEN, own_files=(UNIT,), enabled=True)
# Killed in the middle: the entry is written, the units are not.
HALF = Found(SAME, Health(State.ABSENT), Folder.OPEN, stale_files=(UNIT,))

STOP, START, LOCK = Action.STOP, Action.START, Action.LOCK
REMOVE = (Action.REMOVE_FSTAB, Action.REMOVE_FILES, Action.REMOVE_FOLDER)
CONFIGURE = (Action.WRITE_FSTAB, Action.WRITE_FILES, Action.ENABLE)
CASES: list[tuple[str, str, Found, tuple[Action, ...]]] = [
    ("mounted", "bare", BARE, (*CONFIGURE, START)),
    ("mounted", "configured", CONFIGURED, (START,)),
    ("mounted", "good", GOOD, ()),
    ("mounted", "changed", CHANGED, (STOP, Action.WRITE_FSTAB, Action.WRITE_FILES, START)),
    ("mounted", "dead", with_state(State.DEAD), (STOP, START)),
    ("mounted", "hung", with_state(State.HUNG), (STOP, START)),
    ("mounted", "stacked", with_state(State.STACKED), (STOP, START)),
    ("mounted", "degraded", with_state(State.DEGRADED), ()),
    ("mounted", "unkept", with_state(State.OK, running=False), (STOP, START)),
    ("mounted", "by hand", BY_HAND, (STOP, *CONFIGURE, START)),
    ("mounted", "half", HALF, (Action.WRITE_FILES, Action.ENABLE, START)),
    ("remounted", "bare", BARE, (*CONFIGURE, START)),
    ("remounted", "good", GOOD, (STOP, START)),
    ("present", "bare", BARE, CONFIGURE),
    ("present", "configured", CONFIGURED, ()),
    ("present", "good", GOOD, ()),
    ("present", "changed", CHANGED, (Action.WRITE_FSTAB, Action.WRITE_FILES)),
    ("present", "dead", with_state(State.DEAD), ()),
    ("present", "open", OPEN, (LOCK,)),
    ("unmounted", "bare", BARE, ()),
    ("unmounted", "configured", CONFIGURED, ()),
    ("unmounted", "good", GOOD, (STOP,)),
    ("unmounted", "dead", with_state(State.DEAD), (STOP,)),
    ("unmounted", "by hand", BY_HAND, (STOP,)),
    ("unmounted", "open", OPEN, (LOCK,)),
    ("absent", "bare", BARE, ()),
    ("absent", "configured", CONFIGURED, REMOVE),
    ("absent", "good", GOOD, (STOP, *REMOVE)),
    ("absent", "hung", with_state(State.HUNG), (STOP, *REMOVE)),
    ("absent", "by hand", BY_HAND, (STOP, Action.REMOVE_FOLDER)),
]  # fmt: skip


def want(state: str) -> Wanted:
    return Wanted(state, "/s3", None if state in ("unmounted", "absent") else ENTRY)


@pytest.mark.parametrize(("state", "name", "found", "actions"), CASES)
def test_plans(state: str, name: str, found: Found, actions: tuple[Action, ...]) -> None:
    plan = make_plan(want(state), found)
    assert plan.actions == actions, name
    assert plan.changes == bool(actions)
    assert plan.healed == (START in actions and name in ("dead", "hung", "stacked"))


@pytest.mark.parametrize(
    ("state", "mounted"), [("mounted", True), ("absent", False), ("unmounted", False)]
)
def test_says_what_will_be(state: str, mounted: bool) -> None:
    plan = make_plan(want(state), GOOD)
    assert plan.mounted_after is mounted
    assert (plan.fstab_after == "") == (state == "absent")


@pytest.mark.parametrize("state", ["present", "mounted", "remounted", "unmounted", "absent"])
def test_never_touches_what_is_not_a_bucket(state: str) -> None:
    ext4 = Found("", Health(State.FOREIGN, "ext4", "/dev/sdf"), Folder.COVERED)
    with pytest.raises(LabError, match="/s3 is a ext4 mount of /dev/sdf, no bucket"):
        make_plan(want(state), ext4)
    line = Found("/dev/sdf /s3 ext4 rw 0 2\n", Health(State.ABSENT), Folder.LOCKED)
    with pytest.raises(LabError, match=r"/etc/fstab mounts /dev/sdf \(ext4\) at /s3"):
        make_plan(want(state), line)


@pytest.mark.parametrize("state", ["mounted", "remounted"])
def test_never_hides_files_under_a_mount(state: str) -> None:
    with pytest.raises(LabError, match="/s3 holds files that are not in the bucket"):
        make_plan(want(state), Found("", Health(State.ABSENT), Folder.FULL))
    with pytest.raises(LabError, match="/s3 is no folder"):
        make_plan(want(state), Found("", Health(State.ABSENT), Folder.NO_FOLDER))


def test_leaves_a_folder_with_files_where_it_is() -> None:
    full = Found(SAME, Health(State.ABSENT), Folder.FULL)
    assert make_plan(want("absent"), full).actions == (Action.REMOVE_FSTAB,)
