"""Who takes part: a name, and the command that unpacks all zips of a folder into another."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import tools as tools_module
from .data import archives_of
from .errors import MissingError
from .tools import Tools

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OURS = "parallel_unzip, libdeflate"
OURS_ZLIB = "parallel_unzip, zlib"
OURS_ANSIBLE = "parallel_unzip through Ansible"
OURS_S3 = "parallel_unzip from s3://"
LIMIT = "limit"
LIMIT_ZLIB = "limit with zlib"
LIMIT_ZLIB_CRC = "limit with zlib, CRC checked"
USERS_LINE = "xargs -P 10 unzip"
UNARCHIVE = "unarchive through Ansible"
S5CMD = "s5cmd, then unzip"
Words = list[str]


@dataclass(frozen=True)
class Job:
    """What is to be unpacked: a folder of zips, or `address`, one zip in S3, into `dest`."""

    folder: Path
    dest: Path
    workers: int
    tools: Tools
    address: str = ""

    @property
    def archives(self) -> list[Path]:
        """The zips."""
        return archives_of(self.folder)


@dataclass(frozen=True)
class Command:
    """Words of a command line, and what it needs in the environment."""

    words: Sequence[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Peer:
    """`only_many`: says nothing new where there is one zip alone."""

    name: str
    command: Callable[[Job], Command]
    only_many: bool = False


def _shell(script: str, *words: str | Path) -> Command:
    return Command(["sh", "-ec", script, "sh", *map(str, words)], {})


def _each(line: str, job: Job, *programs: str) -> Command:
    """Run a line for each zip: $1 the zips' folder, $2 dest, from $3 on the programs."""
    return _shell(f'for zip in "$1"/*.zip; do {line}; done', job.folder, job.dest, *programs)


def _unzip(job: Job) -> Command:
    return _each('"$3" -q "$zip" -d "$2"', job, job.tools.program("unzip"))


def _bsdtar(job: Job) -> Command:
    return _each('"$3" -C "$2" -xf "$zip"', job, job.tools.program("bsdtar"))


def _7zz(job: Job) -> Command:
    program = job.tools.program("7zz")
    return Command(
        [program, "x", "-y", "-bso0", "-bsp0", f"-o{job.dest}", f"{job.folder}/*.zip"], {}
    )


def _xargs_unzip(processes: int) -> Callable[[Job], Command]:
    line = (
        f'find "$1" -name \'*.zip\' -print0 | xargs -0 -I {{}} -P {processes} "$3" -q {{}} -d "$2"'
    )
    return lambda job: _shell(line, job.folder, job.dest, job.tools.program("unzip"))


def _xargs_bsdtar(job: Job) -> Command:
    line = 'find "$1" -name \'*.zip\' -print0 | xargs -0 -I {} -P 2 "$3" -C "$2" -xf {}'
    return _shell(line, job.folder, job.dest, job.tools.program("bsdtar"))


def _python(script: str, *words: str | Path | int) -> Command:
    return Command([sys.executable, str(HERE / script), *map(str, words)], {})


def _zipfile(job: Job) -> Command:
    return _python("zipfile_peer.py", job.folder, job.dest, 1)


def _zipfile_processes(job: Job) -> Command:
    return _python("zipfile_peer.py", job.folder, job.dest, job.workers)


def _fast_unzip(job: Job) -> Command:
    path = str(job.tools.python_package("fast_unzip"))
    line = '"$3" -m fast_unzip -p "$4" -d "$2" "$zip"'
    words = _each(line, job, sys.executable, str(job.workers)).words
    return Command(words, {"PYTHONPATH": path})


def _ours(engine: str) -> Callable[[Job], Command]:
    def command(job: Job) -> Command:
        environment = {}
        if engine == "libdeflate":
            tools_module.libdeflate()
        elif engine == "isal":
            environment["PYTHONPATH"] = str(job.tools.python_package("isal"))
        source = job.address or job.folder
        words = _python("ours.py", source, job.dest, job.workers, engine).words
        return Command(words, environment)

    return command


