"""What QEMU refuses and takes, as data: measured on QEMU 7.2 and read off its sources, not guessed.

``tests/review/test_check_corpus.py`` holds these tables against a real QEMU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mdtool.guest.place import NOTATIONS, buses_of
from mdtool.machine.tree import Bus, Node, Place, Properties, Tree, Value
from mdtool.machine.values import plain

if TYPE_CHECKING:
    from mdtool.qemu.introspect import Property

# --- buses -----------------------------------------------------------------------------------------------------------

PCI_BUSES = frozenset({"PCI", "PCIE", "CXL", "pxb-bus", "pxb-pcie-bus", "pxb-cxl-bus"})
EXPANDERS = frozenset({"pxb-bus", "pxb-pcie-bus", "pxb-cxl-bus"})
#: expanders that hold ports and bridges only; a ``pxb`` brings a bridge of its own, and holds anything
PORTS_ONLY = EXPANDERS - {"pxb-bus"}

#: what a row of ``place.NOTATIONS`` sits on
_HOMES: Mapping[str, frozenset[str]] = {
    "usb": frozenset({"usb-bus"}),
    "scsi": frozenset({"SCSI"}),
    "ide": frozenset({"IDE"}),
    "floppy": frozenset({"floppy-bus"}),
    "virtio-serial": frozenset({"virtio-serial-bus"}),
    "ccid": frozenset({"ccid-bus"}),
    "hda": frozenset({"HDA"}),
    "isa": frozenset({"ISA"}),
    "ccw": frozenset({"virtual-css-bus"}),
    "spapr-vio": frozenset({"spapr-vio-bus"}),
    "mmio": frozenset({"virtio-mmio-bus"}),
    "system": frozenset({"System"}),
}
#: buses about which these tables know enough to say that something cannot go there
KNOWN_BUSES = frozenset().union(*_HOMES.values(), PCI_BUSES)
_PCI = re.compile(
    r".*-pci(-(non-)?transitional)?$|e1000|virtio-vga|(secondary-)?VGA$|cirrus-vga|vmware-svga|bochs-display|ati-vga|qxl|"
    r"ne2k_pci|rtl8139|pcnet|i82|vmxnet3|igb$|tulip|rocker|ich9-(ahci|usb|intel-hda)|ahci$|piix[34]-|nvme$|qemu-xhci|"
    r"nec-usb-xhci|(ich9-)?usb-[eu]hci|usb-ehci|pci-|pcie-|ioh3420|x3130|xio3130|i6300esb|ES1370|AC97|intel-hda|megasas|"
    r"mptsas|lsi53|lsi$|pvscsi|am53c974|dc-?390|ivshmem|edu$|sdhci-pci|pxb|vfio-pci(-nohotplug)?$"
)


def homes(driver: str) -> frozenset[str]:
    """The types of bus that a driver sits on; empty where these tables do not know it.

    >>> homes("usb-tablet"), "PCIE" in homes("e1000e"), homes("fw_cfg_io")
    (frozenset({'usb-bus'}), True, frozenset())
    """
    if _PCI.match(driver):
        return PCI_BUSES
    return next(
        (_HOMES[name] for name, row in NOTATIONS.items() if name in _HOMES and row.drivers.match(driver)), frozenset()
    )


def buses_for(bus: str) -> frozenset[str]:
    """The bus types that fit where QEMU says that a driver needs ``bus``; a proxy stands for a virtio device behind it."""
    return {"PCI": PCI_BUSES, "virtio-bus": frozenset({"virtio-mmio-bus", "virtio-bus"})}.get(bus, frozenset({bus}))


#: drivers that provide no bus at all, whatever a description says
_ENDPOINTS = re.compile(
    r"virtio-(net|blk|gpu|vga|rng|balloon|input|keyboard|tablet|mouse|9p|crypto|iommu|mem|pmem)|e1000|rtl8139|"
    r"VGA$|bochs-display|cirrus-vga|i6300esb|usb-(tablet|kbd|mouse|hub|wacom-tablet|serial|net)$|scsi-(hd|cd)|ide-(hd|cd)|"
    r"virt(serialport|console)|isa-serial"
)


def provided(node: Node) -> Mapping[str, str] | None:
    """{bus name: bus type} that a device provides; None where these tables do not know."""
    if _ENDPOINTS.match(node.driver):
        return {}
    found = buses_of(node.driver, node.id) if node.driver != "usb-ccid" else (Bus(f"{node.id}.0", "ccid-bus"),)
    return {bus.name: bus.type for bus in found} or None


PORTS = re.compile(r"pcie-root-port$|ioh3420$|xio3130-downstream$|cxl-rp$|cxl-downstream$")
#: ports that QEMU keeps a list of, by chassis and slot
SLOTS = re.compile(r"pcie-root-port$|ioh3420$|xio3130-downstream$|cxl-rp$|cxl-downstream$")
BRIDGES = re.compile(r"pci-bridge|pcie-|ioh3420$|x3130-upstream$|i82801b11-bridge$|cxl-rp$|dec-21154")
EXPRESS = re.compile(r"pcie-(root-port|pci-bridge)$|ioh3420$|x3130-upstream$|xio3130-downstream$|e1000e$|igb$")

# --- machines --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """What a family of machine types has by itself: its buses, and who sits where on them (``1f.*``: the whole slot)."""

    buses: tuple[str, ...]
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: what is not there when the machine property (or the section) says off: {"1f.2": "sata"}
    unless: Mapping[str, str] = field(default_factory=dict)
    #: buses that a controller brings, whose names start so
    families: tuple[str, ...] = ("usb-bus.", "ide.", "floppy-bus.", "i2c", "virtio-mmio-bus.", "pxb")
    ide_units: int = 1

    def reserved(self, tree: Tree) -> dict[str, dict[str, str]]:
        """{bus: {address: driver}} of this tree's machine."""
        properties = tree.machine.get("properties", {})
        gone = {at for at, name in self.unless.items() if plain(properties.get(name, True)) == "off"}
        found = {bus: {at: who for at, who in held.items() if at not in gone} for bus, held in self.devices.items()}
        if self.buses[:1] == ("pci.0",) and plain(properties.get("usb", False)) == "on":
            found["pci.0"]["01.2"] = "piix3-usb-uhci"
        return found


