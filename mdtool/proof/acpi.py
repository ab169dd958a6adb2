"""ACPI tables as QEMU hands them to the firmware: split, rid of pointers and checksums, decoded.

etc/acpi/tables is all tables in a row, and etc/table-loader says where each begins and ends (its checksum commands) and
which bytes are pointers that firmware fills in.  What firmware computes is no difference: those bytes count as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mdtool.proof.aml import AmlError, namespace
from mdtool.proof.qtest import QTest
from mdtool.records import dataclass

TABLES, LOADER = "etc/acpi/tables", "etc/table-loader"
POINTER, CHECKSUM = 2, 3
AML = ("DSDT", "SSDT")

HEADER = (
    (0, 4, "signature"),
    (4, 4, "length"),
    (8, 1, "revision"),
    (10, 6, "oem id"),
    (16, 8, "oem table id"),
    (24, 4, "oem revision"),
    (28, 4, "creator id"),
    (32, 4, "creator revision"),
)
TEXTS = {"signature", "oem id", "oem table id", "creator id"}

#: fields behind the header, in the words of the ACPI specification (HPET's and MCFG's: of their own)
FIELDS: Mapping[str, tuple[tuple[int, int, str], ...]] = {
    "FACP": (
        (45, 1, "preferred pm profile"),
        (46, 2, "sci int"),
        (48, 4, "smi cmd"),
        (52, 1, "acpi enable"),
        (53, 1, "acpi disable"),
        (56, 4, "pm1a event block"),
        (64, 4, "pm1a control block"),
        (76, 4, "pm timer block"),
        (80, 4, "gpe0 block"),
        (88, 1, "pm1 event length"),
        (89, 1, "pm1 control length"),
        (91, 1, "pm timer length"),
        (92, 1, "gpe0 length"),
        (96, 2, "c2 latency"),
        (98, 2, "c3 latency"),
        (108, 1, "century"),
        (109, 2, "iapc boot flags"),
        (112, 4, "flags"),
        (116, 12, "reset register"),
        (128, 1, "reset value"),
        (129, 2, "arm boot flags"),
        (131, 1, "minor version"),
    ),
    "HPET": ((36, 4, "event timer block id"), (44, 8, "base"), (52, 1, "number"), (53, 2, "minimum tick")),
    "MCFG": ((44, 8, "base"), (52, 2, "segment"), (54, 1, "start bus"), (55, 1, "end bus")),
    "WAET": ((36, 4, "flags"),),
    "APIC": ((36, 4, "local apic address"), (40, 4, "flags")),
    "DMAR": ((36, 1, "host address width"), (37, 1, "flags")),
    "TPM2": ((36, 2, "platform class"), (40, 8, "control area"), (48, 4, "start method")),
    "SPCR": ((36, 1, "interface type"), (40, 12, "base"), (52, 1, "interrupt type"), (58, 1, "baud rate")),
    "GTDT": ((48, 4, "secure el1 gsiv"), (56, 4, "non-secure el1 gsiv"), (64, 4, "virtual gsiv"), (72, 4, "el2 gsiv")),
}
#: tables that go on with entries: where these start, bytes of type and of length, names of the types
ENTRIES: Mapping[str, tuple[int, int, int, Mapping[int, str]]] = {
    "APIC": (
        44,
        1,
        1,
        {
            0: "local apic",
            1: "i/o apic",
            2: "interrupt override",
            4: "local apic nmi",
            9: "local x2apic",
            10: "local x2apic nmi",
            11: "gicc",
            12: "gicd",
            13: "gic msi frame",
            14: "gicr",
            15: "its",
        },
    ),
    "SRAT": (48, 1, 1, {0: "local apic affinity", 1: "memory affinity", 2: "x2apic affinity", 3: "gicc affinity"}),
    "DMAR": (48, 2, 2, {0: "drhd", 1: "rmrr", 2: "atsr", 3: "rhsa", 4: "andd"}),
    "HMAT": (40, 2, 4, {0: "proximity domain", 1: "latency and bandwidth", 2: "memory side cache"}),
    "PPTT": (36, 1, 1, {0: "processor", 1: "cache", 2: "id"}),
    "NFIT": (40, 2, 2, {0: "spa range", 1: "region mapping", 4: "control region"}),
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table, with pointers and the checksum set to zero."""

    signature: str
    data: bytes


def code(listed: Iterable[Table]) -> dict[str, bytes]:
    """Those with ACPI code: ``{"DSDT": ..., "SSDT": ..., "SSDT 2": ...}``."""
    found: dict[str, bytes] = {}
    for table in listed:
        if table.signature in AML:
            number = sum(name.startswith(table.signature) for name in found) + 1
            found[table.signature if number == 1 else f"{table.signature} {number}"] = table.data
    return found


def tables(blob: bytes, loader: bytes) -> list[Table]:
    """The tables of etc/acpi/tables, in order of signature and then of place."""
    clean = bytearray(blob)
    spans: list[tuple[int, int]] = []
    for at in range(0, len(loader) - 127, 128):
        entry = loader[at : at + 128]
        command = int.from_bytes(entry[:4], "little")
        file = entry[4:60].split(b"\0")[0].decode("latin-1")
        if file != TABLES:
            continue
        if command == POINTER:
            offset, size = int.from_bytes(entry[116:120], "little"), entry[120]
            clean[offset : offset + size] = bytes(size)
        elif command == CHECKSUM:
            offset, start, length = (int.from_bytes(entry[n : n + 4], "little") for n in (60, 64, 68))
            clean[offset] = 0
            spans.append((start, length))
    found = [bytes(clean[start : start + length]) for start, length in sorted(spans)]
    listed = [Table(data[:4].decode("latin-1"), data) for data in found]
    return sorted(listed, key=lambda table: table.signature)