def _playbook(name: str) -> Callable[[Job], Command]:
    def command(job: Job) -> Command:
        values = {
            "archives": [str(path) for path in job.archives],
            "dest": str(job.dest),
            "workers": job.workers,
            "ansible_python_interpreter": sys.executable,
        }
        program, book = job.tools.ansible_playbook, HERE / "playbooks" / f"{name}.yml"
        words = [program, "-i", "localhost,", "-c", "local", "-e", json.dumps(values), str(book)]
        return Command(words, {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})

    return command


def _limit(engine: str) -> Callable[[Job], Command]:
    def command(job: Job) -> Command:
        program = job.tools.limit(engine)
        words = [program, str(job.workers), str(job.dest), *map(str, job.archives)]
        return Command(words, {})

    return command


# From S3: the archive is stored beside what comes out of it, unless the peer can do without.


def _download(line: str, job: Job, *programs: str) -> Command:
    """Run a line that stores $1 as "$zip", then unpack that with $3; from $4 on the programs."""
    script = f'zip="$2/../download.zip"; {line}; "$3" -q "$zip" -d "$2"; rm "$zip"'
    return _shell(script, job.address, job.dest, job.tools.program("unzip"), *programs)


def _s5cmd(job: Job) -> Command:
    return _download('"$4" cp "$1" "$zip" >&2', job, job.tools.program("s5cmd"))


def _s5cmd_ours(job: Job) -> Command:
    """Show what the detour alone costs."""
    program = job.tools.program("s5cmd")
    ours = [sys.executable, str(HERE / "ours.py")]
    script = (
        'zip="$2/../download.zip"; "$3" cp "$1" "$zip" >&2;'
        ' "$4" "$5" "$zip" "$2" "$6" auto; rm "$zip"'
    )
    return _shell(script, job.address, job.dest, program, *ours, str(job.workers))


def _aws(job: Job) -> Command:
    return _download('"$4" s3 cp --quiet "$1" "$zip"', job, job.tools.program("aws"))


def _boto3(job: Job) -> Command:
    line = '"$4" "$5" "$1" "$zip"'
    return _download(line, job, sys.executable, str(HERE / "s3_peer.py"))


LOCAL = (
    Peer(LIMIT, _limit("libdeflate")),
    Peer(LIMIT_ZLIB, _limit("zlib")),
    Peer(LIMIT_ZLIB_CRC, _limit("zlib-crc")),
    Peer(OURS, _ours("libdeflate")),
    Peer("parallel_unzip, isal", _ours("isal")),
    Peer(OURS_ZLIB, _ours("zlib")),
    Peer("unzip", _unzip),
    Peer("xargs -P 2 unzip", _xargs_unzip(2), only_many=True),
    Peer(USERS_LINE, _xargs_unzip(10), only_many=True),
    Peer("bsdtar", _bsdtar),
    Peer("xargs -P 2 bsdtar", _xargs_bsdtar, only_many=True),
    Peer("7zz", _7zz),
    Peer("zipfile", _zipfile),
    Peer("zipfile in processes", _zipfile_processes),
    Peer("fast-unzip", _fast_unzip),
    Peer(UNARCHIVE, _playbook("unarchive")),
    Peer(OURS_ANSIBLE, _playbook("parallel_unzip")),
)
FROM_S3 = (
    Peer(OURS_S3, _ours("auto")),
    Peer(S5CMD, _s5cmd),
    Peer("s5cmd, then parallel_unzip", _s5cmd_ours),
    Peer("aws s3 cp, then unzip", _aws),
    Peer("boto3, then unzip", _boto3),
)


def able(peers: Sequence[Peer], job: Job) -> tuple[list[Peer], dict[str, str]]:
    """Part those that can run here from those that cannot, with the reason."""
    ready: list[Peer] = []
    missing: dict[str, str] = {}
    for peer in peers:
        if peer.only_many and len(job.archives) == 1:
            continue
        try:
            peer.command(job)
        except MissingError as error:
            missing[peer.name] = str(error)
        else:
            ready.append(peer)
    return ready, missing