_ISA = ("isa.0", "main-system-bus")
_FAMILIES: Mapping[str, Machine] = {
    "pc-q35": Machine(
        ("pcie.0", *_ISA, *(f"ide.{unit}" for unit in range(6))),
        {"pcie.0": {"00.0": "mch", "1f.0": "ICH9-LPC", "1f.2": "ich9-ahci", "1f.3": "ICH9-SMB"}},
        {"1f.2": "sata", "1f.3": "smbus"},
    ),
    "pc-i440fx": Machine(
        ("pci.0", *_ISA, "ide.0", "ide.1", "floppy-bus.0"),
        {"pci.0": {"00.0": "i440FX", "01.0": "PIIX3", "01.1": "piix3-ide", "01.3": "PIIX4_PM"}},
        {"01.3": "acpi"},
        ide_units=2,
    ),
    "virt": Machine(("pcie.0", "main-system-bus"), {"pcie.0": {"00.0": "gpex-root"}}),
}
#: aliases, and an example of what they stand for
ALIASES = {"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2", "virt": "virt-7.2", "pseries": "pseries-7.2"} | {
    "s390-ccw-virtio": "s390-ccw-virtio-7.2"
}


def machine_of(kind: str) -> Machine | None:
    """The family of a machine type; None for one that these tables do not know."""
    kind = {"q35": "pc-q35", "pc": "pc-i440fx"}.get(kind, kind)
    return next((m for name, m in _FAMILIES.items() if kind == name or kind.startswith(f"{name}-")), None)


