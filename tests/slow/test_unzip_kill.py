"""SIGKILL at random moments, 207 times: what is in dest is whole, and the next run mends it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError

from tests.slow.slow_kit import brought, mount_tmpfs, unmount
from tests.unit.unzip_kit import STATE, Part, make_zip, unpack

SEED = int(os.environ.get("GPULAB_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
ROUNDS = 23
ARCHIVES = 5
MEMBERS = 400
PATIENCE = 20.0  # seconds
LISTS = ".parallel_unzip.lists"

Files = dict[str, bytes]


@dataclass(repr=False)
class Yard:
    """Two versions of the same archives; `src` is a link to one of them."""

    root: Path
    old: Files
    new: Files
    seconds: dict[str, float]

    @property
    def dest(self) -> Path:
        return self.root / "dest"

    def run(self, verify: str = "stat") -> dict[str, object]:
        return unpack(self.root / "src", self.dest, workers=3, purge=True, verify=verify)

    def use(self, version: str) -> None:
        (self.root / "src").unlink(missing_ok=True)
        (self.root / "src").symlink_to(self.root / version)


def make_files(chance: random.Random, older: Files | None = None) -> Files:
    """Files of all archives; of an older version a third stays, a third changes, a third goes."""
    files: Files = {}
    for number in range(ARCHIVES * MEMBERS):
        path = f"{number % ARCHIVES}/{number // ARCHIVES % 7}/{number:05}.png"
        if older and number % 3 == 0:
            files[path] = older[path]
        elif older and number % 3 == 1:
            files[path + ".new"] = chance.randbytes(chance.randrange(3000))
        else:
            files[path] = chance.randbytes(chance.randrange(3000)) + bytes(chance.randrange(900))
    return files


def write(folder: Path, files: Files) -> None:
    folder.mkdir()
    for number in range(ARCHIVES):
        mine = [(path, data) for path, data in files.items() if path.startswith(f"{number}/")]
        parts = [Part(path.encode(), data) for path, data in mine]
        folder.joinpath(f"{number}.zip").write_bytes(
            make_zip([*parts, Part(b"%d/empty/" % number, method=0)])
        )


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    chance = random.Random(SEED)
    old = make_files(chance)
    root = tmp_path_factory.mktemp("yard")
    mounted = mount_tmpfs(root)
    made = Yard(root, old, make_files(chance, old), {})
    write(made.root / "old", made.old)
    write(made.root / "new", made.new)
    made.use("old")
    made.run()
    made.dest.rename(made.root / "brought")
    for scenario in SCENARIOS:
        prepare(made, scenario, chance)
        began = time.monotonic()
        made.run()
        made.seconds[scenario] = time.monotonic() - began
    yield made
    if mounted:
        unmount(root)


def fresh(yard: Yard, _: random.Random) -> None:
    yard.use("new")


def update(yard: Yard, _: random.Random) -> None:
    bring_old(yard)
    yard.use("new")


def mend(yard: Yard, chance: random.Random) -> None:
    bring_old(yard)
    yard.use("old")
    for path in chance.sample(sorted(yard.old), 900):
        there = yard.dest / path
        there.unlink()
        if chance.random() < 0.5:
            there.write_bytes(b"damaged")


def bring_old(yard: Yard) -> None:
    # Hard links: a run that wrote into a file of dest, and not beside it, would be seen.
    subprocess.run(["cp", "-al", yard.root / "brought", yard.dest], check=True)


SCENARIOS: dict[str, Callable[[Yard, random.Random], None]] = {
    "fresh": fresh,
    "update": update,
    "mend": mend,
}


def prepare(yard: Yard, scenario: str, chance: random.Random) -> None:
    shutil.rmtree(yard.dest, ignore_errors=True)
    SCENARIOS[scenario](yard, chance)


def start(yard: Yard) -> tuple[int, int]:
    """Run in a session of its own; gives the process and a pipe that tells how it ended."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write_end)
        return pid, read_end
    try:
        os.setsid()
        os.close(read_end)
        os.write(write_end, b"running\n")
        try:
            yard.run()
            said = "done"
        except LabError as error:
            said = str(error)
        os.write(write_end, said.encode())
    finally:
        os._exit(0)


