"""A host is cleaned for an image: everything secret goes, is looked for, and comes back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.lab import bake
from ansible.module_utils.lab.errors import LabError

KEY = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{'b3BlbnNzaC1rZXktdjE' * 4}\n"
TOKEN = "0123456789abcdef0123456789abcdef"
# What a host may hold that no image must: path -> content.
SECRETS = {
    "etc/ssh/ssh_host_ed25519_key": KEY,
    "etc/ssh/ssh_host_ed25519_key.pub": f"ssh-ed25519 {'A' * 40} root@host\n",
    "etc/lab/jupyter/jupyter_server_config.json": f'{{"token": "{TOKEN}"}}\n',
    "etc/lab/jupyter/cookie_secret": "c" * 64,
    "etc/lab/jupyter_watcher_token": TOKEN,
    "etc/passwd-s3fs": "AKIAIOSFODNN7EXAMPLE:secret\n",
    "home/admin/.ssh/authorized_keys": f"ssh-ed25519 {'B' * 40} me@laptop\n",
    "home/admin/.bash_history": "export PASSWORD=secret\n",
    "home/admin/.ipython/profile_default/history.sqlite": "secret",
    "home/admin/.aws/credentials": "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\n",
    "home/admin/project/model.py": "print(1)\n",
    "root/.bash_history": "ls\n",
    "root/.ssh/id_ed25519": KEY,
    "var/lib/dkms/mok.key": KEY,
    "var/lib/dkms/mok.pub": "its certificate",
    "var/lib/lab/datasets": "{}",
    "var/lib/shim-signed/mok/MOK.priv": KEY,
    "var/log/auth.log": "who was there\n",
    "var/log/journal/abc/system.journal": "who was there\n",
    "var/spool/cron/crontabs/admin": "0 * * * * backup\n",
}
CACHES = {
    "tmp/upload": "x",
    "var/cache/apt/archives/a.deb": "x",
    "var/cache/lab/uv/a": "x",
    "var/lib/apt/lists/a": "x",
    "var/lib/cloud/instances/i-1/obj.pkl": f"ssh-ed25519 {'B' * 40}",
    "var/lib/cloud/instances/i-1/user-data.txt": "x",
}
KEPT = {
    "etc/lab/jupyter/jupyter_server_config.py": "c = 1\n",
    "etc/lab/base.json": "{}",
    "etc/shadow": "root:*:1:0:9:7:::\nadmin:!:1:0:9:7:::\n",
    "etc/skel/.bashrc": "# new\n",
    "var/lib/dkms/nvidia-current/550.163.01/source": "x",
    "opt/lab/venv/lib/python3.13/site-packages/tornado/test/test.key": KEY,
    "usr/local/lib/lab/x": "x",
    "var/cache/debconf/config.dat": "x",
    "var/lib/cloud/instances/i-1/sem/config_ssh": "x",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with all that."""
    root = tmp_path / "root"
    for name, text in {**SECRETS, **CACHES, **KEPT}.items():
        write(root / name, text)
    for name in ("etc/lab/jupyter/jupyter_server_config.json", "etc/lab/jupyter/cookie_secret"):
        (root / name).chmod(0o640)
    (root / "etc/lab/jupyter_watcher_token").chmod(0o600)
    write(root / "etc/machine-id", TOKEN[::-1] + "\n")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    for unit in ("lab-jupyter.service", "ssh.service"):
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")
    (root / "data").mkdir()
    write(root / "data/.lab/ssh_host_keys/instance", "i-1\n")
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def contents(root: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: (root / name).read_text() for name in names if (root / name).is_file()}


def cleaned(root: Path) -> list[Path]:
    paths = bake.away(root)
    bake.put_aside(root, "i-1", paths)
    bake.clean(root, paths)
    return paths


def test_nothing_secret_is_left_and_the_rest_is(root: Path) -> None:
    paths = cleaned(root)
    assert contents(root, [*SECRETS, *CACHES]) == {}
    assert contents(root, list(KEPT)) == KEPT
    assert (root / "etc/machine-id").read_text() == ""
    assert (root / "home/admin/.bashrc").read_text() == "# new\n"
    assert (root / "var/log/journal/abc").is_dir(), "daemons want their folders"
    wants = root / "etc/systemd/system/multi-user.target.wants"
    assert [path.name for path in wants.iterdir()] == ["ssh.service"]
    assert bake.scan(root, paths, bake.known(root)) == []


def test_all_comes_back_to_this_host(root: Path) -> None:
    before = contents(root, list(SECRETS))
    modes = {name: (root / name).stat().st_mode for name in SECRETS}
    cleaned(root)
    restore(root)
    assert contents(root, list(SECRETS)) == before
    assert {name: (root / name).stat().st_mode for name in SECRETS} == modes
    wants = root / "etc/systemd/system/multi-user.target.wants"
    assert (wants / "lab-jupyter.service").is_symlink()
    assert not (root / bake.ASIDE).exists()
    restore(root)  # and again does nothing