# --- addresses -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """How an address looks on a type of bus, as a pattern and in words."""

    pattern: re.Pattern[str]
    says: str


_PCI_FORM = Form(re.compile(r"[01][0-9a-f]\.[0-7]"), "slot.function: '05.0', slots 00 to 1f, functions 0 to 7")
_DECIMAL = Form(re.compile(r"[0-9]+"), "a number")
FORMS: Mapping[str, Form] = {
    **dict.fromkeys(PCI_BUSES, _PCI_FORM),
    "usb-bus": Form(re.compile(r"[0-9]+(\.[0-9]+)*"), "a port: '1', behind a hub '1.2'"),
    "SCSI": Form(re.compile(r"[0-9]+:[0-9]+:[0-9]+"), "channel:id:lun: '0:1:0'"),
    "IDE": _DECIMAL,
    "floppy-bus": _DECIMAL,
    "HDA": _DECIMAL,
    "virtio-serial-bus": _DECIMAL,
    "ccid-bus": _DECIMAL,
    "virtual-css-bus": Form(re.compile(r"[0-9a-f]{2}\.[0-3]\.[0-9a-f]{4}"), "cssid.ssid.devno: 'fe.0.0001'"),
    "spapr-vio-bus": Form(re.compile(r"[0-9a-f]+"), "reg in hexadecimal: '71000001'"),
    "ISA": Form(re.compile(r"[0-9a-f]+"), "iobase in hexadecimal: '3f8'"),
}
#: where QEMU itself refuses a second device at one address
EXCLUSIVE = PCI_BUSES | frozenset(FORMS) - {"ISA", "HDA"}
#: where it does not, and a guest is confused
SHARED = frozenset({"ISA", "HDA"})

#: largest (channel, id, lun) by controller
_SCSI: Mapping[str, tuple[int, int, int]] = {
    "virtio-scsi": (0, 255, 16383),
    "vhost": (0, 255, 16383),
    "lsi": (0, 7, 0),
    "megasas": (0, 64, 255),
    "pvscsi": (0, 64, 0),
    "am53c974": (0, 7, 7),
    "dc": (0, 7, 7),
    "mptsas1068": (0, 8, 1),
    "spapr-vscsi": (7, 63, 31),
    "usb-uas": (0, 0, 255),
    "usb-bot": (0, 0, 15),
}

#: says what is expected where the address is out of range, None where it is fine
Limit = Callable[[Place, Node | None, Machine | None], str | None]


def _scsi(place: Place, provider: Node | None, _: Machine | None) -> str | None:
    most = next((most for name, most in _SCSI.items() if provider and provider.driver.startswith(name)), None)
    if most is None:
        return None
    said = [int(part) for part in str(place.node.address).split(":")]
    fits = all(0 <= value <= limit for value, limit in zip(said, most, strict=True))
    names = ("channel", "id", "lun")
    return None if fits else ", ".join(f"{n} 0 to {m}" if m else f"{n} 0" for n, m in zip(names, most, strict=True))


def _ide(place: Place, provider: Node | None, machine: Machine | None) -> str | None:
    is_ahci = provider is not None and provider.driver.endswith("ahci")
    units = 2 if provider is not None and not is_ahci else machine.ide_units if machine and not is_ahci else 1
    return None if int(str(place.node.address)) < units else "unit 0" if units == 1 else "unit 0 or 1"


def _floppy(place: Place, _provider: Node | None, _machine: Machine | None) -> str | None:
    return None if int(str(place.node.address)) < 2 else "unit 0 or 1"


def _codec(place: Place, _provider: Node | None, _machine: Machine | None) -> str | None:
    return None if int(str(place.node.address)) < 15 else "a codec address from 0 to 14"


