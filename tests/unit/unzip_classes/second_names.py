"""The second name that a Unicode path field gives to a member."""

from __future__ import annotations

from tests.unit.unzip_kit import Part, make_zip

from .kit import Found, refuse, take, unicode_path

RAW = b"\x84.txt"  # ä.txt in code page 437


def second(raw: bytes, extra: bytes, flags: int = 0, local: bytes | None = None) -> bytes:
    return make_zip([Part(raw, b"x", extra=extra, local_extra=local, flags=flags)])


A_TXT: Found = {"ä.txt": b"x"}
CYRILLIC = "ж.txt".encode()
take("second name, the same", second(b"a", unicode_path(b"a", b"a")), strict="second name")
take(
    "second name of version 2",
    second(RAW, unicode_path(RAW, CYRILLIC, version=2), local=b""),
    A_TXT,
)
take("second name made for another", second(RAW, unicode_path(b"b", CYRILLIC), local=b""), A_TXT)
take("second name, nothing in it", second(RAW, unicode_path(RAW, b""), local=b""), A_TXT)
take(
    "second name in the directory alone",
    second(RAW, unicode_path(RAW, CYRILLIC), local=b""),
    {"ж.txt": b"x"},
    strict="second name",
)
take(
    "second name twice",
    second(RAW, unicode_path(RAW, CYRILLIC) * 2),
    {"ж.txt": b"x"},
    strict="second name",
)
refuse(
    "second names that disagree",
    second(RAW, unicode_path(RAW, CYRILLIC) + unicode_path(RAW, b"b")),
    "disagree",
)
refuse(
    "second name in the local header alone",
    make_zip([Part(RAW, b"x", extra=b"", local_extra=unicode_path(RAW, b"b"))]),
    "another name in its local Unicode path",
)
refuse(
    "second name beside UTF-8",
    second("ä".encode(), unicode_path("ä".encode(), CYRILLIC), flags=0x800),
    "second, different name",
)
refuse(
    "second name beside UTF-8 that is not flagged",
    second("ä".encode(), unicode_path("ä".encode(), CYRILLIC)),
    "second, different name",
)
for label, said, rule in (
    ("NUL", b"a\0b", "control character"),
    ("absolute", b"/etc/x", "absolute"),
    ("not UTF-8", b"\xff", "UTF-8"),
    ("backslash", b"..\\x", "backslash"),
):
    refuse(f"second name, {label}", second(RAW, unicode_path(RAW, said)), rule)
