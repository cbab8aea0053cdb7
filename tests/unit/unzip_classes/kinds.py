"""Links, devices, folders and labels, by the attributes of several systems."""

from __future__ import annotations

from tests.unit.unzip_kit import Part, make_zip

from .kit import AMIGA, FAT, MACOS, NTFS, UNIX, VFAT, refuse, take

for host in (FAT, AMIGA, UNIX, NTFS, VFAT, MACOS, 99):
    refuse(
        f"link of host {host}",
        make_zip([Part(b"l", b"x", attributes=0o120777 << 16, host=host)]),
        "symbolic link",
    )
    refuse(
        f"block device of host {host}",
        make_zip([Part(b"l", attributes=0o60666 << 16, host=host)]),
        "special file",
    )
for kind in (0o20000, 0o10000, 0o140000, 0o130000, 0o170000):
    refuse(f"kind {kind:o}", make_zip([Part(b"l", attributes=kind << 16)]), "special file")
refuse("link with a slash", make_zip([Part(b"l/", attributes=0o120777 << 16)]), "symbolic link")
take("set-group folder", [Part(b"d/", method=0, attributes=0o42777 << 16)])
take("folder marked as a file", [Part(b"d/", method=0, attributes=0o100644 << 16)])
take(
    "no rights at all",
    [Part(b"a", b"x", attributes=0), Part(b"b", b"y", attributes=0o100000 << 16)],
)
take("folder of DOS", [Part(b"d/", method=0, host=FAT, attributes=0x10)])
take("read-only, hidden, system, archive", [Part(b"a", b"x", host=FAT, attributes=0x27)])
for host in (FAT, NTFS, VFAT):
    refuse(
        f"folder of DOS named as a file, host {host}",
        make_zip([Part(b"d", method=0, host=host, attributes=0x10)]),
        "marked as a folder",
    )
    refuse(
        f"folder of DOS with bytes, host {host}",
        make_zip([Part(b"d", b"x", host=host, attributes=0x30)]),
        "marked as a folder",
    )
    refuse(
        f"volume label, host {host}",
        make_zip([Part(b"DISK", method=0, host=host, attributes=0x08)]),
        "volume label",
    )
