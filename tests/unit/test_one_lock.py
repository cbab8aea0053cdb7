"""The lab's lock is made for the same packages before role nvidia has looked and after it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ROOT / "inventory/group_vars/all"
CARD = {"vendor": "0x10de", "class": "0x030200", "device": "0x1eb8"}


def role(name: str, tasks: str) -> dict[str, Any]:
    return {"ansible.builtin.import_role": {"name": name, "tasks_from": tasks}}


def keep(path: Path) -> dict[str, Any]:
    wish = {"content": "{{ pytorch_packages }}", "dest": str(path), "mode": "0644"}
    return {"ansible.builtin.copy": wish}


def play(folder: Path) -> list[dict[str, Any]]:
    """As configure_host.yml begins, up to the list that the lock is made for."""
    exported = {
        "nvidia_gpu_count": "{{ __pytorch_gpu.count }}",
        "nvidia_stack": "{{ __pytorch_gpu.stack }}",
    }
    return [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_subset": ["!all", "!min", "distribution"],
            "vars_files": [str(GROUPS / f"{each}.yml") for each in ("lab", "jupyter", "pytorch")],
            "vars": {
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "ansible_user": "admin",
                "lab_state_dir": str(folder),
                "nvidia_root": str(folder / "host"),
            },
            "tasks": [
                role("jupyter", "preflight"),
                role("pytorch", "choose"),
                keep(folder / "early"),
                {"ansible.builtin.set_fact": exported},
                role("pytorch", "choose"),
                keep(folder / "late"),
            ],
        }
    ]


@pytest.mark.parametrize("gpu", [False, True])
def test_the_packages_do_not_wait_for_role_nvidia(tmp_path: Path, gpu: bool) -> None:
    (tmp_path / "host/etc").mkdir(parents=True)
    (tmp_path / "host/etc/os-release").write_text("ID=debian\nVERSION_ID=13\n")
    card = tmp_path / "host/sys/bus/pci/devices/0000:00:1e.0"
    card.mkdir(parents=True)
    for name, value in CARD.items() if gpu else ():
        (card / name).write_text(f"{value}\n")
    (tmp_path / "play.yml").write_text(json.dumps(play(tmp_path)))
    done = subprocess.run(
        ["ansible-playbook", "--inventory", "localhost,", str(tmp_path / "play.yml")],
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    early, late = (json.loads((tmp_path / name).read_text()) for name in ("early", "late"))
    assert early == late
    assert any(each.startswith("jupyterlab-nvdashboard") for each in early) == gpu
