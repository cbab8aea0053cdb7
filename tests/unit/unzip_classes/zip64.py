"""Zip64 records and fields, true ones and lies in each of their values."""

from __future__ import annotations

import struct

from tests.unit.unzip_kit import Part, deflate, make_zip

from .kit import GOOD, JUST, MAX32, SIZES, field, refuse, take, wide


def zip64(
    data: bytes = JUST,
    behind_record: bytes = b"",
    locator: dict[str, int] | None = None,
    **lies: int,
) -> bytes:
    """`data` with zip64 end records before its end record, a lie wherever one is given."""
    true = struct.unpack_from("<4s4H2LH", data, len(data) - 22)
    here, count, length, start = true[3:7]
    said: dict[str, int] = {
        "size": 44 + len(behind_record),
        "disk": 0,
        "first": 0,
        "here": here,
        "count": count,
        "length": length,
        "start": start,
    } | lies
    record = (
        struct.pack(
            "<4sQ2H2L4Q",
            b"PK\x06\x06",
            said["size"],
            45,
            45,
            said["disk"],
            said["first"],
            said["here"],
            said["count"],
            said["length"],
            said["start"],
        )
        + behind_record
    )
    at = {"disk": 0, "where": start + length, "disks": 1} | (locator or {})
    where = struct.pack("<4sLQL", b"PK\x06\x07", at["disk"], at["where"], at["disks"])
    return data[:-22] + record + where + data[-22:]


take("zip64 that was not needed", zip64())
take(
    "zip64 with the end record full of ones",
    zip64(make_zip([GOOD]))[:-22]
    + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, MAX32, MAX32, 0),
)
take("zip64 of no parts, as OneDrive writes it", zip64(locator={"disks": 0}))
for label, lies, locator in (
    ("count", {"count": 2, "here": 2}, {}),
    ("count here", {"here": 2}, {}),
    ("disk", {"disk": 1}, {}),
    ("first disk", {"first": 1}, {}),
    ("length", {"length": 9}, {}),
    ("start", {"start": 1}, {}),
    ("own size", {"size": 45}, {}),
    ("own size 0", {"size": 0}, {}),
    ("huge start", {"start": 1 << 63}, {}),
    ("huge length", {"length": (1 << 64) - 1}, {}),
    ("huge count", {"count": 1 << 63, "here": 1 << 63}, {}),
    ("locator", {}, {"where": 0}),
    ("locator far off", {}, {"where": 1 << 63}),
    ("disk of the locator", {}, {"disk": 1}),
    ("number of disks", {}, {"disks": 2}),
):
    refuse(f"zip64 lies, {label}", zip64(JUST, b"", locator, **lies), "")
refuse("zip64 with more in its record", zip64(behind_record=b"more"), "zip64 end record")
refuse("zip64 without its locator", zip64()[:-42] + zip64()[-22:], "")
X_PACKED = len(deflate(b"x"))
take(
    "zip64 member, both sizes",
    [Part(b"a", b"x", central=SIZES, local=SIZES, extra=wide(1, X_PACKED))],
)
take(
    "zip64 member, size alone",
    [Part(b"a", b"x", central={"size": MAX32}, extra=wide(1), local_extra=b"")],
)
take(
    "zip64 member, offset alone",
    [GOOD, Part(b"a", b"x", offset=MAX32, extra=wide(44), local_extra=b"")],
)
take(
    "zip64 member, all three as Go writes them",
    [
        GOOD,
        Part(b"a", b"x", offset=MAX32, central=SIZES, extra=wide(1, X_PACKED, 44), local_extra=b""),
    ],
)
take(
    "zip64 member, part number as well",
    [
        Part(
            b"a",
            b"x",
            offset=MAX32,
            central=SIZES,
            extra=wide(1, X_PACKED, 0, disk=0),
            local_extra=b"",
        )
    ],
)
take("zip64 field that only repeats", [Part(b"a", b"x", extra=wide(1, X_PACKED))])
take("zip64 field with nothing in it", [Part(b"a", b"x", extra=wide())])
for label, extra, central in (
    ("size", wide(2, X_PACKED), SIZES),
    ("packed size", wide(1, X_PACKED + 1), SIZES),
    ("packed size of 1 TiB", wide(1, 1 << 40), SIZES),
    ("size of 8 EiB", wide(1 << 63, X_PACKED), SIZES),
    ("size of all ones", wide((1 << 64) - 1, X_PACKED), SIZES),
    ("sizes swapped", wide(X_PACKED, 1), SIZES),
    ("one value short", wide(1), SIZES),
    ("5 bytes", field(1, bytes(5)), SIZES),
    ("repeats another size", wide(9, X_PACKED), {}),
    ("repeats another offset", wide(1, X_PACKED, 5), {}),
    ("five values", wide(1, 3, 0, 0, 0), {}),
    ("none where one is needed", wide(), SIZES),
    ("other part", wide(1, X_PACKED, 0, disk=1), {}),
):
    refuse(
        f"zip64 field lies, {label}",
        make_zip([Part(b"a", b"x", central=central, extra=extra, local_extra=b"")]),
        "",
    )
refuse(
    "zip64 offset lies",
    make_zip([Part(b"a", b"x", offset=MAX32, extra=wide(7), local_extra=b"")]),
    "",
)
refuse(
    "zip64 offset of 8 EiB",
    make_zip([Part(b"a", b"x", offset=MAX32, extra=wide(1 << 63), local_extra=b"")]),
    "",
)
refuse(
    "zip64 field lies in the local header",
    make_zip([Part(b"a", b"x", local=SIZES, extra=b"", local_extra=wide(2, X_PACKED))]),
    "other sizes",
)
refuse(
    "zip64 field missing in the local header",
    make_zip([Part(b"a", b"x", local=SIZES, extra=b"", local_extra=b"")]),
    "",
)
