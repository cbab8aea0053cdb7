"""Write wheels into a folder that carry torch's names and cannot be imported."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

WHEELS = {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu"}


def main() -> None:
    """Write one wheel for each name into the folder given."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, version in WHEELS.items():
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "raise ImportError('libtorch.so is missing')\n")
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
