"""What a guest sees of its machine, read without a guest.

    fingerprint_from_argv    start a command line paused, read everything, end it
    fingerprint_to_text      one line a device or table, for git
    fingerprint_to_json      all of it, for ``compare``; fingerprint_from_json reads it back

What is read: PCI configuration space, BARs and ROMs of every function (``pci``), what virtio devices offer
(``virtio``), ACPI (``acpi``), SMBIOS (``smbios``), the other fw_cfg files (``fw_cfg``), the memory map (``e820``),
the image at the reset vector (``firmware``), CPUID (``cpu``), and the device tree of an arm machine (``dtb``).
``unread`` names what this machine has not, or what this reader cannot see: a check says what it was a check of.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mdtool.errors import InputError
from mdtool.limits import MAX_BYTES
from mdtool.machine.document import FINGERPRINT, check_kind
from mdtool.proof import acpi, cpuid, fdt, fwcfg, pci, smbios, virtio
from mdtool.proof.pcifields import capability_names, class_name, fields
from mdtool.proof.probe import Probe, probed
from mdtool.qemu.session import Refused
from mdtool.records import dataclass, field, replace

FORMAT = "fingerprint/1"
ROM_WINDOW = 0xE0000000  # free PCI memory on pc and q35, above ECAM (0xb0000000) and below the I/O APIC
FIRMWARE_BYTES = 256 << 10  # what x86 has mapped below 4 GiB, whatever the firmware
FLASH_BYTES = 2 << 20  # of the first bank of virt: the code is longer, and in its beginning no two builds are alike
BOOT_ORDER = "bootorder"

#: facts: section, subject, field: text.  JSON as it is, compared as it is.
Facts = Mapping[str, Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What one machine shows to a guest.

    ``qemu``       the version that showed it, ``7.2.22``; no part of a comparison
    ``machine``    ``pc-q35-7.2``
    ``arch``       QEMU's name of the target, ``x86_64``
    ``functions``  PCI, in the order of enumeration
    ``facts``      all the rest: section, subject, field, text
    ``unread``     sections that were not read, with the reason
    ``aml``        ACPI code as bytes, without pointers and checksums: what ``asl_changes`` disassembles; ``facts`` has
                   all that is in it
    """

    qemu: str
    machine: str
    arch: str
    functions: tuple[pci.Function, ...] = ()
    facts: Facts = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    aml: Mapping[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return fingerprint_to_text(self)


def fingerprint_from_argv(argv: Sequence[str], *, root: str | Path | None = None) -> Fingerprint:
    """Start ``argv`` (a whole QEMU command line) paused under TCG, read what a guest would see, and end it.

    ``root`` is a folder with another distribution's QEMU.  Takes 0.2 to 0.8 s.  QemuError where it does not start.
    """
    with probed(argv, root=root) as probe:
        return fingerprint_from_probe(probe)


def fingerprint_from_probe(probe: Probe) -> Fingerprint:
    """Read a machine that stands still; it is not the same afterwards (bridges have numbers), and must not run."""
    session = probe.session
    arch = str(session.execute("query-target")["arch"])
    machine = str(session.execute("qom-get", {"path": "/machine", "property": "type"})).removesuffix("-machine")
    version = ".".join(map(str, session.version))
    reader = READERS.get(arch)
    if reader is None or (reader is _virt and not machine.startswith("virt")):
        why = (f"everything but the CPU: {machine} of {arch} is not a known machine type",)
        return Fingerprint(version, machine, arch, facts={"cpu": cpuid.facts(session)}, unread=why)
    functions, facts, unread, aml = reader(probe)
    facts = {"cpu": cpuid.facts(session), **facts}
    shown = {name: said for name, said in facts.items() if said}
    return Fingerprint(version, machine, arch, functions, shown, unread, aml)


Sections = dict[str, dict[str, dict[str, str]]]
Read = tuple[tuple[pci.Function, ...], Sections, tuple[str, ...], Mapping[str, bytes]]


def _x86(probe: Probe) -> Read:
    qtest, door = probe.qtest, fwcfg.Door.ports()
    listed = fwcfg.directory(qtest, door)
    way: pci.Way | None = pci.ecam_of_q35(qtest)
    if way is None and qtest.numbers(pci.Ports().read(0, 0, 0))[-1] & 0xFFFF not in (0, 0xFFFF):
        way = pci.Ports()
    unread = [] if way else ["pci: nothing answers at ports 0xcf8 and 0xcfc"]
    found = _enumerated(probe, way, door, listed, ROM_WINDOW) if way else []
    facts, aml = _fw_cfg_facts(probe, door, listed)
    image = qtest.memory((1 << 32) - FIRMWARE_BYTES, FIRMWARE_BYTES)
    facts["firmware"] = {"below 4 GiB": {"sha256": hashlib.sha256(image).hexdigest()}}
    if way:
        facts["virtio"] = virtio.facts(qtest, way, found)
    if not listed:
        unread.append("acpi, smbios, e820, fw_cfg: the machine has no fw_cfg")
    unread += _closed(found)
    return tuple(one.function for one in found), facts, tuple(unread), aml


def _virt(probe: Probe) -> Read:
    qtest = probe.qtest
    blob = fdt.fdt_from_bytes(_device_tree(probe))
    aml: Mapping[str, bytes] = {}
    facts: Sections = {"dtb": fdt.facts(blob), "firmware": _in_flash(probe, blob)}
    memory = min(fdt.cells(node["reg"], [2])[0] for path, node in blob.items() if path.startswith("/memory"))
    config = fdt.compatible(blob, "qemu,fw-cfg-mmio")
    host = fdt.compatible(blob, "pci-host-ecam-generic")
    door = fwcfg.Door.memory(fdt.cells(config["reg"], [2])[0], memory + (2 << 20)) if config else None
    unread: list[str] = []
    listed: Mapping[str, fwcfg.File] = {}
    if door is None:
        unread.append("acpi, smbios, fw_cfg: the machine has no fw_cfg")
    else:
        listed = fwcfg.directory(qtest, door)
    found: list[pci.Found] = []
    if host is None:
        unread.append("pci: the device tree has no PCI Express host")
    else:
        base, size = fdt.cells(host["reg"], [2, 2])
        way = pci.Ecam(base, size >> 20)
        found = _enumerated(probe, way, door, listed, _window(host["ranges"]))
        facts["virtio"] = virtio.facts(qtest, way, found)
    if door is not None:
        more, aml = _fw_cfg_facts(probe, door, listed)
        facts.update(more)
    unread += _closed(found)
    return tuple(one.function for one in found), facts, tuple(unread), aml


def _in_flash(probe: Probe, blob: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, str]]:
    """The firmware of virt; nothing where the bank is empty: without firmware, or with it in memory (riscv)."""
    bank = fdt.compatible(blob, "cfi-flash")
    image = probe.qtest.memory(fdt.cells(bank["reg"], [2])[0], FLASH_BYTES) if bank else b""
    return {"in flash": {"sha256": hashlib.sha256(image).hexdigest()}} if image.strip(image[:1]) else {}


