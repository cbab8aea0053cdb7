"""A member's name made a path below dest, or refused."""

from __future__ import annotations

import re
import struct
import unicodedata
import zlib

from .limits import Limits

UTF8_FLAG = 0x800
UNICODE_PATH = 0x7075
_FIELD_HEAD = struct.Struct("<BL")
RESERVED = ".parallel_unzip"
_COMPONENT_BYTES = 255
_PRINTABLE = range(0x20, 0x7F)
# Nothing to look at twice: relative, no empty, "." or ".." part, no control
# character, backslash or colon, all ASCII. Nearly every name is of this kind.
_PLAIN = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[ -.0-9;-\[\]-~]{1,255}(?:/(?!\Z)|/?\Z))+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DRIVE = re.compile(r"[A-Za-z]:")


class BadNameError(Exception):
    """The rule that a name breaks."""


def decode_name(raw: bytes, flags: int, fields: dict[int, list[bytes]], strict: bool) -> str:
    """Decode the name that the archive means.

    UTF-8 where flagged so, or where the bytes are UTF-8 (macOS does not flag
    it); else the zip format's own code page 437. A Unicode path field counts
    only where the name itself could not say it: beside a readable ASCII name
    it would give two readers two names.
    """
    other = _unicode_paths(raw, fields[UNICODE_PATH]) if UNICODE_PATH in fields else []
    if other:
        if strict:
            raise BadNameError("has a second name in a Unicode path field")
        if len(set(other)) > 1:
            raise BadNameError("has several Unicode path fields that disagree")
        if other[0] != raw and _says_it(raw):
            raise BadNameError("has a second, different name in a Unicode path field")
        raw, flags = other[0], flags | UTF8_FLAG
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if flags & UTF8_FLAG:
            raise BadNameError("has a name that is not the UTF-8 it claims to be") from None
        return raw.decode("cp437")


def _says_it(raw: bytes) -> bool:
    """Whether a name needs no second one: it is ASCII that can be shown, or UTF-8."""
    if raw.isascii():
        return all(byte in _PRINTABLE for byte in raw)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _unicode_paths(raw: bytes, fields: list[bytes]) -> list[bytes]:
    """Find the names in Unicode path fields of this version that were made for `raw`."""
    names = []
    for field in fields:
        if len(field) > _FIELD_HEAD.size:
            version, crc = _FIELD_HEAD.unpack_from(field)
            if version == 1 and crc == zlib.crc32(raw):
                names.append(field[_FIELD_HEAD.size :])
    return names


# Every sign that a plain name may have; of the dot, no part may begin with it.
_PLAIN_SIGNS = bytes(sign for sign in range(0x20, 0x7F) if sign not in b"\\:")
_ODD_PLACES = (b"//", b"\n/", b"/.", b"\n.", b"\n\n")


def plain_paths(names: list[bytes], limits: Limits) -> list[str] | None:
    """All names as paths below dest at once, or None if one of them wants a closer look.

    Gives what `safe_path` gives for each, some twenty times as fast.
    """
    text = b"\n".join(names)
    framed = b"\n" + text + b"\n"
    if framed.translate(None, _PLAIN_SIGNS).strip(b"\n") or framed.count(b"\n") != len(names) + 1:
        return None
    if any(odd in framed for odd in _ODD_PLACES):
        return None
    longest = max(map(len, names), default=0)
    if longest > min(limits.max_name, _COMPONENT_BYTES):
        return None
    # A name with so many folders cannot be shorter.
    if longest >= 2 * limits.max_depth and max(n.count(b"/") for n in names) > limits.max_depth:
        return None
    paths = text.decode("ascii").split("\n")
    if b"/\n" in framed:
        return [path[:-1] if path.endswith("/") else path for path in paths]
    return paths


def safe_path(name: str, limits: Limits, strict: bool) -> str:
    """`name` as a path below dest, without a trailing slash ("" for dest itself).

    BadNameError says which rule it breaks. "a//b" and "./a/b" become "a/b" unless
    `strict`.
    """
    if not _PLAIN.fullmatch(name):
        name = _tidied(name, strict)
    path = name[:-1] if name.endswith("/") else name
    if len(path) * 4 > limits.max_name and len(path.encode()) > limits.max_name:
        raise BadNameError(f"has a name longer than {limits.max_name} bytes (limits.max_name)")
    if path.count("/") > limits.max_depth:
        raise BadNameError(f"lies deeper than {limits.max_depth} folders (limits.max_depth)")
    if not path.isascii() or path[:1] == ".":
        _check_reserved(path)
    return path


def _check_reserved(path: str) -> None:
    """Refuse names of our own, also those that only a filesystem which folds takes for them."""
    folded = unicodedata.normalize("NFKC", path).casefold()
    seen = "".join(sign for sign in folded if unicodedata.category(sign) != "Cf")
    if seen.startswith(RESERVED):
        raise BadNameError(
            f"has a name that begins with {RESERVED}, where the module keeps its state"
        )


def _tidied(name: str, strict: bool) -> str:
    if not name:
        raise BadNameError("has an empty name")
    if _CONTROL.search(name):
        raise BadNameError("has a control character in its name")
    if "\\" in name:
        raise BadNameError("has a backslash in its name, which some read as a folder's end")
    if name == "/" and not strict:
        return ""  # Dropbox writes this for the folder that was packed
    if name.startswith("/"):
        raise BadNameError("has an absolute name")
    if _DRIVE.match(name):
        raise BadNameError("has a name that begins with a drive letter")
    parts = name.split("/")
    if ".." in parts:
        raise BadNameError('climbs out of its folder by ".."')
    kept = [part for part in parts if part not in ("", ".")]
    if strict and len(kept) != len(parts) - name.endswith("/"):
        raise BadNameError("spells its path with empty or single-dot parts")
    if any(len(part.encode()) > _COMPONENT_BYTES for part in kept):
        raise BadNameError(f"has a part longer than {_COMPONENT_BYTES} bytes in its name")
    return "/".join(kept)
