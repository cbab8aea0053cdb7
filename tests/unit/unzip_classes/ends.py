"""What lies before and behind an archive, and end records that lie."""

from __future__ import annotations

from tests.unit.unzip_kit import Part, make_zip

from .kit import GOOD, JUST, patched, refuse, take

take(
    "program in front, offsets moved",
    make_zip([GOOD], prefix=b"MZ" + bytes(3000)),
    strict="before its first member",
)
take(
    "program in front, offsets true",
    make_zip(
        [Part(b"a", b"x", offset=9)],
        prefix=b"#!/bin/sh",
        start=9 + len(make_zip([Part(b"a", b"x")])) - 47 - 22,
    ),
    strict="before its first member",
)
take(
    "marker of a split that was not needed",
    make_zip([GOOD], prefix=b"PK00"),
    strict="before its first member",
)
refuse(
    "more than 1 MiB in front",
    make_zip([GOOD], prefix=bytes((1 << 20) + 1)),
    "before its first member",
)
refuse(
    "two archives, one behind the other",
    JUST + make_zip([Part(b"b", b"y")]),
    "before its first member",
)
refuse("newline behind", JUST + b"\n", "does not end where")
refuse("zeros behind", JUST + bytes(512), "does not end where")
refuse("64 KiB behind", JUST + bytes(70_000), "")
refuse("end record in the comment", make_zip([GOOD], comment=JUST[-22:]), "")
refuse("empty archive in the comment", make_zip([GOOD], comment=make_zip([])), "")
refuse("signature in the comment", make_zip([GOOD], comment=b"PK\x05\x06"), "")
refuse("signature in a longer comment", make_zip([GOOD], comment=b"PK\x05\x06" + bytes(40)), "")
take("comment of 65,535 bytes", make_zip([GOOD], comment=b"c" * 65_535))
take("comment of a member", [Part(b"a", b"x", comment=b"said")], strict="comment")
refuse("count of 0 and a directory", make_zip([GOOD], count=0), "belong to no member")
refuse("directory elsewhere", make_zip([GOOD], start=3), "")
refuse("directory shorter by a byte", make_zip([GOOD], length=len(JUST) - 22 - 40 - 9), "")
refuse("this part's count differs", patched(JUST, -14, 2), "split")
refuse("directory on another part", patched(JUST, -16, 1), "split")
refuse("member on another part", patched(JUST, -22 - 54 + 34, 1), "another part")