def _closed(found: Sequence[pci.Found]) -> list[str]:
    bridges = sum(one.function.header == pci.BRIDGE for one in found)
    return [f"pci: what is behind the last of {bridges} bridges: there are more than bus numbers"] * (bridges >= pci.BUSES)


def _device_tree(probe: Probe) -> bytes:
    """QEMU writes the blob itself since 7.2; before, it lies at the bottom of the RAM of virt."""
    with TemporaryDirectory(prefix="mdtool-") as folder:
        path = Path(folder) / "dtb"
        try:
            probe.session.execute("dumpdtb", {"filename": str(path)})
        except Refused:
            return probe.qtest.memory(0x40000000, 1 << 20)
        return path.read_bytes()


def _window(ranges: bytes) -> int:
    """Where 32-bit PCI memory starts: the range whose first cell says space 2."""
    for at in range(0, len(ranges), 28):
        space, _, cpu, _ = fdt.cells(ranges[at : at + 28], [1, 2, 2, 2])
        if space >> 24 & 3 == 2:
            return cpu
    return 0x10000000


READERS: Mapping[str, Callable[[Probe], Read]] = {
    "x86_64": _x86,
    "i386": _x86,
    "aarch64": _virt,
    "arm": _virt,
    "riscv64": _virt,
}


