"""SMBIOS tables, decoded into fields.  Layouts after DMTF DSP0134 3.6; names in its words, lower case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mdtool.records import dataclass

TABLES, ANCHOR = "etc/smbios/smbios-tables", "etc/smbios/smbios-anchor"
END = 127

#: type: name and its fields (offset, size, name); size "s" is a string's number, "u" a UUID
LAYOUTS: Mapping[int, tuple[str, tuple[tuple[int, int | str, str], ...]]] = {
    0: (
        "bios information",
        (
            (4, "s", "vendor"),
            (5, "s", "version"),
            (6, 2, "start segment"),
            (8, "s", "release date"),
            (9, 1, "rom size"),
            (10, 8, "characteristics"),
            (18, 2, "characteristics extension"),
            (20, 1, "major release"),
            (21, 1, "minor release"),
        ),
    ),
    1: (
        "system information",
        (
            (4, "s", "manufacturer"),
            (5, "s", "product"),
            (6, "s", "version"),
            (7, "s", "serial"),
            (8, "u", "uuid"),
            (24, 1, "wake-up type"),
            (25, "s", "sku"),
            (26, "s", "family"),
        ),
    ),
    2: (
        "baseboard",
        (
            (4, "s", "manufacturer"),
            (5, "s", "product"),
            (6, "s", "version"),
            (7, "s", "serial"),
            (8, "s", "asset tag"),
            (9, 1, "features"),
            (10, "s", "location"),
            (13, 1, "board type"),
        ),
    ),
    3: (
        "chassis",
        (
            (4, "s", "manufacturer"),
            (5, 1, "type"),
            (6, "s", "version"),
            (7, "s", "serial"),
            (8, "s", "asset tag"),
            (9, 1, "boot-up state"),
            (10, 1, "power supply state"),
            (11, 1, "thermal state"),
            (12, 1, "security status"),
            (21, "s", "sku"),
        ),
    ),
    4: (
        "processor",
        (
            (4, "s", "socket"),
            (5, 1, "type"),
            (6, 1, "family"),
            (7, "s", "manufacturer"),
            (8, 8, "id"),
            (16, "s", "version"),
            (17, 1, "voltage"),
            (18, 2, "external clock"),
            (20, 2, "max speed"),
            (22, 2, "current speed"),
            (24, 1, "status"),
            (25, 1, "upgrade"),
            (32, "s", "serial"),
            (33, "s", "asset tag"),
            (34, "s", "part number"),
            (35, 1, "cores"),
            (36, 1, "cores enabled"),
            (37, 1, "threads"),
            (38, 2, "characteristics"),
            (40, 2, "family 2"),
            (42, 2, "cores 2"),
            (44, 2, "cores enabled 2"),
            (46, 2, "threads 2"),
        ),
    ),
    8: (
        "port connector",
        (
            (4, "s", "internal"),
            (5, 1, "internal type"),
            (6, "s", "external"),
            (7, 1, "external type"),
            (8, 1, "type"),
        ),
    ),
    9: ("system slot", ((4, "s", "designation"), (5, 1, "type"), (6, 1, "width"), (7, 1, "usage"), (9, 2, "id"))),
    11: ("oem strings", ()),
    16: (
        "memory array",
        (
            (4, 1, "location"),
            (5, 1, "use"),
            (6, 1, "error correction"),
            (7, 4, "capacity"),
            (13, 2, "devices"),
            (15, 8, "extended capacity"),
        ),
    ),
    17: (
        "memory device",
        (
            (8, 2, "total width"),
            (10, 2, "data width"),
            (12, 2, "size"),
            (14, 1, "form factor"),
            (16, "s", "device locator"),
            (17, "s", "bank locator"),
            (18, 1, "type"),
            (19, 2, "type detail"),
            (21, 2, "speed"),
            (23, "s", "manufacturer"),
            (24, "s", "serial"),
            (25, "s", "asset tag"),
            (26, "s", "part number"),
            (27, 1, "attributes"),
            (28, 4, "extended size"),
        ),
    ),
    19: ("memory address", ((4, 4, "start"), (8, 4, "end"), (14, 1, "width"), (15, 8, "extended start"))),
    32: ("boot information", ((10, 1, "status"),)),
    38: ("ipmi", ((4, 1, "interface"), (5, 1, "revision"), (6, 1, "address"), (8, 8, "base"), (17, 1, "irq"))),
    41: (
        "onboard device",
        (
            (4, "s", "designation"),
            (5, 1, "type"),
            (6, 1, "instance"),
            (7, 2, "segment"),
            (9, 1, "bus"),
            (10, 1, "devfn"),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Structure:
    """One structure: its formatted part, and its strings, counted from 1 by the fields that use them."""

    type: int
    handle: int
    data: bytes
    strings: tuple[str, ...]


def structures(blob: bytes) -> Iterator[Structure]:
    """The structures of etc/smbios/smbios-tables in their order; stops at a length that makes no sense."""
    at = 0
    while at + 4 <= len(blob):
        kind, length, handle = blob[at], blob[at + 1], int.from_bytes(blob[at + 2 : at + 4], "little")
        end = blob.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            return
        raw = blob[at + length : end]
        strings = tuple(part.decode("utf-8", "replace") for part in raw.split(b"\0")) if raw else ()
        yield Structure(kind, handle, blob[at : at + length], strings)
        at = end + 2


def facts(files: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """What SMBIOS says by structure and field: ``{"system information": {"manufacturer": "QEMU", ...}}``."""
    found: dict[str, dict[str, str]] = {}
    anchor = files.get(ANCHOR, b"")
    if anchor:
        found["entry point"] = {"type": "64-bit" if anchor[:5] == b"_SM3_" else "32-bit"}
        version = anchor[7:9] if anchor[:5] == b"_SM3_" else anchor[6:8]
        found["entry point"]["version"] = ".".join(map(str, version))
    counts: dict[int, int] = {}
    for one in structures(files.get(TABLES, b"")):
        if one.type == END:
            break
        number = counts[one.type] = counts.get(one.type, 0) + 1
        name = LAYOUTS.get(one.type, (f"type {one.type}", ()))[0]
        found[name if number == 1 else f"{name} {number}"] = _fields(one)
    return found


def _fields(one: Structure) -> dict[str, str]:
    layout = LAYOUTS.get(one.type)
    found = {"handle": f"{one.handle:#06x}"}
    if layout is None:
        found["bytes"] = one.data[4:].hex()
        found.update({f"string {n}": text for n, text in enumerate(one.strings, 1)})
        return found
    used = set()
    for offset, size, name in layout[1]:
        if size == "s":
            number = one.data[offset] if offset < len(one.data) else 0
            used.add(number)
            if 0 < number <= len(one.strings):
                found[name] = one.strings[number - 1]
        elif size == "u":
            found[name] = _uuid(one.data[offset : offset + 16])
        elif isinstance(size, int) and offset + size <= len(one.data):
            found[name] = hex(int.from_bytes(one.data[offset : offset + size], "little"))
    found.update({f"string {n}": text for n, text in enumerate(one.strings, 1) if n not in used})
    return found


def _uuid(raw: bytes) -> str:
    """The first three fields are little-endian since SMBIOS 2.6."""
    first, second, third = raw[3::-1].hex(), raw[5:3:-1].hex(), raw[7:5:-1].hex()
    return f"{first}-{second}-{third}-{raw[8:10].hex()}-{raw[10:].hex()}"