def _card(place: Place, _provider: Node | None, _machine: Machine | None) -> str | None:
    return None if int(str(place.node.address)) == 0 else "slot 0, the only one"


def _serial_port(place: Place, provider: Node | None, _: Machine | None) -> str | None:
    most = _count(provider, "max_ports", 31) if provider else 31
    first = 1 if place.node.driver == "virtserialport" else 0
    return None if first <= int(str(place.node.address)) < most else f"{first} to {most - 1}"


LIMITS: Mapping[str, Limit] = {
    "SCSI": _scsi,
    "IDE": _ide,
    "floppy-bus": _floppy,
    "HDA": _codec,
    "ccid-bus": _card,
    "virtio-serial-bus": _serial_port,
}

# --- USB -------------------------------------------------------------------------------------------------------------

_LOW = frozenset({"full"})  # low and full speed go together on every controller
_HIGH, _SUPER = frozenset({"high"}), frozenset({"super"})
_SPEEDS: Mapping[str, frozenset[str]] = {
    "usb-uas": _HIGH | _SUPER,
    **dict.fromkeys(("usb-bot", "usb-storage"), _LOW | _HIGH | _SUPER),
    **dict.fromkeys(("usb-tablet", "usb-kbd", "usb-mouse", "usb-mtp"), _LOW | _HIGH),
    **dict.fromkeys(
        ("usb-hub", "usb-ccid", "usb-wacom-tablet", "usb-net", "usb-audio", "usb-serial", "usb-braille", "u2f-passthru"),
        _LOW,
    ),
}


def usb_speeds(driver: str, properties: Properties) -> frozenset[str]:
    """The speeds that a USB device can use; empty where the host's device decides (usb-host, usb-redir)."""
    if driver in ("usb-tablet", "usb-kbd", "usb-mouse") and plain(properties.get("usb_version")) == "1":
        return _LOW
    return _SPEEDS.get(driver, frozenset())


def usb_ports(bus: str, provider: Node | None, places: Iterable[Place]) -> dict[str, frozenset[str]]:
    """{port: speeds} of a USB bus with the hubs on it; empty where the controller is not known."""
    ports = _controller_ports(provider) if provider is not None else {}
    if not ports:
        return {}
    places = list(places)
    if ports["1"] == _HIGH:
        for place in places:  # companions take over what is too slow for the controller
            if plain(place.node.properties.get("masterbus")) == bus:
                first = _count(place.node, "firstport", 0)
                for count in range(first + 1, first + len(_controller_ports(place.node)) + 1):
                    ports[str(count)] = ports.get(str(count), frozenset()) | _LOW
    for place in places:
        if place.bus is not None and place.bus.name == bus and place.node.driver == "usb-hub":
            for count in range(1, _count(place.node, "ports", 8) + 1):
                ports[f"{place.node.address}.{count}"] = _LOW
    return ports


def _controller_ports(node: Node) -> dict[str, frozenset[str]]:
    if re.match(r"(qemu|nec-usb)-xhci", node.driver):
        usb2, usb3 = (min(max(_count(node, name, 4), 1), 15) for name in ("p2", "p3"))
        return {
            str(count): (_LOW | _HIGH if count <= usb2 else frozenset()) | (_SUPER if count <= usb3 else frozenset())
            for count in range(1, max(usb2, usb3) + 1)
        }
    if "ehci" in node.driver:
        return {str(count): _HIGH for count in range(1, 7)}
    if "uhci" in node.driver:
        return {str(count): _LOW for count in (1, 2)}
    if node.driver == "pci-ohci":
        return {str(count): _LOW for count in range(1, _count(node, "num-ports", 3) + 1)}
    return {}


def _count(node: Node, name: str, absent: int) -> int:
    """A number among the properties; ``absent`` where there is none, or what is there is no number."""
    text = str(plain(node.properties.get(name, node.pins.get(name, absent))))
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else absent


# --- one of a kind ---------------------------------------------------------------------------------------------------

