"""Members over each other, what lies between them, and headers that disagree."""

from __future__ import annotations

import struct
import zlib

from tests.unit.unzip_kit import Part, deflate, make_zip

from .kit import GOOD, UNIX, patched, refuse, take


def quoted_overlap(count: int) -> bytes:
    """`count` members that share one kernel: each quotes the header of the next as plain bytes."""
    kernel, inflated = deflate(b"k" * 1000), b"k" * 1000
    body, whole = kernel, inflated
    members: list[tuple[bytes, bytes, bytes]] = []
    blob = b""
    for number in range(count):
        name = b"%d" % number
        header = (
            struct.pack(
                "<4sHHHHHLLLHH",
                b"PK\x03\x04",
                20,
                0,
                8,
                0,
                33,
                zlib.crc32(whole),
                len(body),
                len(whole),
                len(name),
                0,
            )
            + name
        )
        blob = header + body
        members.insert(0, (name, body, whole))
        body = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF) + blob
        whole = header + whole
    # `blob` is the outermost member; the others lie inside its body.
    directory, offset = b"", 0
    for name, packed, data in members:
        directory += (
            struct.pack(
                "<4sBBHHHHHLLLHHHHHLL",
                b"PK\x01\x02",
                20,
                UNIX,
                20,
                0,
                8,
                0,
                33,
                zlib.crc32(data),
                len(packed),
                len(data),
                len(name),
                0,
                0,
                0,
                0,
                0,
                offset,
            )
            + name
        )
        offset += 30 + len(name) + 5
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(blob), 0)
    return blob + directory + end


take("quoted overlap, one member alone", quoted_overlap(1))
refuse("quoted overlap, two members", quoted_overlap(2), "overlaps")
refuse("quoted overlap, fifty members", quoted_overlap(50), "overlaps")
refuse(
    "one empty member under two names",
    make_zip([Part(b"a", method=0), Part(b"b", method=0, offset=0)]),
    "overlaps",
)
refuse("one member twice", make_zip([Part(b"a", b"x"), Part(b"a", b"x", offset=0)]), "overlaps")
refuse(
    "member inside another",
    make_zip([Part(b"a", make_zip([Part(b"i", b"x")]), method=0), Part(b"i", b"x", offset=31)]),
    "overlaps",
)
refuse("member in the directory", make_zip([GOOD, Part(b"b", b"x", offset=90)]), "")
refuse("member beyond the file", make_zip([GOOD, Part(b"b", b"x", offset=1 << 30)]), "")
refuse("no header at the offset", patched(make_zip([GOOD]), 0, 0x51), "no local header")
take("zip in a stored member", [Part(b"a.zip", make_zip([GOOD]), method=0), GOOD])
take("members listed backwards", make_zip([Part(b"b", b"1"), Part(b"a", b"2")]))
for label, local, central in (
    ("case", b"A.txt", b"a.txt"),
    ("slash", b"a/b", b"a\\b"),
    ("folder", b"d", b"d/"),
    ("spelling", b"a//b", b"a/b"),
    ("length", b"a", b"ab"),
    ("accent", "ä".encode(), b"\xc3\xa5"),
):
    refuse(
        f"local name of other {label}",
        make_zip([Part(central, method=0, local={"name": local}), GOOD]),
        "backslash" if label == "slash" else "",
    )
refuse(
    "UTF-8 in one header alone",
    make_zip([Part("ä".encode(), b"x", flags=0x800, local={"flags": 0})]),
    "other flags",
)
take("UTF-8 in one header alone, ASCII", [Part(b"a", b"x", flags=0x800, local={"flags": 0})])
take("other level in one header", [Part(b"a", b"x", flags=2, local={"flags": 4})])
take("junk between members", [Part(b"a", b"x", after=b"junk"), GOOD], strict="belong to no member")
take(
    "signing block before the directory",
    [GOOD, Part(b"b", b"x", after=bytes(4000) + b"APK Sig Block 42")],
    strict="belong to no member",
)
refuse(
    "more than 1 MiB between members",
    make_zip([Part(b"a", b"x", after=bytes((1 << 20) + 1)), GOOD]),
    "belong to no member",
)
