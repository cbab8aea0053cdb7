"""Python's zipfile: FOLDER DEST PROCESSES. Several processes share zips, or one zip's members."""

from __future__ import annotations

import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


def extract(archive: Path, dest: Path, part: int, parts: int) -> None:
    """Extract one of so many equal parts of an archive's members."""
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        first, past = (len(names) * n // parts for n in (part, part + 1))
        opened.extractall(dest, names[first:past])


def folders_of(archive: Path) -> set[str]:
    """Find the folders that an archive's members lie in."""
    with zipfile.ZipFile(archive) as opened:
        return {name.rpartition("/")[0] for name in opened.namelist()}


def main() -> None:
    """Extract all zips of a folder."""
    folder, dest, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    archives = sorted(folder.glob("*.zip"))
    if processes == 1:
        for archive in archives:
            extract(archive, dest, 0, 1)
        return
    for folder in {dest / name for archive in archives for name in folders_of(archive)}:
        folder.mkdir(parents=True, exist_ok=True)  # zipfile's own two steps would race
    parts = 1 if len(archives) > 1 else processes
    with ProcessPoolExecutor(processes) as pool:
        jobs = [
            pool.submit(extract, archive, dest, part, parts)
            for archive in archives
            for part in range(parts)
        ]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main()
