"""Write a wheel that does nothing: wheels.py FOLDER NAME VERSION [TEXT]."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path


def main() -> None:
    """Write the wheel into the folder, which is made where it is not there."""
    folder, name, version = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    text = sys.argv[4] if len(sys.argv) > 4 else ""  # noqa: PLR2004  the fourth, where given
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"{text}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(
            f"{info}/RECORD",
            f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        )


main()
