r"""The one reader and writer of /etc/fstab.

A line has four to six fields, which blanks separate; a blank within a field is
written \040. What we do not change stays byte for byte: comments, empty lines,
the columns of other entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ESCAPES = {"\\": "\\134", " ": "\\040", "\t": "\\011", "\n": "\\012", "#": "\\043"}
_FEWEST_FIELDS = 4
_MOST_FIELDS = 6


@dataclass(frozen=True)
class Entry:
    """One mount. `options` as in the file: split at commas, order kept."""

    source: str
    path: str
    fstype: str
    options: tuple[str, ...]
    dump: int = 0
    passno: int = 0

    def line(self) -> str:
        """Write the entry as one line without its line feed."""
        fields = [self.source, self.path, self.fstype, ",".join(self.options)]
        return " ".join([*map(escape, fields), str(self.dump), str(self.passno)])

    def option(self, name: str) -> str | None:
        """Give the value of an option: '' for a flag, None where it is not set; later wins."""
        found = None
        for item in self.options:
            key, _, value = item.partition("=")
            if key == name:
                found = value
        return found


def escape(field: str) -> str:
    """Write a field so that it holds no blank."""
    return "".join(_ESCAPES.get(char, char) for char in field)


def unescape(field: str) -> str:
    """Read a field as the kernel and libmount do: a backslash and three octal digits, a byte."""
    raw = field.encode("utf-8", "surrogateescape")
    raw = re.sub(rb"\\([0-3][0-7]{2})", lambda match: bytes([int(match[1], 8)]), raw)
    return raw.decode("utf-8", "surrogateescape")


def parse_line(line: str) -> Entry | None:
    """Read one line: None for comments, empty lines and lines that are no entry."""
    # Not str.split(): it would also split at blanks that fstab knows nothing of.
    fields = re.split(r"[ \t]+", line.strip(" \t\r\n"))
    if not fields[0] or fields[0].startswith("#"):
        return None
    for at, field in enumerate(fields[_FEWEST_FIELDS:], start=_FEWEST_FIELDS):
        if field.startswith("#"):
            fields = fields[:at]
            break
    if not _FEWEST_FIELDS <= len(fields) <= _MOST_FIELDS:
        return None
    numbers = [*fields[_FEWEST_FIELDS:], "0", "0"]
    if not (numbers[0].isdecimal() and numbers[1].isdecimal()):
        return None
    source, path, fstype, options = map(unescape, fields[:_FEWEST_FIELDS])
    return Entry(source, path, fstype, tuple(options.split(",")), int(numbers[0]), int(numbers[1]))


def find(text: str, path: str) -> Entry | None:
    """Give the entry of a mount point: the last one, as it is mounted on top."""
    entries = [entry for entry in map(parse_line, _lines(text)) if entry and _same(entry, path)]
    return entries[-1] if entries else None


def with_entry(text: str, entry: Entry) -> str:
    """Put an entry where the mount point's line was, or at the end; second lines go."""
    lines = _lines(text)
    ours = [at for at, line in enumerate(lines) if _is_line_of(line, entry.path)]
    if not ours:
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}{entry.line()}\n"
    lines[ours[0]] = f"{entry.line()}\n"
    return "".join(line for at, line in enumerate(lines) if at not in ours[1:])


def without_path(text: str, path: str) -> str:
    """Remove every entry of a mount point."""
    lines = _lines(text)
    return "".join(line for line in lines if not _is_line_of(line, path))


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _is_line_of(line: str, path: str) -> bool:
    entry = parse_line(line)
    return entry is not None and _same(entry, path)


def _same(entry: Entry, path: str) -> bool:
    return (entry.path.rstrip("/") or "/") == (path.rstrip("/") or "/")