SINGLE: Mapping[str, re.Pattern[str]] = {
    "balloon": re.compile(r"virtio-balloon(-(pci|ccw|device))?(-(non-)?transitional)?"),
    "vmcoreinfo": re.compile("vmcoreinfo"),
    "vmgenid": re.compile("vmgenid"),
    "IOMMU": re.compile("intel-iommu|amd-iommu"),
    "ISA pvpanic": re.compile("pvpanic"),
}

# --- values ----------------------------------------------------------------------------------------------------------

MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
#: devices that come with a machine or a CPU model, and that no list of drivers names
FROM_MACHINE = re.compile(r"-cpu$|-core$|^pc-dimm$|^nvdimm$")
RANGES: Mapping[str, tuple[int, int]] = {
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
_ENUM = re.compile(r"(?:^|, )([a-z0-9_]+(?:/[a-z0-9_]+)+)$")
_SIZE = re.compile(r"([0-9]+(\.[0-9]+)?)[bkmgtpeBKMGTPE]?|0x[0-9a-fA-F]+")
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
        if not re.fullmatch(r"-?[0-9]+", text) or not low <= int(text) <= high:
            return f"a number from {low} to {high}"
        rule = next((rule for (start, key), rule in _REFUSES.items() if key == name and driver.startswith(start)), None)
        return None if rule is None or rule[0](int(text)) else rule[1]
    if known.type == "size":
        if not _SIZE.fullmatch(text):
            return "a size: 65536, 64k"
        is_block = known.description is not None and "power of two between 512" in known.description
        size = int(text) if text.isdigit() else 512
        return (
            "a power of two from 512 to 2097152" if is_block and (size & (size - 1) or not 512 <= size <= 2**21) else None
        )
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


def value_of(node: Node, name: str, absent: Value = None) -> Value:
    """A property as the guest will have it: chosen, or pinned."""
    return node.properties.get(name, node.pins.get(name, absent))


#: what a device is for, by its driver; the first row that matches wins
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("bridge", re.compile(r"pcie?-(root-port|pci-bridge|bridge)|pci-bridge|ioh3420|x3130|xio3130|i82801b11|pxb|.*pcihost")),
    ("network", re.compile(r"virtio-net|e1000|rtl8139|ne2k|pcnet|vmxnet3|igb|i82|usb-net|spapr-vlan|tulip|rocker")),
    ("storage", re.compile(r"virtio-(blk|scsi|9p|pmem)|vhost-(user-(blk|fs|scsi)|scsi)|scsi-|ide-|nvme|.*ahci|piix[34]-ide|"
                           r"lsi|megasas|mptsas|pvscsi|am53|usb-(storage|bot|uas|mtp)|floppy|isa-fdc|sd-card|sdhci")),
    ("display", re.compile(r"(secondary-)?VGA|.*-vga|virtio-gpu|bochs|qxl|cirrus|vmware-svga|ramfb|ati")),
    ("usb", re.compile(r".*xhci|.*[eu]hci|pci-ohci|usb-(hub|host|redir|ccid)")),
    ("input", re.compile(r"usb-(tablet|kbd|mouse|wacom)|virtio-(keyboard|mouse|tablet|input)|ps2|i8042|vmmouse")),
    ("serial", re.compile(r"virtio-serial|virt(serialport|console)|isa-(serial|parallel)|usb-serial|pl011|spapr-vty|sclp")),
    ("sound", re.compile(r".*hda|hda-|AC97|ES1370|sb16|usb-audio|virtio-sound")),
    ("processor", re.compile(r".*-cpu$|pc-dimm|nvdimm|virtio-mem")),
)  # fmt: skip


def kind_of(driver: str) -> str:
    """
    >>> kind_of("virtio-net-pci"), kind_of("mch")
    ('network', 'other')
    """
    return next((kind for kind, pattern in KINDS if pattern.match(driver)), "other")
