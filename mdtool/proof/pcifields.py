"""What the bytes of a PCI configuration space are called: header, capabilities, extended capabilities.

Names and offsets are those of the PCI and PCI Express base specifications, in their words and lower case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mdtool.records import dataclass

Row = tuple[int, int, str]  # offset, bytes, name


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """A named stretch of a configuration space; ``name`` says its capability first: ``pcie slot control``."""

    offset: int
    size: int
    name: str

    def value(self, config: bytes) -> int:
        return int.from_bytes(config[self.offset : self.offset + self.size], "little")

    def text(self, config: bytes) -> str:
        """The value in hex, as wide as the field: ``0x01c0``."""
        return f"{self.value(config):#0{2 + 2 * self.size}x}"


COMMON: Sequence[Row] = (
    (0x00, 2, "vendor"),
    (0x02, 2, "device"),
    (0x04, 2, "command"),
    (0x06, 2, "status"),
    (0x08, 1, "revision"),
    (0x09, 3, "class"),
    (0x0C, 1, "cache line size"),
    (0x0D, 1, "latency timer"),
    (0x0E, 1, "header type"),
    (0x0F, 1, "bist"),
    (0x34, 1, "capabilities pointer"),
    (0x3C, 1, "interrupt line"),
    (0x3D, 1, "interrupt pin"),
)
HEADERS: dict[int, Sequence[Row]] = {
    0: (
        *((0x10 + 4 * n, 4, f"bar {n}") for n in range(6)),
        (0x28, 4, "cardbus cis"),
        (0x2C, 2, "subsystem vendor"),
        (0x2E, 2, "subsystem device"),
        (0x30, 4, "rom bar"),
        (0x3E, 1, "min grant"),
        (0x3F, 1, "max latency"),
    ),
    1: (
        (0x10, 4, "bar 0"),
        (0x14, 4, "bar 1"),
        (0x18, 1, "primary bus"),
        (0x19, 1, "secondary bus"),
        (0x1A, 1, "subordinate bus"),
        (0x1B, 1, "secondary latency timer"),
        (0x1C, 1, "i/o base"),
        (0x1D, 1, "i/o limit"),
        (0x1E, 2, "secondary status"),
        (0x20, 2, "memory base"),
        (0x22, 2, "memory limit"),
        (0x24, 2, "prefetchable base"),
        (0x26, 2, "prefetchable limit"),
        (0x28, 4, "prefetchable base upper"),
        (0x2C, 4, "prefetchable limit upper"),
        (0x30, 2, "i/o base upper"),
        (0x32, 2, "i/o limit upper"),
        (0x38, 4, "rom bar"),
        (0x3E, 2, "bridge control"),
    ),
}

#: capability id: name, registers behind id and next pointer
CAPABILITIES: dict[int, tuple[str, Sequence[Row]]] = {
    0x01: ("pm", ((2, 2, "capabilities"), (4, 2, "control"), (6, 1, "bridge extensions"), (7, 1, "data"))),
    0x02: ("agp", ((2, 2, "version"), (4, 4, "status"), (8, 4, "command"))),
    0x03: ("vpd", ((2, 2, "address"), (4, 4, "data"))),
    0x04: ("slot id", ((2, 1, "expansion slot"), (3, 1, "chassis"))),
    0x05: ("msi", ((2, 2, "control"),)),  # the rest is by its control: _msi
    0x07: ("pcix", ((2, 2, "command"), (4, 4, "status"))),
    0x08: ("ht", ((2, 2, "command"),)),
    0x09: ("vendor", ((2, 1, "length"),)),
    0x0A: ("debug port", ((2, 2, "location"),)),
    0x0C: ("shpc", ((2, 1, "select"), (3, 1, "pending"), (4, 4, "data"))),
    0x0D: ("bridge subsystem", ((4, 2, "vendor"), (6, 2, "device"))),
    0x10: (
        "pcie",
        (
            (2, 2, "flags"),
            (4, 4, "device capabilities"),
            (8, 2, "device control"),
            (10, 2, "device status"),
            (12, 4, "link capabilities"),
            (16, 2, "link control"),
            (18, 2, "link status"),
            (20, 4, "slot capabilities"),
            (24, 2, "slot control"),
            (26, 2, "slot status"),
            (28, 2, "root control"),
            (30, 2, "root capabilities"),
            (32, 4, "root status"),
            (36, 4, "device capabilities 2"),
            (40, 2, "device control 2"),
            (42, 2, "device status 2"),
            (44, 4, "link capabilities 2"),
            (48, 2, "link control 2"),
            (50, 2, "link status 2"),
            (52, 4, "slot capabilities 2"),
            (56, 2, "slot control 2"),
            (58, 2, "slot status 2"),
        ),
    ),
    0x11: ("msix", ((2, 2, "control"), (4, 4, "table"), (8, 4, "pending bits"))),
    0x12: ("sata", ((2, 2, "revision"), (4, 4, "location"))),
    0x13: ("af", ((2, 1, "length"), (3, 1, "capabilities"), (4, 1, "control"), (5, 1, "status"))),
    0x14: ("ea", ((2, 2, "entries"),)),
}

VIRTIO = 0x1AF4
VIRTIO_KINDS = {1: "common", 2: "notify", 3: "isr", 4: "device", 5: "cfg access", 8: "shared memory"}
VIRTIO_ROWS: Sequence[Row] = (
    (3, 1, "type"),
    (4, 1, "bar"),
    (5, 1, "id"),
    (8, 4, "structure offset"),
    (12, 4, "structure length"),
)

#: extended capability id: name, registers behind the 4-byte header
EXTENDED: dict[int, tuple[str, Sequence[Row]]] = {
    0x0001: (
        "aer",
        (
            (4, 4, "uncorrectable status"),
            (8, 4, "uncorrectable mask"),
            (12, 4, "uncorrectable severity"),
            (16, 4, "correctable status"),
            (20, 4, "correctable mask"),
            (24, 4, "control"),
            (44, 4, "root command"),
            (48, 4, "root status"),
            (52, 4, "error source"),
        ),
    ),
    0x0002: ("vc", ((4, 4, "capabilities 1"), (8, 4, "capabilities 2"), (12, 2, "control"), (14, 2, "status"))),
    0x0003: ("serial number", ((4, 8, "number"),)),
    0x0004: ("power budget", ((4, 1, "select"), (8, 4, "data"), (12, 1, "capabilities"))),
    0x000B: ("vendor extended", ((4, 4, "header"),)),
    0x000D: ("acs", ((4, 2, "capabilities"), (6, 2, "control"))),
    0x000E: ("ari", ((4, 2, "capabilities"), (6, 2, "control"))),
    0x000F: ("ats", ((4, 2, "capabilities"), (6, 2, "control"))),
    0x0010: (
        "sriov",
        (
            (4, 4, "capabilities"),
            (8, 2, "control"),
            (10, 2, "status"),
            (12, 2, "initial vfs"),
            (14, 2, "total vfs"),
            (16, 2, "vfs"),
            (20, 2, "first vf offset"),
            (22, 2, "vf stride"),
            (26, 2, "vf device"),
            (28, 4, "page sizes"),
            (32, 4, "page size"),
            *((36 + 4 * n, 4, f"bar {n}") for n in range(6)),
        ),
    ),
    0x0013: ("pri", ((4, 2, "control"), (6, 2, "status"), (8, 4, "capacity"))),
    0x0018: ("ltr", ((4, 2, "max snoop latency"), (6, 2, "max no-snoop latency"))),
    0x0019: ("secondary pcie", ((4, 4, "link control 3"), (8, 4, "lane errors"))),
    0x001B: ("pasid", ((4, 2, "capabilities"), (6, 2, "control"))),
    0x0023: ("dvsec", ((4, 4, "header 1"), (8, 2, "header 2"))),
    0x002E: ("doe", ((4, 4, "capabilities"), (8, 4, "control"), (12, 4, "status"))),
}

INDICATOR = ("reserved", "on", "blink", "off")
SWITCH = ("no", "yes")
#: bits of registers that say what a slot can do: field name: (lowest bit, name, values)
BITS: dict[str, Sequence[tuple[int, str, Sequence[str]]]] = {
    "pcie slot control": (
        (0, "attention button enabled", SWITCH),
        (1, "power fault enabled", SWITCH),
        (3, "presence enabled", SWITCH),
        (5, "hot-plug interrupt enabled", SWITCH),
        (6, "attention indicator", INDICATOR),
        (8, "power indicator", INDICATOR),
        (10, "power", ("on", "off")),
        (11, "interlock", SWITCH),
    ),
    "pcie slot capabilities": (
        (0, "attention button", SWITCH),
        (1, "power controller", SWITCH),
        (3, "attention indicator", SWITCH),
        (4, "power indicator", SWITCH),
        (5, "hot-plug surprise", SWITCH),
        (6, "hot-plug capable", SWITCH),
        (17, "interlock", SWITCH),
    ),
    "command": ((0, "i/o", SWITCH), (1, "memory", SWITCH), (2, "bus master", SWITCH)),
}

CLASSES = {
    0x0100: "SCSI controller",
    0x0101: "IDE controller",
    0x0106: "SATA controller",
    0x0108: "NVMe controller",
    0x0180: "storage controller",
    0x0200: "network controller",
    0x0280: "network controller",
    0x0300: "VGA controller",
    0x0380: "display controller",
    0x0401: "audio device",
    0x0403: "audio device",
    0x0500: "RAM",
    0x0502: "CXL memory",
    0x0580: "memory controller",
    0x0600: "host bridge",
    0x0601: "ISA bridge",
    0x0604: "PCI bridge",
    0x0680: "bridge",
    0x0700: "serial port",
    0x0780: "communication controller",
    0x0805: "SD host controller",
    0x0806: "IOMMU",
    0x0880: "system peripheral",
    0x0900: "keyboard",
    0x0980: "input device",
    0x0C03: "USB controller",
    0x0C05: "SMBus",
    0x0C07: "IPMI",
    0x0D00: "wireless",
    0x00FF: "device",
    0x0002: "virtio device",
    0x1000: "crypto device",
}


def class_name(config: bytes) -> str:
    """``network controller``; ``class 0x1180`` where the table has no name."""
    number = int.from_bytes(config[0x0A:0x0C], "little")
    return CLASSES.get(number, f"class {number:#06x}")


def capabilities(config: bytes) -> Iterator[tuple[int, int]]:
    """(offset, id) of each capability in the order of the list; a loop in the list ends it."""
    offset, seen = config[0x34] & ~3 if config[0x06] & 0x10 else 0, set()
    while 0x40 <= offset < 0x100 and offset not in seen:
        seen.add(offset)
        yield offset, config[offset]
        offset = config[offset + 1] & ~3


def extended_capabilities(config: bytes) -> Iterator[tuple[int, int]]:
    """(offset, id) of each extended capability; none where only 256 bytes are known."""
    offset, seen = 0x100, set()
    while 0x100 <= offset <= len(config) - 4 and offset not in seen:
        seen.add(offset)
        word = int.from_bytes(config[offset : offset + 4], "little")
        if word in (0, 0xFFFFFFFF):
            return
        yield offset, word & 0xFFFF
        offset = word >> 20


def fields(config: bytes) -> list[Field]:
    """Every named field of ``config``, by offset; fields of capabilities carry the capability's name.

    >>> [str(f.name) for f in fields(bytes(256))][:2]
    ['vendor', 'device']
    """
    header = config[0x0E] & 0x7F
    found = [Field(*row) for row in (*COMMON, *HEADERS.get(header, ()))]
    for offset, number in capabilities(config):
        name, rows = _capability(config, offset, number)
        found.append(Field(offset, 1, f"{name} capability id"))
        found.append(Field(offset + 1, 1, f"{name} next"))
        found += [Field(offset + at, size, f"{name} {what}") for at, size, what in rows]
    for offset, number in extended_capabilities(config):
        name, rows = EXTENDED.get(number, (f"extended capability {number:#06x}", ()))
        found.append(Field(offset, 4, f"{name} header"))
        found += [Field(offset + at, size, f"{name} {what}") for at, size, what in rows]
    return sorted(found)


def capability_names(config: bytes) -> list[str]:
    """``['msix@98', 'virtio common@84', ..., 'aer@100']``, in the order of the lists."""
    plain = [f"{_capability(config, offset, number)[0]}@{offset:x}" for offset, number in capabilities(config)]
    more = [
        f"{EXTENDED.get(number, (f'extended {number:#06x}', ()))[0]}@{offset:x}"
        for offset, number in extended_capabilities(config)
    ]
    return plain + more


def _capability(config: bytes, offset: int, number: int) -> tuple[str, Sequence[Row]]:
    name, rows = CAPABILITIES.get(number, (f"capability {number:#04x}", ()))
    if number == 0x05:
        return name, (*rows, *_msi(config, offset))
    if number == 0x09 and int.from_bytes(config[:2], "little") == VIRTIO:
        kind = config[offset + 3]
        return f"virtio {VIRTIO_KINDS.get(kind, kind)}", (*rows, *VIRTIO_ROWS)
    return name, rows


def _msi(config: bytes, offset: int) -> Iterator[Row]:
    control = int.from_bytes(config[offset + 2 : offset + 4], "little")
    yield 4, 4, "address"
    after = 8
    if control & 0x80:
        yield 8, 4, "address upper"
        after = 12
    yield after, 2, "data"
    if control & 0x100:
        yield after + 4, 4, "mask"
        yield after + 8, 4, "pending"


def bits_to_text(name: str, old: int, new: int) -> str:
    """Which bits of a register differ, in words; "" where the table has none for it.

    >>> bits_to_text("pcie slot control", 0x01C0, 0x03C0)
    'power indicator on -> off'
    """
    said = []
    for low, what, values in BITS.get(name, ()):
        mask = len(values) - 1
        before, after = old >> low & mask, new >> low & mask
        if before != after:
            said.append(f"{what} {values[before]} -> {values[after]}")
    return ", ".join(said)
