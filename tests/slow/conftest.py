"""All tests here are slow: `make test-slow` runs them, `make test` does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slow.slow_kit import Tmpfs, mount_tmpfs, unmount

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Tmpfs]:
    """A tmpfs; skipped where this process may not mount."""
    path = tmp_path / "tmpfs"
    path.mkdir()
    if not mount_tmpfs(path):
        pytest.skip("mount needs root: a full disk and a million files UNTESTED")
    yield Tmpfs(path)
    unmount(path)
