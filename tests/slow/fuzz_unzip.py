"""Coverage-guided fuzzing of parallel_unzip: python -m tests.slow.fuzz_unzip YARD CORPUS [options].

YARD is an empty folder, best on a tmpfs; CORPUS a folder of archives to begin with. The
options are those of libFuzzer, such as -max_total_time=60. Whatever breaks an invariant
ends the run, and libFuzzer keeps the archive.
"""

from __future__ import annotations

import functools
import random
import re
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import atheris

import tests.conftest  # noqa: F401  puts module_utils/lab where Ansible has it

with atheris.instrument_imports(include=["ansible.module_utils.lab.unzip"]):
    from ansible.module_utils.lab.errors import LabError
    from ansible.module_utils.lab.unzip import task
    from ansible.module_utils.lab.unzip.engines import load_engine
    from ansible.module_utils.lab.unzip.limits import Limits
    from ansible.module_utils.lab.unzip.pool import Done, Range, disk_error
    from ansible.module_utils.lab.unzip.worker import Source, Worker

    from tests.slow.slow_kit import brought
    from tests.unit.unzip_kit import STATE, request

LIMITS = Limits(max_bytes=1 << 20, max_files=200)
UNICODE_PATH = 0x7075
# Python's zipfile refuses these, and they make no difference to what is read.
_HARMLESS = re.compile(r"zip file version [\d.]+")
_RECORD = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07|\x07\x08)")
_LONGEST_HEAD = 56
_VALUES = (0, 1, 2, 4, 8, 9, 12, 14, 16, 20, 0x7F, 0xFF, 0x800, 0x7075, 0xFFFE, 0xFFFF, 1 << 20,
           0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, 1 << 63, (1 << 64) - 1)  # fmt: skip


class BrokenInvariantError(Exception):
    """What the module must never do."""


def in_process(
    sources: Sequence[Source],
    ranges: Iterable[Range],
    workers: int,
    make: Callable[[], Worker],
    update: Callable[[int, int], None],
) -> Done:
    """Do the work of the pool without its processes, whose coverage would not be seen."""
    del workers
    worker = make()
    try:
        for number, first, last in ranges:
            worker.extract(sources[number], first, last)
            update(worker.files, worker.bytes)
    except OSError as error:
        raise LabError(disk_error(error)) from error
    finally:
        worker.close_archive()
        worker._folders.close()  # a worker that ends need not close them
    return Done(worker.files, worker.bytes)


vars(task)["run_pool"] = in_process
# The engines allocate, and a process makes one of each; here it would make thousands.
vars(task)["load_engine"] = functools.lru_cache(load_engine)


class Fuzzer:
    """Unpacks each input in a yard, twice, and looks at what came of it."""

    def __init__(self, yard: Path) -> None:
        self._yard = yard
        self._archive = yard / "in" / "a.zip"
        self._room = yard / "room"
        self._archive.parent.mkdir()
        self._room.mkdir()

    def try_one(self, data: bytes) -> None:
        """Hold what the module makes of an archive against the invariants."""
        self._archive.write_bytes(data)
        strict = self._unpack(strict=True, engine="auto")
        taken = self._unpack(strict=False, engine="auto")
        if strict is not None and strict != taken:
            raise BrokenInvariantError("strict takes what the default refuses or reads otherwise")
        if taken is None:
            return
        if self._unpack(strict=False, engine="zlib") != taken:
            raise BrokenInvariantError("zlib gives another result")
        self._compare(taken)

    def _unpack(self, strict: bool, engine: str) -> dict[str, bytes] | None:
        dest = self._room / "dest"
        asked = request(self._archive, dest, limits=LIMITS, strict=strict, engine=engine, workers=1)
        try:
            task.run(asked, check=False)
        except LabError as error:
            said = str(error)
            if "\n" in said or "; " not in said:
                raise BrokenInvariantError(f"not one sentence: {said}") from error
            self._check_yard(set())
            return None
        found = brought(dest)
        if any(path.is_symlink() for path in dest.rglob("*")):
            raise BrokenInvariantError("a link was made")
        self._check_yard({"dest"})
        if not (dest / STATE).is_file():
            raise BrokenInvariantError("no note was left")
        shutil.rmtree(dest)
        return found

    def _check_yard(self, left: set[str]) -> None:
        if {path.name for path in self._room.iterdir()} != left:
            raise BrokenInvariantError("something is left beside dest, or of it")
        if {path.name for path in self._yard.iterdir()} != {"in", "room"}:
            raise BrokenInvariantError("something was written outside dest")

    def _compare(self, taken: dict[str, bytes]) -> None:
        """What was taken is what Python's zipfile reads."""
        theirs: dict[str, bytes] = {}
        try:
            with zipfile.ZipFile(self._archive) as other:
                infos = other.infolist()
                if any(UNICODE_PATH.to_bytes(2, "little") in info.extra for info in infos):
                    return  # of these zipfile knows nothing
                for info in infos:
                    name = _name(info)
                    if not name.endswith("/"):
                        theirs[_spelled(name)] = other.read(info)
        except NotImplementedError as error:
            if _HARMLESS.match(str(error)):
                return
            raise
        if taken != theirs:
            raise BrokenInvariantError(f"zipfile reads {sorted(theirs)}, not {sorted(taken)}")


def _name(info: zipfile.ZipInfo) -> str:
    """The name, taken for UTF-8 where it can be, as macOS writes it without the flag."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeDecodeError:
        return info.orig_filename


def _spelled(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change a field of a header, in one header or in several alike; or any bytes."""
    chance = random.Random(seed)
    found = [match.start() for match in _RECORD.finditer(data)]
    if not found or chance.random() < 0.3:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    changed = bytearray(data)
    width = chance.choice("BHLQ")
    size = struct.calcsize(f"<{width}")
    value = chance.choice((*_VALUES, chance.getrandbits(64), len(data))) % (1 << 8 * size)
    shift = chance.randrange(4, _LONGEST_HEAD)
    for at in chance.sample(found, chance.choice((1, 1, min(2, len(found))))):
        # The fields of a local header lie two bytes before those of the directory.
        place = at + shift - (2 if data[at + 2] == 3 else 0)
        if place + size <= len(changed):
            struct.pack_into(f"<{width}", changed, place, value)
    return bytes(changed[:max_size])


def main() -> None:
    """Run libFuzzer."""
    yard, *options = sys.argv[1:]
    fuzzer = Fuzzer(Path(yard))
    atheris.Setup([sys.argv[0], *options], fuzzer.try_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