def session(leader: int) -> Iterator[int]:
    """Processes of the session that have not ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] not in "ZX":
                yield int(entry.name)


def kill_group(pid: int, _: random.Random) -> None:
    os.killpg(pid, signal.SIGKILL)


def kill_parent(pid: int, _: random.Random) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_worker(pid: int, chance: random.Random) -> None:
    deadline = time.monotonic() + PATIENCE
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while time.monotonic() < deadline:
        try:
            workers = children.read_text().split()
        except OSError:
            return  # the run has ended, and no worker was met
        if workers and chance.random() < 0.2:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(chance.choice(workers)), signal.SIGKILL)
            return


VICTIMS = {"group": kill_group, "parent": kill_parent, "worker": kill_worker}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_random(scenario: str, victim: str, yard: Yard) -> None:
    hits = 0
    for number in range(ROUNDS):
        seed = f"{SEED} {scenario} {victim} {number}"
        try:
            hits += one_round(yard, scenario, victim, random.Random(seed))
        except (AssertionError, LabError, OSError) as error:
            raise AssertionError(f"GPULAB_TEST_SEED={SEED}, round {number}: {error}") from error
    assert hits >= ROUNDS // 4, f"only {hits} kills met a run: the moments are badly chosen"


def one_round(yard: Yard, scenario: str, victim: str, chance: random.Random) -> bool:
    """Give whether the kill met a run that had not ended."""
    prepare(yard, scenario, chance)
    before = brought(yard.dest)
    share = moment(victim, chance)
    pid, pipe = start(yard)
    assert os.read(pipe, 8) == b"running\n"
    time.sleep(share * yard.seconds[scenario])
    VICTIMS[victim](pid, chance)
    with os.fdopen(pipe, "rb") as ended:
        said = ended.read().decode()  # until the last process of the session is gone
    os.waitpid(pid, 0)
    deadline = time.monotonic() + PATIENCE
    while left := list(session(pid)):
        assert time.monotonic() < deadline, f"processes {left} are left"
        time.sleep(0.01)
    check_state(yard, before, said)
    check_mended(yard)
    return said != "done"


def moment(victim: str, chance: random.Random) -> float:
    """Share of a run's time after which to kill."""
    if victim == "worker":
        return chance.uniform(0, 0.3)  # and then when there is one
    # Half of the moments are in the last third, where files are moved into place.
    return chance.uniform(0, 1) if chance.random() < 0.5 else chance.uniform(0.66, 1.05)


def check_state(yard: Yard, before: Files, said: str) -> None:
    """Either as before, or whole files only; unchanged where the run itself said that it failed."""
    after = brought(yard.dest)
    assert said in ("", "done") or "killed by signal 9" in said, said
    if said not in ("", "done"):
        assert after == before, "a run that failed did not leave dest as it was"
        assert not yard.dest.exists() or not (yard.dest / ".parallel_unzip.part").exists()
    for path, data in after.items():
        whole = data in (yard.old.get(path), yard.new.get(path))
        assert whole or data == before.get(path), f"{path} is neither whole nor as before"
    gone = [path for path in before if path not in after]
    assert all(path not in yard.new for path in gone), f"{gone[:3]} are gone"


def check_mended(yard: Yard) -> None:
    wanted = yard.new if (yard.root / "src").readlink().name == "new" else yard.old
    yard.run()
    assert not yard.run(verify="crc")["changed"], "the third run changed something"
    after = brought(yard.dest)
    assert after == wanted, sorted(after.keys() ^ wanted.keys())[:5]
    assert all((yard.dest / str(number) / "empty").is_dir() for number in range(ARCHIVES))
    own = {path.name for path in yard.dest.iterdir() if path.name.startswith(".")}
    assert own <= {STATE, LISTS}, own
    assert len(list(yard.dest.glob(f"{LISTS}/*"))) in (0, ARCHIVES), "a list of no archive is left"
