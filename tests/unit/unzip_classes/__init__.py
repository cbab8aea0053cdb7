"""Archives, good and hostile, one for each class: what the module and strict say of it.

Each of the modules here adds its own to CASES when it is imported.
"""

from __future__ import annotations

import importlib

from .kit import AS_ZIPFILE, CASES, Case, Found

for _name in (
    "data",
    "descriptors",
    "ends",
    "extra",
    "kinds",
    "names",
    "overlap",
    "programs",
    "second_names",
    "zip64",
):
    importlib.import_module(f"{__name__}.{_name}")

__all__ = ["AS_ZIPFILE", "CASES", "Case", "Found"]
