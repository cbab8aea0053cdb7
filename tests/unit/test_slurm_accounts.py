"""What the accounting has to know: roles/slurm/files/lab_slurm/accounts.py."""

from __future__ import annotations

import json

import pytest

from roles.slurm.files.lab_slurm import accounts
from roles.slurm.files.lab_slurm.commands import SlurmError


class Accounting:
    """What sacctmgr shows, by its noun, and what it was told to do."""

    def __init__(self, **shown: str) -> None:
        self.shown = shown
        self.done: list[str] = []

    def __call__(self, *command: str) -> tuple[int, str]:
        if "show" in command:
            return 0, self.shown.get(command[command.index("show") + 1], "")
        self.done.append(" ".join(command[2:]))
        return 0, ""


def test_an_empty_accounting_is_told_all() -> None:
    assert accounts.plan_users(Accounting(), "lab", ["admin", "bob"]) == [
        ["add", "cluster", "lab"],
        ["add", "account", "lab", "cluster=lab", "description=the lab"],
        ["add", "user", "admin,bob", "account=lab", "cluster=lab"],
    ]


def test_only_what_is_missing_is_added() -> None:
    known = "root|\nroot|root\nlab|\nlab|admin\n"
    accounting = Accounting(cluster="lab\n", associations=known)
    assert accounts.plan_users(accounting, "lab", ["admin"]) == []
    assert accounts.plan_users(accounting, "lab", ["admin", "bob"]) == [
        ["add", "user", "bob", "account=lab", "cluster=lab"]
    ]
    assert len(accounts.plan_users(accounting, "other", ["admin"])) == 3


@pytest.mark.parametrize(
    ("shown", "wanted", "plan"),
    [
        ("\n", 0, []),
        ("\n", 2, "MaxTRESPerUser=gres/gpu=2"),
        ("gres/gpu=2\n", 2, []),
        ("cpu=8,gres/gpu=2\n", 3, "MaxTRESPerUser=gres/gpu=3"),
        ("gres/gpu=2\n", 0, "MaxTRESPerUser=gres/gpu=-1"),
    ],
)
def test_the_limit_is_set_where_it_differs(shown: str, wanted: int, plan: str | list[str]) -> None:
    planned = accounts.plan_limits(Accounting(qos=shown), wanted)
    assert planned == ([["modify", "qos", "normal", "set", plan]] if plan else [])


def test_it_waits_until_gpus_are_known_and_not_for_ever() -> None:
    accounting = Accounting(tres="cpu|\n")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            accounting.shown["tres"] = "cpu|\ngres|gpu\n"

    accounts.wait_for_gpus(accounting, sleep)
    assert len(slept) == 3
    with pytest.raises(SlurmError, match="gres/gpu is not known to the accounting after 30 s"):
        accounts.wait_for_gpus(Accounting(), lambda _: None)


def test_it_waits_for_slurmdbd_and_not_for_ever() -> None:
    answers = [1, 1, 0]
    accounts.wait_for_answer(lambda *_: (answers.pop(0), ""), lambda _: None)
    assert answers == []
    with pytest.raises(SlurmError, match="slurmdbd does not answer after 30 s"):
        accounts.wait_for_answer(lambda *_: (1, ""), lambda _: None)


def test_with_check_nobody_waits_for_what_is_not_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accounts, "run", lambda *_: (1, "no answer"))
    assert accounts.main(["--check", "users", "lab", "admin"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True


def test_with_check_it_tells_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accounting = Accounting(tres="gres|gpu\n")
    monkeypatch.setattr(accounts, "run", accounting)
    assert accounts.main(["--check", "users", "lab", "admin"]) == 0
    assert accounts.main(["--check", "limits", "2"]) == 0
    assert accounting.done == []
    assert accounts.main(["limits", "2"]) == 0
    assert accounting.done == ["modify qos normal set MaxTRESPerUser=gres/gpu=2"]
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["changed"] for each in told] == [True, True, True]
