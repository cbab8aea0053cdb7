"""Makes the archives of the scenario: good ones that share folders, and hostile ones apart."""

from __future__ import annotations

import sys
import zipfile
import zlib
from pathlib import Path


def main(folder: Path) -> None:
    """Write good/*.zip and bad/*.zip below the folder."""
    good, bad = folder / "good", folder / "bad"
    good.mkdir(parents=True)
    bad.mkdir()
    for number in range(3):
        with zipfile.ZipFile(good / f"train-{number}.zip", "w", zipfile.ZIP_DEFLATED) as made:
            for image in range(500):
                name = f"train/{image % 10}/{number}-{image:03}.png"
                made.writestr(name, zlib.crc32(name.encode()).to_bytes(4, "big") * 200)
    for name, member in {
        "climbs": "../../climbed.txt",
        "absolute": "/climbed.txt",
        "backslash": "..\\climbed.txt",
    }.items():
        with zipfile.ZipFile(bad / f"{name}.zip", "w") as made:
            made.writestr("fine.txt", "fine")
            made.writestr(member, "evil")
    with zipfile.ZipFile(bad / "link.zip", "w") as made:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        made.writestr(link, "/etc")
        made.writestr("link/climbed.txt", "evil")
    with zipfile.ZipFile(bad / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("bomb", bytes(400 << 20))
    whole = (good / "train-0.zip").read_bytes()
    (bad / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (bad / "damaged.zip").write_bytes(whole.replace(whole[100:110], b"\xff" * 10, 1))
    (bad / "error.zip").write_text("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
