"""Gaps of S3's storage: objects live in memory, and each range read copies the whole object.

The content of each object is a file of its own in the slot's state folder. So a range costs what
it is long, a read streams, and saving the state does not write all objects again.
"""

from __future__ import annotations

import mmap
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from moto.s3 import models, responses

from sandbox.patches import patch
from sandbox.settings import Settings

CHUNK = 1 << 20  # bytes written to the socket at a time

_folder = Path()
_lock = threading.Lock()
_condemned: set[Path] = set()
_lazily = threading.local()


def apply(settings: Settings) -> None:
    """Keep object contents under `settings.state_dir`."""
    global _folder  # noqa: PLW0603  moto makes the objects itself and could not be told the place
    _folder = settings.state_dir / "objects"
    models.tempfile = SimpleNamespace(SpooledTemporaryFile=ContentFile)  # type: ignore[assignment,attr-defined]
    patch(models.FakeKey, "__getstate__", _get_state)
    patch(models.FakeKey, "__setstate__", _set_state)
    eager: Any = vars(models.FakeKey)["value"]

    def value(key: Any) -> Any:
        if getattr(_lazily, "active", False):
            return key._value_buffer.view()
        return eager.__get__(key)

    models.FakeKey.value = property(value, eager.fset)  # type: ignore[method-assign,assignment]
    patch(responses.S3Response, "get_object", _get_object)
    patch(responses.S3Response, "key_response", _key_response)


class ContentFile:
    """The content of one object: the part of SpooledTemporaryFile that moto uses, by path."""

    def __init__(self, max_size: int = 0) -> None:
        _folder.mkdir(parents=True, exist_ok=True)
        self.name, self._position = uuid.uuid4().hex, 0
        self.path.touch()

    @property
    def path(self) -> Path:
        """Where the content lies. No descriptor is kept: there may be very many objects."""
        return _folder / self.name

    def seek(self, position: int) -> int:
        """Go to a byte counted from the start."""
        self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes from the position on."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            data = file.read(size)
        self._position += len(data)
        return data

    def write(self, data: bytes) -> int:
        """Write at the position."""
        with self.path.open("r+b") as file:
            file.seek(self._position)
            written = file.write(data)
        self._position += written
        return written

    def truncate(self) -> None:
        """Cut the content off at the position."""
        os.truncate(self.path, self._position)

    def close(self) -> None:
        """Give the content up. The file goes when a state without it has been saved."""
        with _lock:
            _condemned.add(self.path)

    def __deepcopy__(self, _memo: dict[int, Any]) -> SharedContent:
        return SharedContent(self)

    def view(self) -> memoryview | bytes:
        """Look at the content without reading it."""
        with self.path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return b""
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class SharedContent(ContentFile):
    """The content of a copy that moto makes of an object only to look at it."""

    def __init__(self, content: ContentFile) -> None:
        self.name, self._position = content.name, 0

    def close(self) -> None:
        """Leave the content to the object it belongs to."""


def _get_state(_original: Callable[..., Any], key: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(key).items() if name != "lock"}


def _set_state(_original: Callable[..., Any], key: Any, state: dict[str, Any]) -> None:
    vars(key).update(state)
    key.lock = threading.Lock()


def condemned() -> set[Path]:
    """Files that no object uses any more; to be asked before the state is saved."""
    with _lock:
        return set(_condemned)


def discard(paths: set[Path]) -> None:
    """Delete files that the saved state does not name any more."""
    for path in paths:
        path.unlink(missing_ok=True)
    with _lock:
        _condemned.difference_update(paths)


def discard_orphans(used: set[str]) -> None:
    """Delete the files of objects that were never saved, after a crash."""
    for path in _folder.glob("*"):
        if path.name not in used:
            path.unlink()


def _get_object(original: Callable[..., Any], response: Any) -> Any:
    _lazily.active = True
    try:
        return original(response)
    finally:
        _lazily.active = False


def _key_response(original: Callable[..., Any], response: Any, *args: Any) -> Any:
    status, headers, content = original(response, *args)
    if isinstance(content, memoryview):
        return status, headers, _chunks(content)
    return status, headers, content


def _chunks(view: memoryview) -> Iterator[bytes]:
    for start in range(0, len(view), CHUNK):
        yield bytes(view[start : start + CHUNK])
