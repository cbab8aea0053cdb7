"""A minute of coverage-guided fuzzing; what it ever found is a case of tests/unit/unzip_classes."""

from __future__ import annotations

import base64
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slow.slow_kit import Tmpfs
from tests.unit import test_unzip_hostile
from tests.unit.unzip_classes import CASES
from tests.unit.unzip_kit import CORPORA

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60
LARGEST = 8192  # bytes of an archive
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason=f"no wheel of atheris for Python {sys.version_info.major}.{sys.version_info.minor} "
    "was installed (requirements-slow.txt): fuzzing UNTESTED",
)


def seeds() -> list[bytes]:
    """All small archives that other tests know."""
    tables = [case.data for case in CASES]
    tables += [data for data, _ in test_unzip_hostile.REFUSED.values()]
    tables += [data for data, _ in test_unzip_hostile.good_cases().values()]
    tables += [path.read_bytes() for path in sorted(CORPORA.glob("*/*")) if path.is_file()]
    return [data for data in tables if len(data) <= LARGEST]


def test_fuzzed(tmp_path: Path, tmpfs: Tmpfs) -> None:
    corpus, yard = tmp_path / "corpus", tmpfs.path / "yard"
    corpus.mkdir()
    yard.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / f"{number:04}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "tests.slow.fuzz_unzip", str(yard), str(corpus),
         f"-max_total_time={SECONDS}", f"-max_len={LARGEST}", "-timeout=20", "-rss_limit_mb=2048",
         f"-artifact_prefix={tmp_path}/found-"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS * 4,
        errors="replace",
    )  # fmt: skip
    found = [base64.b64encode(path.read_bytes()).decode() for path in tmp_path.glob("found-*")]
    assert done.returncode == 0 and not found, (
        f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{found}"
    )
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs and int(runs[1]) > 1000, done.stderr[-500:]
    print(runs[0])
