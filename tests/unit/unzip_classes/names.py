"""Names: their length and signs, dots, and what other systems make of them."""

from __future__ import annotations

import unicodedata

from tests.unit.unzip_kit import Part, make_zip

from .kit import GOOD, named, refuse, take

take("part of 255 bytes", named(b"x" * 255, b"d/" + b"y" * 255))
refuse("part of 256 bytes", named(b"x" * 256), "longer than 255")
refuse("part of 128 letters, 256 bytes", named("é".encode() * 128), "longer than 255")
refuse("folder of 256 bytes", named(b"x" * 256 + b"/a"), "longer than 255")
take("path of 1,024 bytes", named(b"/".join([b"x" * 255] * 4) + b"/"[:0]))
refuse("path above 1,024 bytes", named(b"/".join([b"x" * 255] * 4) + b"/yy"), "limits.max_name")
take("32 folders", named(b"d/" * 32 + b"x"))
refuse("33 folders", named(b"d/" * 33 + b"x"), "limits.max_depth")
refuse("10,000 folders", named(b"d/" * 10_000 + b"x"), "limits.max")
for label, sign in {
    "NUL at the end": "\0",
    "NUL before an extension": "\0.txt",
    "tab": "\t",
    "delete": "\x7f",
    "C1": "\x85",
    "line separator": "\u2028",
}.items():
    refuse(f"{label} in a name", named(b"a" + sign.encode()), "control character")
for label, name in {
    "right to left": "a\u202egnp.exe",
    "Arabic with marks": "\u200fصورة.png",
    "joined emoji": "👩\u200d🚀",
    "zero width": "a\u200bb",
    "byte order mark": "\ufeffa",
    "full-width dots": "\uff0e\uff0e/x",
    "full-width slash": "a\uff0fb",
    "no-break space": "a\xa0b",
    "combining": "a\u0308",
}.items():
    take(label, named(name.encode(), flags=0x800))
take("single dots", named(b"a/./b"), strict="single-dot")
take("dot in front", named(b"./a"), strict="single-dot")
take("double slash", named(b"a//b"), strict="empty or single-dot")
take("folder with two slashes", make_zip([Part(b"d//", method=0)]), strict="empty or single-dot")
take("folder ./", make_zip([Part(b"./", method=0), GOOD]), strict="single-dot")
take(
    "folder / as Dropbox writes it",
    make_zip([Part(b"/", method=0), GOOD]),
    found={"good.txt": b"good"},
    strict="absolute",
)
refuse("folder // ", make_zip([Part(b"//", method=0), GOOD]), "absolute")
take("dots and spaces at the end", named(b"a.", b"b ", b"...", b"d../x", b".. /y", b"c. ./z"))
take("device names of Windows", named(b"CON", b"aux.txt", b"d/NUL", b"com1.png", b"LPT1 "))
take("streams of NTFS", named(b"ab:c", b"file.txt:stream:$DATA", b"d/a:b"))
for label, name in {
    "drive": "C:x",
    "drive alone": "c:",
    "one letter and a colon": "a:b",
    "drive folder": "C:/",
}.items():
    refuse(label, named(name.encode()), "drive letter")
for label, name in {
    "UNC": "\\\\host\\share\\x",
    "long UNC": "\\\\?\\C:\\x",
    "separator of Windows": "a\\b",
    "mixed": "a/..\\..\\b",
    "backslash at the end": "a\\",
}.items():
    refuse(label, named(name.encode()), "backslash")
for label, name in {
    "dot-dot at the end": "a/..",
    "dot-dot folder": "a/../",
    "dot-dot and back": "a/../b",
    "dot-dot after an empty part": "a//../../b",
    "dot-dot after dots": "./../b",
}.items():
    refuse(label, named(name.encode()), 'climbs out of its folder by ".."')
refuse("dot-dot, overlong UTF-8", named(b"\xc0\xae\xc0\xae/x", flags=0x800), "UTF-8")
refuse("surrogate in UTF-8", named(b"\xed\xa0\x80", flags=0x800), "UTF-8")
take("not UTF-8 and not flagged so", named(b"\xc0\xae\xc0\xae/x"))
take("signs of a shell", named(b"-rf", b"~", b"~x/y", b"$HOME", b"`id`", b"*", b"a;b", b"%2e%2e/x"))
take("spaces only", named(b" ", b"d/ "))
for label, name in {
    "our state in capitals": ".PARALLEL_UNZIP.JSON",
    "our stage in capitals": ".Parallel_Unzip.Part/x",
    "our state with a sign that ext4 ignores": ".par\u200dallel_unzip.json",
    "our state in full width": ".\uff50arallel_unzip.json",
    "our state, spelled": "./.parallel_unzip.json",
}.items():
    refuse(label, named(name.encode(), flags=0x800), "keeps its state")
take("our state deeper", named(b"d/.parallel_unzip.json"))
take("case", named(b"a/X", b"a/x"), strict="case or accents")
take(
    "accents, composed or not",
    [
        Part(unicodedata.normalize(form, "ä").encode(), form.encode(), flags=0x800)
        for form in ("NFC", "NFD")
    ],
    strict="case or accents",
)
take("folders that differ by case", named(b"A/x", b"a/y"), strict="case or accents")
take("file and folder that differ by case", named(b"A", b"a/y"), strict="case or accents")
refuse("file as folder further down", named(b"a/b", b"a/b/c/d"), "a file here and a folder")
refuse(
    "file as a folder in another spelling", named(b"a/./b", b"a//b/c"), "a file here and a folder"
)
refuse("twice, first as a folder", make_zip([Part(b"d/", method=0), Part(b"d")]), "folder")
