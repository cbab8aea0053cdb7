"""Extra fields, encryption and compression methods."""

from __future__ import annotations

from tests.unit.unzip_kit import Part, make_zip

from .kit import field, refuse, take

take("unknown fields", [Part(b"a", b"x", extra=field(0xABCD, b"any") + field(0, b""))])
take(
    "fields of the directory alone",
    [Part(b"a", b"x", extra=field(0x5455, bytes(5)), local_extra=b"")],
)
take("fields of the local header alone", [Part(b"a", b"x", local_extra=field(0x7875, bytes(11)))])
take("field of 65,531 bytes", [Part(b"a", b"x", extra=field(0xABCD, bytes(65_531)))])
take("padding as zipalign writes it", [Part(b"a", b"x", extra=b"", local_extra=bytes(3))])
take(
    "local field that overruns",
    [Part(b"a", b"x", extra=b"", local_extra=b"\xcd\xab\xff\xff")],
    strict="runs past its end",
)
take("local scraps", [Part(b"a", b"x", extra=b"", local_extra=b"zz")], strict="belong to no field")
refuse(
    "field that hides the next",
    make_zip([Part(b"a", b"x", extra=b"\x01\0\x20\0" + bytes(16))]),
    "past its end",
)
take("second comment", [Part(b"a", b"x", extra=field(0x6375, b"\x01" + bytes(4) + b"said"))])
take(
    "link target in a Unix field", [Part(b"a", b"x", extra=field(0x0D, bytes(12) + b"/etc/passwd"))]
)

for label, flags in {"": 1, ", strong": 0x41, ", strong alone": 0x40, ", masked": 0x2001}.items():
    refuse(f"encrypted{label}", make_zip([Part(b"a", b"x", flags=flags)]), "encrypted")
    refuse(
        f"encrypted{label}, by the local header alone",
        make_zip([Part(b"a", b"x", local={"flags": flags})]),
        "other flags",
    )
    refuse(
        f"encrypted{label}, by the directory alone",
        make_zip([Part(b"a", b"x", central={"flags": flags})]),
        "encrypted",
    )
refuse(
    "AES",
    make_zip([Part(b"a", b"x", method=99, flags=1, extra=field(0x9901, bytes(7)))]),
    "encrypted",
)
for method in (*range(1, 8), 9, 10, 11, 13, *range(15, 21), *range(92, 100), 0xFFFF):
    refuse(f"method {method}", make_zip([Part(b"a", b"x", method=method)]), f"method {method} ")
refuse(
    "method 0 that is deflated inside",
    make_zip([Part(b"a", b"x" * 50, local={"method": 0})]),
    "another method",
)
refuse("patch", make_zip([Part(b"a", b"x", flags=0x20)]), "patch")
take("reserved flags", [Part(b"a", b"x", flags=0xD780)])
