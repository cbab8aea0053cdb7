"""Data descriptors in each of their forms."""

from __future__ import annotations

from typing import Any

from tests.unit.unzip_kit import Part, make_zip

from .kit import GOOD, PLAIN, SIZES, UNKNOWN, behind, patched, refuse, take, wide


def streamed(after: bytes, data: bytes = PLAIN, **more: Any) -> bytes:
    return make_zip([Part(b"s", data, flags=8, **({"local": UNKNOWN} | more), after=after), GOOD])


NO_SIGN: tuple[bytes, ...] = ()
for label, after in {
    "descriptor": behind(PLAIN),
    "descriptor without signature": behind(PLAIN, "<LLL", NO_SIGN),
    "descriptor of 64 bits": behind(PLAIN, "<4sLQQ"),
    "descriptor of 64 bits without signature": behind(PLAIN, "<LQQ", NO_SIGN),
}.items():
    take(label, streamed(after), strict="data descriptor")
    refuse(f"{label}, cut", streamed(after[:-1]), "descriptor")
    refuse(f"{label}, wrong size", streamed(patched(after, -1, 9)), "descriptor")
take(
    "descriptor of stored bytes",
    streamed(behind(PLAIN, packed=len(PLAIN)), method=0),
    strict="data descriptor",
)
take(
    "descriptor with all ones before it",
    streamed(behind(PLAIN), local={"crc": 0} | SIZES, extra=b"", local_extra=wide(0, 0)),
    strict="data descriptor",
)
take(
    "descriptor, flagged in the local header alone",
    streamed(behind(PLAIN), central={"flags": 0}),
    strict="data descriptor",
)
take("descriptor, flagged in the directory alone", [Part(b"a", b"x", central={"flags": 8})])
take("descriptor and padding", streamed(behind(PLAIN) + bytes(5)), strict="data descriptor")
refuse(
    "descriptor flagged, another size in the header",
    streamed(behind(PLAIN), local={"crc": 0, "packed": 7, "size": 0}),
    "other sizes",
)
refuse(
    "descriptor not flagged",
    make_zip([Part(b"s", PLAIN, local=UNKNOWN, after=behind(PLAIN))]),
    "other sizes",
)
