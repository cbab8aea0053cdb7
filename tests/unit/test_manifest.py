"""What a host is made of: read from a simulated one, and compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ansible.module_utils.lab import manifest, pyenv
from ansible.module_utils.lab.errors import LabError

from tests.unit.gpu_kit import DEBIAN_13, KERNEL, OPEN, device, programs, write

DPKG = (
    "adduser:all\tinstalled\t3.152\n"
    "libcuda1:amd64\tinstalled\t580.95.05-1\n"
    "old:amd64\tconfig-files\t1.0\n"
)
LOCK = "# head\nnumpy==2.4.6 \\\n    --hash=sha256:bb \\\n    --hash=sha256:aa\ngone==1.0\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a T4, a driver, two toolkits and an environment."""
    device(tmp_path, "0000:00:1e.0", "0x10de", "0x030200", "0x1eb8")
    write(tmp_path, "etc/os-release", DEBIAN_13)
    write(tmp_path, "proc/sys/kernel/osrelease", KERNEL)
    write(tmp_path, "proc/driver/nvidia/version", OPEN)
    write(tmp_path, "sys/devices/virtual/dmi/id/product_name", "g4dn.xlarge")
    for toolkit in ("13.0", "9.2", "12.9"):
        write(tmp_path, f"usr/local/cuda-{toolkit}/bin/nvcc")
    noted = {"venv": "/opt/lab/venv", "environments": ["/opt/lab/environments/jax"]}
    write(tmp_path, "etc/lab/pytorch.json", json.dumps(noted))
    write(tmp_path, f"opt/lab/venv/{pyenv.MARK}", LOCK)
    for name in ("numpy-2.4.6", "by_hand-0.1"):
        write(tmp_path, f"opt/lab/venv/lib/python3.13/site-packages/{name}.dist-info/RECORD")
    return tmp_path


def collect(host: Path) -> manifest.Manifest:
    return manifest.collect(host, "ami-1", programs(dpkg_query=(0, DPKG)))


def test_a_host_is_listed(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert collect(host) | {"driver": {}} == {
        "format": 1,
        "image": "ami-1",
        "kernel": KERNEL,
        "distribution": "Debian GNU/Linux 13 (trixie)",
        "instance_type": "g4dn.xlarge",
        "gpu": ["1eb8"],
        "driver": {},
        "cuda": ["9.2", "12.9", "13.0"],
        "apt": {"adduser:all": "3.152", "libcuda1:amd64": "580.95.05-1"},
        "python": {
            "venv": {
                "numpy": {"version": "2.4.6", "hashes": ["sha256:aa", "sha256:bb"]},
                "by-hand": {"version": "0.1", "hashes": []},
            },
            "jax": {},
        },
    }
    assert collect(host)["driver"]["loaded"] == "580.95.05"


def test_a_bare_host_is_listed_too(tmp_path: Path) -> None:
    made = manifest.collect(tmp_path, "", programs())
    assert (made["apt"], made["python"], made["gpu"]) == ({}, {}, [])


def test_the_same_host_twice_is_equal(host: Path) -> None:
    assert manifest.differences(collect(host), collect(host)) == []
    assert json.dumps(collect(host)) == json.dumps(collect(host))


def test_what_differs_is_told_a_line_each(host: Path) -> None:
    old = collect(host)
    new = copy.deepcopy(old)
    new["image"] = "ami-2"
    new["apt"]["adduser:all"] = "3.153"
    del new["apt"]["libcuda1:amd64"]
    new["cuda"] = ["13.0"]
    new["python"]["venv"]["numpy"] = {"version": "2.4.7", "hashes": ["sha256:cc"]}
    new["python"]["venv"]["einops"] = {"version": "0.8", "hashes": []}
    assert manifest.differences(old, new) == [
        "apt adduser:all: 3.152 -> 3.153",
        "apt libcuda1:amd64: 580.95.05-1 -> (none)",
        "cuda: [9.2, 12.9, …] -> [13.0]",
        "image: ami-1 -> ami-2",
        "python venv einops: (none) -> 0.8",
        "python venv numpy hashes: [sha256:aa, sha256:bb] -> [sha256:cc]",
        "python venv numpy version: 2.4.6 -> 2.4.7",
    ]


@pytest.mark.parametrize("old", [{}, {"format": 2}, [], "text"])
def test_what_is_no_manifest_is_refused(old: object, host: Path) -> None:
    with pytest.raises(LabError, match="A manifest of format 1 was expected: write one with"):
        manifest.differences(old, collect(host))  # type: ignore[arg-type]  # what a user may give
