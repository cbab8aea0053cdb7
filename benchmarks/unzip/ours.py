"""parallel_unzip in a process of its own, as Ansible would run it: SRC DEST WORKERS ENGINE."""

from __future__ import annotations

import sys
from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.lab.errors import LabError  # noqa: E402  by that path
from ansible.module_utils.lab.unzip.plan import Request  # noqa: E402  by that path
from ansible.module_utils.lab.unzip.sources import find_archives  # noqa: E402  by that path
from ansible.module_utils.lab.unzip.task import run  # noqa: E402  by that path
from ansible.module_utils.lab.unzip.worker import Modes  # noqa: E402  by that path


def main() -> None:
    """Unpack; a refusal is said in one line and ends with status 1."""
    source, dest, workers, engine = sys.argv[1:]
    try:
        run(
            Request(
                find_archives([source], recurse=False),
                dest,
                Modes(0o644, 0o755),
                workers=int(workers),
                engine=engine,
            ),
            check=False,
        )
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
