"""Volumes and snapshots on running and stopped machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.errors import SandboxError

from .engine_kit import BY_ID, Bench, answers, bench, docker, lines

pytestmark = pytest.mark.sandbox
FIRST, SECOND, COPY = (f"vol-{digit:017x}" for digit in (1, 2, 3))
LINK = BY_ID + FIRST.replace("-", "")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("volumes")) as made:
        made.engine.create_volume(FIRST, 1, None)
        made.converge(made.machine(1, volumes={"/dev/sdf": FIRST}))
        fstab = f"{LINK} /data ext4 defaults,nofail 0 2"
        made.output(
            made.machine(1),
            f"sudo mkfs.ext4 -q {LINK} && sudo mkdir /data && echo '{fstab}' | sudo tee -a"
            " /etc/fstab && sudo mount /data && echo precious | sudo tee /data/file",
        )
        yield made


def devices(lab: Bench) -> list[str]:
    """The files of the slot's volumes on loop devices."""
    folder = str(lab.settings.state_dir.resolve())
    return [one for one in lines("losetup", "-nO", "BACK-FILE") if folder in one]


def test_a_volume_is_sparse(lab: Bench) -> None:
    lab.engine.create_volume(SECOND, 500, None)
    file = lab.settings.state_dir / "volumes" / f"{SECOND}.img"
    assert file.stat().st_size == 500 << 30
    assert file.stat().st_blocks < 100
    lab.engine.create_volume(SECOND, 500, None)  # again: nothing happens


def test_it_is_under_its_name_and_its_link(lab: Bench) -> None:
    seen = lab.output(
        lab.machine(1), f"readlink {LINK}; stat -c %F /dev/sdf; findmnt -no SOURCE /data"
    )
    assert seen.splitlines() == ["/dev/sdf", "block special file", "/dev/sdf"]


def test_it_is_mounted_before_services_start(lab: Bench) -> None:
    lab.engine.reboot(lab.machine(1).instance_id)
    told = lab.output(lab.machine(1), "cat /data/file; systemctl is-active data.mount")
    assert told.split() == ["precious", "active"]


def test_hot_attach_and_detach_with_the_file_system_in_use(lab: Bench) -> None:
    both = lab.machine(1, volumes={"/dev/sdf": FIRST, "/dev/sdg": SECOND})
    lab.converge(both)
    assert lab.output(both, "sudo blockdev --getsize64 /dev/sdg") == str(500 << 30)
    assert lab.output(both, "cat /data/file") == "precious"
    lab.output(both, "cd /data; nohup sleep 100 >/dev/null 2>&1 & cat /data/file")
    lab.converge(lab.machine(1, volumes={"/dev/sdg": SECOND}))
    left = lab.output(both, "ls -d /dev/sd*; ls /dev/disk/by-id; findmnt /data || true").split()
    assert left == ["/dev/sdg", "nvme-Amazon_Elastic_Block_Store_" + SECOND.replace("-", "")]
    lab.output(both, "pkill sleep")
    other = lab.machine(2, volumes={"/dev/xvdb": FIRST})
    lab.converge(other)
    read = f"sudo mount {LINK} /mnt && cat /mnt/file && sudo umount /mnt"
    assert lab.output(other, read) == "precious"
    lab.remove(other)
    lab.converge(lab.machine(1, volumes={"/dev/sdf": FIRST}))
    assert len(devices(lab)) == 1
    lab.output(lab.machine(1), "sudo mount /data")


def test_a_snapshot_holds_what_was_written_just_before(lab: Bench) -> None:
    lab.output(lab.machine(1), "echo now | sudo tee /data/now")
    lab.engine.create_snapshot("snap-1", FIRST)
    lab.output(lab.machine(1), "echo later | sudo tee /data/now")
    lab.engine.create_volume(COPY, 2, "snap-1")
    lab.converge(lab.machine(1, volumes={"/dev/sdf": FIRST, "/dev/sdh": COPY}))
    read = "sudo mount -o ro,noload /dev/sdh /mnt && cat /mnt/now; sudo umount /mnt"
    assert lab.output(lab.machine(1), read) == "now"
    assert lab.output(lab.machine(1), "sudo blockdev --getsize64 /dev/sdh") == str(2 << 30)
    lab.converge(lab.machine(1, volumes={"/dev/sdf": FIRST}))
    lab.engine.delete_volume(COPY)
    lab.engine.delete_snapshot("snap-1")
    assert list((lab.settings.state_dir / "snapshots").iterdir()) == []


def test_a_snapshot_that_is_not_there(lab: Bench) -> None:
    with pytest.raises(SandboxError, match=r"^volume vol-x: snapshot snap-x has no content$"):
        lab.engine.create_volume("vol-x", 1, "snap-x")


def test_loop_devices_are_freed_and_found_again(lab: Bench) -> None:
    before = devices(lab)
    lab.new_engine()
    lab.converge()
    assert devices(lab) == before
    assert lab.output(lab.machine(1), "cat /data/file") == "precious"
    lab.converge(lab.machine(1, running=False, volumes={"/dev/sdf": FIRST}))
    assert devices(lab) == []
    lab.converge(lab.machine(1, volumes={"/dev/sdf": FIRST}))
    assert lab.output(lab.machine(1), "cat /data/file") == "precious"


def test_a_device_that_another_machine_still_uses_is_taken_back(lab: Bench) -> None:
    """As by the stand-in for NFS: a second device for one file would destroy its file system."""
    folder = str(lab.settings.state_dir.resolve())
    shown = [line.split() for line in lines("losetup", "-nO", "NAME,BACK-FILE")]
    (node,) = [name for name, file in shown if folder in file]
    with Path(node).open("rb"):
        lab.converge(lab.machine(1, running=False, volumes={"/dev/sdf": FIRST}))
        lab.converge(lab.machine(1, volumes={"/dev/sdf": FIRST}))
        assert len(devices(lab)) == 1
    assert len(devices(lab)) == 1, "it is kept now"
    assert lab.output(lab.machine(1), "cat /data/file") == "precious"


def test_changes_while_stopped_count_at_the_next_start(lab: Bench) -> None:
    lab.converge(lab.machine(1, running=False, volumes={"/dev/sdf": FIRST}))
    lab.converge(lab.machine(1, volumes={"/dev/sdg": SECOND}))
    assert lab.output(lab.machine(1), "ls /dev/sd*") == "/dev/sdg"
    lab.converge(lab.machine(1, volumes={"/dev/sdf": FIRST}))


def test_a_volume_outlives_its_machine(lab: Bench) -> None:
    lab.remove(lab.machine(1))
    assert devices(lab) == []
    lab.converge(lab.machine(3, volumes={"/dev/sdf": FIRST}))
    read = "sudo mount /dev/sdf /mnt && cat /mnt/file"
    assert lab.output(lab.machine(3), read) == "precious"
    assert answers(lab.machine(3).public_ip, 22)
    docker("kill", lab.name(lab.machine(3)))
    assert lab.engine.powered_off() == set()
    assert lab.output(lab.machine(3), read) == "precious"
