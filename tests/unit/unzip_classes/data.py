"""Packed data that does not fit what is said of it."""

from __future__ import annotations

import zlib

from tests.unit.unzip_kit import Part, deflate, make_zip

from .kit import PLAIN, refuse, take

refuse(
    "two streams in one",
    make_zip([Part(b"a", PLAIN, packed=deflate(PLAIN) + deflate(b""))]),
    "does not unpack",
)
refuse(
    "one byte behind the stream",
    make_zip([Part(b"a", PLAIN, packed=deflate(PLAIN) + b"\0")]),
    "does not unpack",
)
refuse(
    "nothing, and a stream behind",
    make_zip([Part(b"a", b"", packed=deflate(PLAIN))]),
    "does not unpack",
)
refuse(
    "zlib's header before the stream",
    make_zip([Part(b"a", PLAIN, packed=zlib.compress(PLAIN))]),
    "does not unpack",
)
refuse(
    "size of 0 with bytes, stored",
    make_zip([Part(b"a", PLAIN, method=0, central={"size": 0}, local={"size": 0})]),
    "does not unpack",
)
refuse(
    "size of 0 with bytes, deflated",
    make_zip([Part(b"a", b"", packed=deflate(b"x"))]),
    "does not unpack",
)
refuse(
    "stored and said to be larger",
    make_zip([Part(b"a", PLAIN, method=0, central={"size": 999}, local={"size": 999})]),
    "does not unpack",
)
refuse(
    "one byte less than said",
    make_zip([Part(b"a", PLAIN, packed=deflate(PLAIN[:-1]))]),
    "does not unpack",
)
refuse(
    "one byte more than said",
    make_zip([Part(b"a", PLAIN, packed=deflate(PLAIN + b"x"))]),
    "does not unpack",
)
refuse(
    "distance before the begin",
    make_zip([Part(b"a", b"xxxx", packed=b"\x4b\x04\x42\x00")]),
    "does not unpack",
)
take("deflate of nothing", [Part(b"a", b"", method=8)])
take(
    "empty blocks in between",
    [Part(b"a", b"xy", packed=b"\0\1\0\xfe\xffx" + b"\0\0\0\xff\xff" * 9 + b"\1\1\0\xfe\xffy")],
)
for method, rubbish in (
    (12, b"BZh9"),
    (12, b""),
    (14, b"\x09\x14\x05\0"),
    (14, b"\x09\x14\xff\xff"),
    (14, b""),
):
    refuse(
        f"method {method} with {rubbish!r}",
        make_zip([Part(b"a", b"x", method=method, packed=rubbish)]),
        "does not unpack",
    )