def _enumerated(
    probe: Probe, way: pci.Way, door: fwcfg.Door | None, listed: Mapping[str, fwcfg.File], window: int
) -> list[pci.Found]:
    """Every function, sized, with its ROM and QEMU's id; the bridges stay open, as firmware leaves them."""
    roots = [0]
    if door is not None and "etc/extra-pci-roots" in listed:
        file = listed["etc/extra-pci-roots"]
        count = int.from_bytes(fwcfg.read_keys(probe.qtest, door, [(file.key, file.size)])[0], "little")
        roots += pci.extra_roots(probe.qtest, way, count)
    found = pci.enumerate_functions(probe.qtest, way, roots)
    found = pci.with_roms(probe.qtest, way, pci.sized(probe.qtest, way, found), window)
    ids = dict(_ids(probe.session.execute("query-pci")))
    return [replace(one, function=replace(one.function, id=ids.get((one.bus, one.devfn), ""))) for one in found]


def _ids(buses: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[int, int], str]]:
    """((bus, devfn), id) from the answer of query-pci, which knows the numbers that were just given."""
    for bus in buses:
        for device in bus.get("devices", ()):
            yield (device["bus"], device["slot"] << 3 | device["function"]), str(device.get("qdev_id", ""))
            if "pci_bridge" in device:
                yield from _ids([device["pci_bridge"]])


def _fw_cfg_facts(probe: Probe, door: fwcfg.Door, listed: Mapping[str, fwcfg.File]) -> tuple[Sections, Mapping[str, bytes]]:
    if not listed:
        return {}, {}
    files = fwcfg.with_data(probe.qtest, door, listed.values())
    data = {name: file.data for name, file in files.items() if file.data is not None}
    aml: Mapping[str, bytes] = {}
    facts: Sections = {"fw_cfg": {"numbers": fwcfg.numbers(probe.qtest, door)}}
    for name, file in files.items():
        if name not in DECODED:
            facts["fw_cfg"][name] = {"size": str(file.size), "sha256": file.sha256 or "not read: too large"}
    if data.get(BOOT_ORDER):
        lines = data[BOOT_ORDER].rstrip(b"\0").decode("utf-8", "replace").splitlines()
        facts["fw_cfg"][BOOT_ORDER] = {str(number): line for number, line in enumerate(lines, 1)}
    if acpi.TABLES in data and acpi.LOADER in data:
        facts["acpi"] = acpi.acpi_indexes(probe.qtest, acpi.facts(data[acpi.TABLES], data[acpi.LOADER]))
        aml = acpi.code(acpi.tables(data[acpi.TABLES], data[acpi.LOADER]))
    facts["smbios"] = smbios.facts(data)
    facts["e820"] = fwcfg.e820(data.get(E820, b""))
    return facts, aml


E820 = "etc/e820"
DECODED = frozenset({acpi.TABLES, acpi.LOADER, "etc/acpi/rsdp", smbios.TABLES, smbios.ANCHOR, E820})


# -- text


def fingerprint_to_text(fingerprint: Fingerprint) -> str:
    """One line a PCI function, an ACPI device, a table, a structure; sorted as read; long values as a hash.

    The version of QEMU is not in it, so that an upgrade that changes nothing changes no line.
    """
    lines = [f"machine {fingerprint.machine} {fingerprint.arch}"]
    lines += [_function_line(function) for function in fingerprint.functions]
    for section, subjects in fingerprint.facts.items():
        for subject, said in subjects.items():
            pairs = " ".join(f"{_word(name)}={_short(name, value)}" for name, value in said.items())
            lines.append(f"{section} {_word(subject)}: {pairs}".rstrip())
    lines += [f"unread {what}" for what in fingerprint.unread]
    return "\n".join(lines) + "\n"