def test_it_does_not_come_back_to_another(root: Path) -> None:
    cleaned(root)
    write(root / "data/.lab/ssh_host_keys/instance", "i-2\n")
    restore(root)
    assert contents(root, list(SECRETS)) == {}


def test_half_a_copy_is_none(root: Path) -> None:
    def dies(argv: Sequence[str]) -> str:
        bake.run(argv)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bake.put_aside(root, "i-1", bake.away(root), dies)
    (root / "home/admin/project/model.py").write_text("later\n")
    restore(root)
    assert (root / "home/admin/project/model.py").read_text() == "later\n"
    cleaned(root)
    restore(root)
    assert (root / "home/admin/project/model.py").read_text() == "later\n"


def restore(root: Path) -> None:
    environment = os.environ | {"LAB_ROOT": str(root)}
    subprocess.run(["sh", "-c", bake.PROGRAM], env=environment, check=True)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("etc/service/tls.key", KEY, "/etc/service/tls.key holds a private key"),
        ("srv/app/.env", "KEY=AKIAIOSFODNN7EXAMPLE\n", "/srv/app/.env holds a private key or an"),
        ("usr/local/copy", f"x {TOKEN} y", "/usr/local/copy holds a key or a secret of this host"),
        ("opt/a", f"ssh-ed25519 {'B' * 40}", "/opt/a holds a key or a secret of this host"),
        ("srv/app/.psql_history", "select 1\n", "/srv/app/.psql_history is a history"),
        ("home/admin/late", "x", "/home/admin is still there"),
        ("etc/ssh/ssh_host_ed25519_key", "x", "/etc/ssh/ssh_host_ed25519_key is still there"),
        ("etc/machine-id", "abc\n", "/etc/machine-id is not empty"),
        ("etc/shadow", "me:$y$j9T$x:1:::::\n", "/etc/shadow has a password of me"),
    ],
)
def test_what_is_left_is_found(root: Path, path: str, text: str, said: str) -> None:
    paths = cleaned(root)
    write(root / path, text)
    found = bake.scan(root, paths, bake.known(root))
    assert len(found) == 1 and found[0].startswith(said), found


def test_more_can_be_put_aside(root: Path) -> None:
    write(root / "etc/service/tls.key", KEY)
    paths = bake.away(root, ["/etc/service/*.key"])
    bake.put_aside(root, "i-1", paths)
    bake.clean(root, paths)
    assert bake.scan(root, paths, bake.known(root)) == []
    restore(root)
    assert (root / "etc/service/tls.key").read_text() == KEY


@pytest.mark.parametrize("path", ["etc/x", "/", "/etc/../home", ""])
def test_a_path_that_cannot_be_meant_is_refused(root: Path, path: str) -> None:
    with pytest.raises(LabError, match="must be an absolute path"):
        bake.away(root, [path])


def test_without_a_data_volume_nothing_is_touched(root: Path) -> None:
    with pytest.raises(LabError, match="no data volume at /data"):
        bake.check(root, bake.away(root))


def test_without_room_nothing_is_touched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "data").rename(root / "old")
    (root / "data").symlink_to("/dev/shm")  # another disk
    monkeypatch.setattr(bake, "_free", lambda _path: 0)
    with pytest.raises(LabError, match=r"MB\) are put aside on /data, which has 0 MB free"):
        bake.check(root, bake.away(root), lambda _argv: "2048 /home/admin\n")


def test_what_people_run_is_ended_but_not_ourselves(tmp_path: Path) -> None:
    processes = (  # pid, parent, name, terminal, user
        (1, 0, "systemd", 34816, 0),
        (50, 1, "sshd", 0, 0),
        (60, 50, "bash", 34817, 1000),
        (61, 60, "python3", 0, 0),
        (70, 1, "tmux", 0, 0),
        (71, 70, "bash", 34818, 0),
        (80, 1, "agetty", 1024, 0),
        (90, 1, "my job", 0, 1000),
    )
    for pid, parent, name, terminal, user in processes:
        folder = tmp_path / str(pid)
        write(folder / "stat", f"{pid} ({name}) S {parent} 1 1 {terminal} 0\n")
        write(folder / "comm", f"{name}\n")
        write(folder / "status", f"Name:\t{name}\nUid:\t{user}\t{user}\t{user}\t{user}\n")
    assert bake.sessions(tmp_path, 61) == [71, 90]


def test_what_runs_keeps_its_temporary_files(root: Path) -> None:
    for name in ("tmp/ansible_lab_bake_host_payload_x/payload.zip", "var/tmp/systemd-private-x/a"):
        write(root / name, "x")
    cleaned(root)
    assert (root / "tmp/ansible_lab_bake_host_payload_x/payload.zip").exists()
    assert (root / "var/tmp/systemd-private-x/a").exists()
    assert not (root / "tmp/upload").exists()