def facts(blob: bytes, loader: bytes) -> dict[str, dict[str, str]]:
    """What the tables say, by subject and field.

    A subject is a table (``APIC``, ``SSDT 2``), an entry of one (``APIC local apic 3``) or an ACPI device
    (``\\_SB.PCI0.S10``); a field of a device is an object right below it (``_SUN``).
    """
    listed = tables(blob, loader)
    found: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    for table in listed:
        counts[table.signature] = number = counts.get(table.signature, 0) + 1
        name = table.signature if number == 1 else f"{table.signature} {number}"
        found[name] = dict(_header(table))
        if table.signature not in AML:
            found[name].update(_fields(table))
            found.update({f"{name} {entry}": said for entry, said in _entries(table)})
    code = [table for table in listed if table.signature in AML]
    try:
        objects = namespace(table.data[36:] for table in code)
    except (AmlError, IndexError, ValueError):
        # Another firmware's AML may hold what this reader does not know; its bytes still say whether it is the same.
        for table in code:
            found.setdefault(table.signature, {})["bytes"] = table.data[36:].hex()
        return found
    for path, text in objects.items():
        subject, fact = _subject(path, text, objects)
        found.setdefault(subject, {})[fact] = text
    return found


def _subject(path: str, text: str, objects: Mapping[str, str]) -> tuple[str, str]:
    """A device is a subject of its own, with the field ``kind``; anything else is a field of what it is in."""
    if _is_scope(text):
        return path, "kind"
    holder, _, name = path.rpartition(".")
    while holder and not _is_scope(objects.get(holder, "")) and holder.count("."):
        above, _, middle = holder.rpartition(".")
        holder, name = above, f"{middle}.{name}"
    return (holder or "\\"), name.lstrip("\\")


def _is_scope(text: str) -> bool:
    return text.startswith(("Device", "Processor", "ThermalZone", "PowerResource"))


def _header(table: Table) -> Iterator[tuple[str, str]]:
    for offset, size, name in HEADER:
        data = table.data[offset : offset + size]
        if name == "length" and table.signature in AML:
            continue  # says that something differs; the objects say what
        yield name, data.decode("latin-1").rstrip("\0 ") if name in TEXTS else hex(int.from_bytes(data, "little"))


def _fields(table: Table) -> Iterator[tuple[str, str]]:
    known = FIELDS.get(table.signature, ())
    covered = set(range(36))
    for offset, size, name in known:
        if offset + size <= len(table.data):
            covered.update(range(offset, offset + size))
            yield name, hex(int.from_bytes(table.data[offset : offset + size], "little"))
    end = ENTRIES[table.signature][0] if table.signature in ENTRIES else len(table.data)
    rest = bytes(byte for offset, byte in enumerate(table.data[:end]) if offset not in covered)
    if any(rest):
        yield "other bytes" if known else "bytes", rest.hex()


def _entries(table: Table) -> Iterator[tuple[str, dict[str, str]]]:
    if table.signature not in ENTRIES:
        return
    at, kind_size, length_size, names = ENTRIES[table.signature]
    counts: dict[str, int] = {}
    while at + kind_size + length_size <= len(table.data):
        kind = int.from_bytes(table.data[at : at + kind_size], "little")
        length_at = at + (4 if length_size == 4 else kind_size)
        length = int.from_bytes(table.data[length_at : length_at + length_size], "little")
        if length < kind_size + length_size:
            break
        name = names.get(kind, f"entry type {kind}")
        number = counts[name] = counts.get(name, -1) + 1
        yield f"{name} {number}", {"bytes": table.data[at : at + length].hex()}
        at += length


def pci_path(subject: str, found: Mapping[str, Mapping[str, str]]) -> str | None:
    """The PCI path of an ACPI device below the first root (``\\_SB.PCI0.S10.S00``: ``02.0/00.0``); None for others.

    A slot of a hot-pluggable bus is a device of its own in ACPI: its ``_ADR`` says which slot and function.
    """
    names = subject.split(".")
    steps = []
    for depth in range(3, len(names) + 1):
        address = found.get(".".join(names[:depth]), {}).get("_ADR")
        if address is None or names[1] != "PCI0" or not address.startswith("0x"):
            return None
        number = int(address, 16)
        steps.append(f"{number >> 16:02x}.{number & 7}")
    return "/".join(steps) or None


def acpi_indexes(qtest: QTest, found: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """``found`` with the field ``acpi-index`` at each device that has one: the number behind Linux's ``eno7``.

    No table holds it: a guest's ``_DSM`` asks the hot-plug controller for it, at the ports that its AML names.
    """
    region = found.get("\\_SB.PCI0", {}).get("BNMR", "")
    said = {subject: dict(fields) for subject, fields in found.items()}
    if not region.startswith("OperationRegion(SystemIO, "):
        return said
    base = int(region.split(", ")[1], 16)
    slots = [
        (subject, int(found[subject.rpartition(".")[0]]["BSEL"], 16), int(fields["ASUN"], 16))
        for subject, fields in found.items()
        if "ASUN" in fields and "BSEL" in found.get(subject.rpartition(".")[0], {})
    ]
    commands = [
        command
        for _, bus, slot in slots
        for command in (f"outl {base:#x} {bus:#x}", f"outl {base + 4:#x} {1 << slot:#x}", f"inl {base + 4:#x}")
    ]
    for (subject, _, _), number in zip(slots, qtest.numbers(commands)[2::3], strict=True):
        if number not in (0, 0xFFFFFFFF):
            said[subject]["acpi-index"] = str(number)
    return said