#: shown by the line itself, or the shape of the lists
_PLAIN = frozenset(
    {"vendor", "device", "class", "subsystem vendor", "subsystem device", "header type", "capabilities pointer"}
)


def _function_line(function: pci.Function) -> str:
    vendor, device, *subsystem = function.identity
    ids = f"{vendor:04x}:{device:04x}" + (" {:04x}:{:04x}".format(*subsystem) if any(subsystem) else "")
    said = [
        f"{_word(one.name)}={one.value(function.config):#x}"
        for one in fields(function.config)
        if one.name not in _PLAIN
        and not one.name.endswith((" capability id", " next", " header"))
        and not one.name.startswith("bar ")
        and one.offset + one.size <= len(function.config)
        and one.value(function.config)
    ]
    parts = [
        f"pci {function.path}{f' ({function.id})' if function.id else ''} {ids} {class_name(function.config)}",
        *map(str, function.bars),
        *([str(function.rom)] if function.rom else []),
        " ".join(capability_names(function.config)),
        " ".join(said),
        f"config {hashlib.sha256(function.config).hexdigest()[:12]}",
    ]
    return "; ".join(part for part in parts if part)


def _word(text: str) -> str:
    return text.replace(" ", "-")


def _short(name: str, value: str) -> str:
    if len(value) > 48 and name != "names":
        return "#" + hashlib.sha256(value.encode()).hexdigest()[:12]
    return json.dumps(value) if " " in value and not value.startswith(('"', "{", "<")) else value


def fingerprint_to_json(fingerprint: Fingerprint) -> str:
    """All of it; ``fingerprint_from_json`` gives the same back."""
    document = {
        "mdtool": FORMAT,
        "qemu": fingerprint.qemu,
        "machine": fingerprint.machine,
        "arch": fingerprint.arch,
        "pci": [_function_to_data(function) for function in fingerprint.functions],
        **fingerprint.facts,
        "unread": list(fingerprint.unread),
        "aml": {name: b64encode(zlib.compress(code, 9)).decode() for name, code in fingerprint.aml.items()},
    }
    return json.dumps(document, indent=1) + "\n"


def _function_to_data(function: pci.Function) -> dict[str, Any]:
    return {
        "path": function.path,
        "id": function.id,
        "config": function.config.rstrip(b"\0").hex(),
        "size": len(function.config),
        "bars": [[bar.index, bar.kind, bar.prefetchable, bar.size] for bar in function.bars],
        "rom": [function.rom.size, function.rom.sha256] if function.rom else None,
    }


def _inflated(data: bytes) -> bytes:
    """The ACPI code that was packed; raises ValueError where it is more than any machine has."""
    unpacker = zlib.decompressobj()
    code = unpacker.decompress(data, MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError("too much ACPI code")
    return code


def fingerprint_from_json(text: str, file: str = "fingerprint") -> Fingerprint:
    """Read what ``fingerprint_to_json`` wrote; InputError where it is something else."""
    try:
        document = json.loads(text)
        if document.pop("mdtool") != FORMAT:
            raise ValueError
        qemu, machine, arch = document.pop("qemu"), document.pop("machine"), document.pop("arch")
        functions = tuple(_function_from_data(data) for data in document.pop("pci"))
        unread = tuple(document.pop("unread"))
        aml = {name: _inflated(b64decode(text)) for name, text in document.pop("aml", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
        check_kind(text, file, FINGERPRINT)
        raise InputError(f"{file} is not a fingerprint", expected=f"JSON with mdtool: {FORMAT}") from None
    return Fingerprint(qemu, machine, arch, functions, document, unread, aml)


def _function_from_data(data: Mapping[str, Any]) -> pci.Function:
    config = bytes.fromhex(data["config"]).ljust(data["size"], b"\0")
    bars = tuple(pci.Bar(*bar) for bar in data["bars"])
    return pci.Function(data["path"], config, bars, pci.Rom(*data["rom"]) if data["rom"] else None, data["id"])
