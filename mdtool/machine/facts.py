"""What QEMU refuses and takes, as data: measured on QEMU 7.2 and read off its sources, not guessed.

``tests/review/test_check_corpus.py`` holds these tables against a real QEMU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mdtool.machine.buses.kinds import PCI_BUSES
from mdtool.machine.buses.providers import buses_of, provider_of
from mdtool.machine.tree import Node, Value
from mdtool.machine.values import number, plain
from mdtool.records import NamedTuple
from mdtool.text import pattern


class Property(NamedTuple):
    """One property of a driver: QEMU's type name, description and default, each None where QEMU says none."""

    type: str
    description: str | None = None
    default: Any = None


# --- buses -----------------------------------------------------------------------------------------------------------


def buses_for(bus: str) -> frozenset[str]:
    """The bus types that fit where QEMU says that a driver needs ``bus``; a proxy stands for a virtio device behind it."""
    return {"PCI": PCI_BUSES, "virtio-bus": frozenset({"virtio-mmio-bus", "virtio-bus"})}.get(bus, frozenset({bus}))


#: drivers that provide no bus at all, whatever a description says
_ENDPOINTS = pattern(
    r"virtio-(net|blk|gpu|vga|rng|balloon|input|keyboard|tablet|mouse|9p|crypto|iommu|mem|pmem)|e1000|rtl8139|"
    r"VGA$|bochs-display|cirrus-vga|i6300esb|usb-(tablet|kbd|mouse|hub|wacom-tablet|serial|net)$|scsi-(hd|cd)|ide-(hd|cd)|"
    r"virt(serialport|console)|isa-serial"
)


def provided(node: Node) -> Mapping[str, str] | None:
    """{bus name: bus type} that a device provides; None where these tables do not know."""
    if _ENDPOINTS.match(node.driver):
        return {}
    return {bus.name: bus.type for bus in buses_of(node.driver, node.id)} or None


# --- one of a kind ---------------------------------------------------------------------------------------------------

SINGLE: Mapping[str, re.Pattern[str]] = {
    "balloon": pattern(r"virtio-balloon(-(pci|ccw|device))?(-(non-)?transitional)?"),
    "vmcoreinfo": pattern("vmcoreinfo"),
    "vmgenid": pattern("vmgenid"),
    "IOMMU": pattern("intel-iommu|amd-iommu"),
    "ISA pvpanic": pattern("pvpanic"),
}

# --- values ----------------------------------------------------------------------------------------------------------

