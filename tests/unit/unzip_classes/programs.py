"""What the programs write from which archives come."""

from __future__ import annotations

import io
import struct
import zipfile

from tests.unit.unzip_kit import Part, make_zip

from .kit import FAT, GOOD, PLAIN, SIZES, UNIX, UNKNOWN, behind, field, named, patched, take, wide

TIMES = field(0x5455, b"\x03" + bytes(8))
TIMES_SHORT = field(0x5455, b"\x03" + bytes(4))
IDS = field(0x7875, b"\x01\x04\xe8\x03\0\0\x04\xe8\x03\0\0")
take(
    "Info-ZIP",
    [
        Part(
            b"d/",
            method=0,
            attributes=0o40755 << 16 | 0x10,
            extra=TIMES_SHORT + IDS,
            local_extra=TIMES + IDS,
        ),
        Part(b"d/a", PLAIN, extra=TIMES_SHORT + IDS, local_extra=TIMES + IDS),
        Part(
            b"d/run", b"#!", method=0, attributes=0o100755 << 16, extra=IDS, local_extra=TIMES + IDS
        ),
    ],
)
take(
    "Info-ZIP into a pipe",
    make_zip(
        [
            Part(
                b"-",
                PLAIN,
                flags=8,
                attributes=0o10600 << 16 & 0xFFFF,
                local={"crc": 0} | SIZES,
                local_extra=wide(0, 0),
                after=behind(PLAIN, "<4sLQQ"),
            )
        ]
    ),
    strict="data descriptor",
)
take(
    "macOS",
    make_zip(
        [
            Part(b"d/", method=0, attributes=0o40755 << 16 | 0x4000, extra=TIMES_SHORT),
            Part(
                "d/Bild ä.png".encode(),
                PLAIN,
                flags=8,
                attributes=0o100644 << 16 | 0x4000,
                local=UNKNOWN,
                extra=TIMES_SHORT,
                after=behind(PLAIN),
            ),
            Part(b"__MACOSX/", method=0, attributes=0o40775 << 16),
            Part(
                "__MACOSX/d/._Bild ä.png".encode(),
                b"\0\5\x16\7" + bytes(80),
                flags=8,
                local=UNKNOWN,
                after=behind(b"\0\5\x16\7" + bytes(80)),
            ),
        ]
    ),
    found={
        "d": None,
        "d/Bild ä.png": PLAIN,
        "__MACOSX": None,
        "__MACOSX/d": None,
        "__MACOSX/d/._Bild ä.png": b"\0\5\x16\7" + bytes(80),
    },
    strict="data descriptor",
)
take(
    "Windows",
    [
        Part(b"d/a.png", PLAIN, host=FAT, attributes=0x20),
        Part(b"d/\x81.png", PLAIN, method=0, host=FAT, attributes=0x20),
        Part("d/日本.png".encode(), PLAIN, host=FAT, attributes=0x20, flags=0x800),
        Part(b"empty/", method=0, host=FAT, attributes=0x10),
    ],
)
take(
    "7-Zip",
    [
        Part(b"d", method=0, attributes=0, host=FAT),
        Part(
            b"e/",
            method=0,
            host=FAT,
            attributes=0x10,
            extra=field(0x0A, bytes(32)),
            local_extra=b"",
        ),
        Part(
            b"e/a",
            PLAIN,
            host=UNIX,
            attributes=0o100644 << 16 | 0x8020,
            extra=field(0x0A, bytes(32)),
            local_extra=b"",
        ),
    ],
)
take(
    "Java",
    make_zip(
        [
            Part(
                b"META-INF/",
                method=0,
                host=FAT,
                attributes=0,
                flags=0x800,
                local_extra=field(0xCAFE, b""),
            ),
            Part(
                b"META-INF/MANIFEST.MF",
                PLAIN,
                host=FAT,
                attributes=0,
                flags=0x808,
                local=UNKNOWN,
                after=behind(PLAIN),
            ),
        ]
    ),
    strict="data descriptor",
)
take(
    "Java, folder with a descriptor",
    make_zip(
        [
            Part(b"d/", b"", host=FAT, attributes=0, flags=0x808, local=UNKNOWN, after=behind(b"")),
            Part(
                b"d/a",
                PLAIN,
                host=FAT,
                attributes=0,
                flags=0x808,
                local=UNKNOWN,
                after=behind(PLAIN),
            ),
        ]
    ),
    strict="data descriptor",
)
take(
    "Go",
    make_zip(
        [
            Part(b"d/", method=0, attributes=0o40755 << 16, extra=TIMES_SHORT),
            Part(
                b"d/a",
                PLAIN,
                flags=8,
                attributes=0o100644 << 16,
                extra=TIMES_SHORT,
                local=UNKNOWN,
                after=behind(PLAIN),
            ),
            Part(b"d/none", b"", flags=8, method=0, local=UNKNOWN, after=behind(b"", packed=0)),
        ]
    ),
    strict="data descriptor",
)
take(
    "Cygwin",
    [
        Part(
            b"d/a",
            PLAIN,
            host=11,
            attributes=0o100644 << 16 | 0x20,
            extra=TIMES_SHORT + field(0x4453, struct.pack("<LBHL", 0, 0, 0, 0)),
            local_extra=TIMES,
        ),
    ],
)
take(
    "git archive",
    make_zip(
        [
            Part(b"p/", method=0, host=FAT, attributes=0x10, extra=TIMES_SHORT),
            Part(b"p/a.py", PLAIN, host=FAT, attributes=0, extra=TIMES_SHORT),
            Part(b"p/run", PLAIN, host=UNIX, attributes=0o100755 << 16, extra=TIMES_SHORT),
        ],
        comment=b"480487d0a2c1e0ad609953d14c38339d1d090d00",
    ),
)
take("EPUB", [Part(b"mimetype", b"application/epub+zip", method=0), Part(b"OEBPS/c.xhtml", PLAIN)])
take(
    "Chrome extension",
    make_zip([GOOD], prefix=b"Cr24\3\0\0\0" + bytes(600)),
    strict="before its first member",
)
take("folders without entries", named(b"a/b/c/d", b"a/e/f"))
take(
    "folder after what is in it",
    [Part(b"a/b/c", b"x"), Part(b"a/b/", method=0), Part(b"a/", method=0)],
)
take("date that is none", patched(make_zip([GOOD]), 10, 0xFF, 0xFF, 0xFF, 0xFF))


def by_zipfile(streams: bool, zip64s: bool) -> bytes:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return not streams

        def tell(self) -> int:
            if streams:
                raise OSError
            return super().tell()

    raw = Pipe()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as made:
        with made.open("d/a", "w", force_zip64=zip64s) as member:
            member.write(PLAIN)
        made.mkdir("e")
    return raw.getvalue()


take("Python", by_zipfile(streams=False, zip64s=False))
take("Python, zip64", by_zipfile(streams=False, zip64s=True))
take("Python into a pipe", by_zipfile(streams=True, zip64s=False), strict="data descriptor")
take("Python into a pipe, zip64", by_zipfile(streams=True, zip64s=True), strict="data descriptor")
