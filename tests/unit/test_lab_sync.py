"""push.yml and pull.yml: what rsync is asked, what its words mean, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from plugins.action import lab_sync
from plugins.action.lab_sync import Wish


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    config, src = tmp_path / "ssh_config", tmp_path / "my project"
    config.write_text("")
    src.mkdir()
    return {
        "direction": "push",
        "src": str(src),
        "dest": "/data/work/my project",
        "lab": "lab",
        "ssh_config": str(config),
        "delete": "false",
        "exclude": [],
    }


def test_a_push_sends_the_contents_over_the_lab_s_config(given: dict[str, Any]) -> None:
    command = lab_sync.rsync_command(lab_sync.read_wish(given), check_mode=False)
    assert command[-2:] == [f"{given['src']}/", "lab:/data/work/my project/"]
    assert (
        f"--rsh=ssh -F {given['ssh_config']} -oBatchMode=yes -oClearAllForwardings=yes" in command
    )
    assert "--delete" not in command
    assert "--dry-run" not in command


def test_a_pull_is_the_other_way_round(given: dict[str, Any], tmp_path: Path) -> None:
    given |= {"direction": "pull", "src": "/data/work/x/", "dest": str(tmp_path / "x")}
    given |= {"delete": "true", "exclude": ["*.pt"]}
    command = lab_sync.rsync_command(lab_sync.read_wish(given), check_mode=True)
    assert command[-2:] == ["lab:/data/work/x/", f"{tmp_path}/x/"]
    assert {"--delete", "--dry-run", "--exclude=*.pt"} <= set(command)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"direction": "up"}, "direction is 'up': it must be push or pull"),
        ({"src": ""}, "src is empty: name a folder with -e src=…"),
        ({"dest": ""}, "dest is empty: name a folder with -e dest=…"),
        ({"src": "/no such"}, "src is /no such, which is no folder here: name one with -e src=…"),
        ({"ssh_config": "/none"}, "/none is missing: lab lab was not built from here; build it"),
        ({"speed": 3}, "unexpected keyword argument 'speed'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    given: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(AnsibleActionFail) as caught:
        lab_sync.read_wish(given | change)
    assert said in str(caught.value)


def test_progress_is_shown_and_items_are_returned() -> None:
    output = (
        "cd+++++++++ ./\n<f+++++++++ a b\n"
        "\r        32,768   1%    0.00kB/s    0:00:00  "
        "\r      3.00M 100%   98.21MB/s    0:00:00 (xfr#2, to-chk=0/4)\n"
        "*deleting   old  name\n.d..t...... sub/\nsent 3 bytes\n"
    )
    shown: list[str] = []
    for size in (1, 7, len(output)):
        shown.clear()
        pieces = [output[at : at + size] for at in range(0, len(output), size)]
        items = lab_sync.read_output(iter(pieces), shown.append)
        assert items == [
            "cd+++++++++ ./",
            "<f+++++++++ a b",
            "*deleting old  name",
            ".d..t...... sub/",
        ]
        assert shown[-1] == "3.00M 100% 98.21MB/s 0:00:00 (xfr#2, to-chk=0/4)"
        assert len(shown) == 2


WISH = Wish("push", "/a", "/b", "lab", "/c")


def test_a_host_that_is_off_is_told_from_a_fault_of_rsync() -> None:
    off = lab_sync.explain(
        WISH, 255, "ssh: connect to host 127.9.9.9 port 22: timed out\nrsync: gone\n"
    )
    assert off.startswith(
        "lab lab cannot be reached: ssh: connect to host 127.9.9.9 port 22: timed out;"
    )
    assert "playbooks/start.yml" in off
    full = lab_sync.explain(WISH, 11, "\nrsync: No space left on device (28)\nrsync error: x\n")
    assert full.startswith("rsync: No space left on device (28); what was copied so far stays")
    assert lab_sync.explain(WISH, 9, "").startswith("rsync ended with status 9;")


class Shown:
    """Stands for Ansible's display."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def display(self, line: str, **_how: object) -> None:
        self.lines.append(line)


def test_a_log_gets_a_line_now_and_then_and_a_terminal_one_line() -> None:
    shown = Shown()
    log = lab_sync.View(shown, terminal=False, every=0)
    log.show("10% 1MB/s")
    log.end()
    assert shown.lines == ["lab_sync: 10% 1MB/s"]
    quiet = lab_sync.View(shown, terminal=False)
    quiet.show("20%")
    assert len(shown.lines) == 1
    shown.lines.clear()
    terminal = lab_sync.View(shown, terminal=True)
    terminal.show("a long line")
    terminal.show("short")
    terminal.end()
    assert shown.lines == ["\ra long line", "\rshort      ", "\r     \r"]


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed here")
def test_rsync_itself_is_understood(tmp_path: Path) -> None:
    """The same options between two folders of this machine."""
    source, dest = tmp_path / "a", tmp_path / "deep/b"
    source.mkdir()
    (source / "one two").write_bytes(b"x" * 100_000)
    wish = Wish("push", str(source), str(dest), "lab", "/c")
    command = lab_sync.rsync_command(wish, check_mode=False)
    command = [
        *(word for word in command[:-2] if not word.startswith("--rsh")),
        f"{source}/",
        f"{dest}/",
    ]
    view = lab_sync.View(Shown(), terminal=True)
    status, items, said = lab_sync.run_rsync(command, view)
    assert (status, said) == (0, "")
    assert ">f+++++++++ one two" in items
    assert (dest / "one two").read_bytes() == b"x" * 100_000
    assert lab_sync.run_rsync(command, view) == (0, [], "")
    missing = [*command[:-2], f"{tmp_path}/none/", f"{dest}/"]
    status, items, said = lab_sync.run_rsync(missing, view)
    assert status == 23
    assert "none" in lab_sync.explain(wish, status, said)


def test_an_old_rsync_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "rsync"
    program.write_text("#!/bin/sh\necho 'rsync  version 2.6.9  protocol version 29'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(AnsibleActionFail, match=r"version 2\.6\.9 .*must be 3\.2\.3 or later"):
        lab_sync.check_rsync()
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AnsibleActionFail, match="rsync is missing on this machine: install it"):
        lab_sync.check_rsync()