MAC = pattern(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
#: devices that come with a machine or a CPU model, and that no list of drivers names
FROM_MACHINE = pattern(r"-cpu$|-core$|^pc-dimm$|^nvdimm$")
RANGES: Mapping[str, tuple[int, int]] = {
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
_ENUM = pattern(r"(?:^|, )([a-z0-9_]+(?:/[a-z0-9_]+)+)$")
_SIZE = pattern(r"([0-9]+(\.[0-9]+)?)[bkmgtpeBKMGTPE]?|0x[0-9a-fA-F]+")
_PLAIN_TYPES = frozenset({"bool", "str", "size", "string", *RANGES})
#: values that a driver itself refuses, whatever their type says
_REFUSES: Mapping[tuple[str, str], tuple[Callable[[int], bool], str]] = {
    ("virtio-net", "rx_queue_size"): (lambda n: 256 <= n <= 1024 and n & (n - 1) == 0, "a power of two from 256 to 1024"),
    ("virtio-net", "tx_queue_size"): (lambda n: 256 <= n <= 1024 and n & (n - 1) == 0, "a power of two from 256 to 1024"),
    ("virtio-serial", "max_ports"): (lambda n: 1 <= n <= 511, "1 to 511"),
    ("pci-ohci", "num-ports"): (lambda n: 1 <= n <= 15, "1 to 15"),
    ("isa-serial", "index"): (lambda n: n < 4 or n == 2**32 - 1, "0 to 3"),
    ("isa-parallel", "index"): (lambda n: n < 3 or n == 2**32 - 1, "0 to 2"),
    ("usb-hub", "ports"): (lambda n: 1 <= n <= 8, "1 to 8"),
}


def refused(driver: str, name: str, known: Property, value: Value) -> str | None:
    """What a property takes, where it does not take ``value``; None where it does, or where QEMU does not say.

    >>> refused("e1000", "rombar", Property("uint32"), -1)
    'a number from 0 to 4294967295'
    """
    said = plain(value)
    if said is None or isinstance(said, (dict, list)):
        return None
    text = str(said)
    if known.type == "bool":
        return None if text in ("on", "off") else "true or false"
    if name in ("bus", "addr", "id"):
        return None
    if known.type in RANGES:
        low, high = RANGES[known.type]
        if not re.fullmatch(r"-?[0-9]{1,40}", text) or not low <= int(text) <= high:
            return f"a number from {low} to {high}"
        rule = next((rule for (start, key), rule in _REFUSES.items() if key == name and driver.startswith(start)), None)
        return None if rule is None or rule[0](int(text)) else rule[1]
    if known.type == "size":
        if not _SIZE.fullmatch(text):
            return "a size: 65536, 64k"
        is_block = known.description is not None and "power of two between 512" in known.description
        size = number(text, 512)
        fits = size == 0 or (512 <= size <= 2**21 and size & (size - 1) == 0)  # 0 leaves it to QEMU
        return "a power of two from 512 to 2097152" if is_block and not fits else None
    words = words_of(known)
    return None if not words or text in words else "one of " + ", ".join(words)


def words_of(known: Property) -> list[str]:
    """The words that a property takes, as its description lists them (``on/off/auto``); empty where it does not.

    >>> words_of(Property("OnOffAuto", "on/off/auto"))
    ['on', 'off', 'auto']
    """
    found = _ENUM.search(known.description or "") if known.type not in _PLAIN_TYPES else None
    return found[1].split("/") if found else []


def near(word: str, words: Iterable[str]) -> list[str]:
    """Words like ``word``, the likeliest first; at most five.

    >>> near("virtio-nic-pci", ["virtio-net-pci", "e1000"])
    ['virtio-net-pci']
    """
    import difflib  # only where something is wrong

    return difflib.get_close_matches(word, list(words), n=5, cutoff=0.6)


#: what a device is for that provides a bus: its type -> the kind
_KINDS_BY_BUS: Mapping[str, str] = {
    **dict.fromkeys(PCI_BUSES, "bridge"),
    **dict.fromkeys(("SCSI", "IDE", "floppy-bus", "nvme-bus"), "storage"),
    **dict.fromkeys(("usb-bus", "ccid-bus"), "usb"),
    "virtio-serial-bus": "serial",
    "HDA": "sound",
}
#: what any other device is for, by its driver; the first row that matches wins
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("bridge", pattern(r".*pcihost")),
    ("network", pattern(r"virtio-net|e1000|rtl8139|ne2k|pcnet|vmxnet3|igb|i82|usb-net|spapr-vlan|tulip|rocker")),
    ("storage", pattern(r"virtio-(blk|9p|pmem)|vhost-(user-(blk|fs|scsi)|scsi)|scsi-|ide-|nvme|.*ahci|.*-ide$|"
                           r"usb-(storage|mtp)|floppy|sd-card|sdhci")),
    ("display", pattern(r"(secondary-)?VGA|.*-vga|virtio-gpu|bochs|qxl|cirrus|vmware-svga|ramfb|ati")),
    ("usb", pattern(r".*[xeuo]hci|ich9-usb-|usb-(hub|host|redir)")),
    ("input", pattern(r"usb-(tablet|kbd|mouse|wacom)|virtio-(keyboard|mouse|tablet|input)|ps2|i8042|vmmouse")),
    ("serial", pattern(r"virt(serialport|console)|isa-(serial|parallel)|usb-serial|pl011|spapr-vty|sclp")),
    ("sound", pattern(r"hda-|AC97|ES1370|sb16|usb-audio|virtio-sound")),
    ("processor", pattern(r".*-cpu$|pc-dimm|nvdimm|virtio-mem")),
)  # fmt: skip


def kind_of(driver: str) -> str:
    """
    >>> kind_of("virtio-net-pci"), kind_of("pcie-root-port"), kind_of("mch")
    ('network', 'bridge', 'other')
    """
    if (kind := _KINDS_BY_BUS.get(provider_of(driver).bus)) is not None:
        return kind
    return next((kind for kind, pattern in KINDS if pattern.match(driver)), "other")
