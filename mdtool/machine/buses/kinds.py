"""Kinds of buses: a row each, with QEMU's types, what sits there, how an address is written, and libvirt's word for it.

An address is a text in the notation of its kind: ``05.0`` on PCI, ``0:1:0`` on SCSI, ``1.2`` on USB.  Measured on QEMU
7.2 and 11.1; ``tests/review/test_check_corpus.py`` holds the rows against a real QEMU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

from mdtool.machine.tree import Bus, Node, Value
from mdtool.records import NamedTuple
from mdtool.text import pattern


class Reported(Protocol):
    """A device as QEMU reports it: its driver and properties, its USB port, the bases of its memory regions in hex."""

    @property
    def driver(self) -> str: ...
    @property
    def properties(self) -> Mapping[str, Value]: ...
    @property
    def port(self) -> str | None: ...
    @property
    def mmio(self) -> list[str]: ...


#: the address of a device (None where it has none), and the names of the properties that are nothing but it
Read = Callable[[Reported], tuple[str | None, tuple[str, ...]]]
Write = Callable[[str, Node], dict[str, Value]]
Numbers = Callable[[str], dict[str, Any]]


#: matches no driver
NOBODY = pattern(r"(?!)")


class Form(NamedTuple):
    """How an address looks, as a pattern and in words."""

    pattern: re.Pattern[str]
    says: str


def no_address(_: Reported) -> tuple[str | None, tuple[str, ...]]:
    return None, ()


def _no_arguments(_address: str, _node: Node) -> dict[str, Value]:
    return {}


def _no_numbers(_: str) -> dict[str, Any]:
    return {}


class Kind(NamedTuple):
    """One row.

    ``types``       QEMU's bus types; none for devices that sit on no bus
    ``devices``     a pattern of the drivers that sit there
    ``address``     the type of libvirt's ``<address>``, "" where it has none
    ``controller``  libvirt's type of the controllers that provide such a bus, "" where none does
    ``read``        a device as QEMU reports it -> its address
    ``write``       an address -> what ``-device`` gets
    ``numbers``     an address -> the numbers of libvirt's, but for the controller's
    ``form``        how an address looks, None where any text will do
    ``shared``      whether QEMU lets two devices have one address
    ``named``       whether ``-device`` gets the bus: if there is only one, libvirt leaves it out
    ``hot_plug``    whether QEMU and libvirt let devices come and go while the guest runs
    ``machine``     names of such buses that machines have by themselves, up to the first dot: name -> bus type
    """

    types: tuple[str, ...] = ()
    devices: re.Pattern[str] = NOBODY
    address: str = ""
    controller: str = ""
    read: Read = no_address
    write: Write = _no_arguments
    numbers: Numbers = _no_numbers
    form: Form | None = None
    shared: bool = False
    named: bool = True
    hot_plug: bool = False
    machine: Mapping[str, str] = MappingProxyType({})


# --- how addresses are read and written --------------------------------------------------------------------------------


def _property(name: str, form: str = "{}") -> Read:
    def read(device: Reported) -> tuple[str | None, tuple[str, ...]]:
        value = device.properties.get(name)
        return (form.format(value) if value is not None and value != "" else None), (name,)

    return read


def _decimal(name: str) -> Write:
    return lambda address, _: {name: int(address)}


def _hexadecimal(name: str) -> Write:
    return lambda address, _: {name: int(address, 16)}


PCI_ADDRESS = pattern(r"([0-9a-f]{2})\.([0-7])$")


def _pci_arguments(address: str, _: Node) -> dict[str, Value]:
    """``02.1`` as -device takes it: ``0x2.0x1``, and ``0x2`` for function 0."""
    slot, function = int(address[:2], 16), int(address[3])
    return {"addr": f"{slot:#x}.{function:#x}" if function else f"{slot:#x}"}


def _usb(device: Reported) -> tuple[str | None, tuple[str, ...]]:
    return device.port or device.properties.get("port") or None, ("port",)


def _scsi(device: Reported) -> tuple[str | None, tuple[str, ...]]:
    names = ("channel", "scsi-id", "lun")
    values = [device.properties.get(name) for name in names]
    return (":".join(map(str, values)) if None not in values else None), names


def _scsi_arguments(address: str, _: Node) -> dict[str, Value]:
    return dict(zip(("channel", "scsi-id", "lun"), map(int, address.split(":")), strict=True))


def _scsi_numbers(address: str) -> dict[str, Any]:
    return dict(zip(("bus", "target", "unit"), map(int, address.split(":")), strict=True))


def _ide_arguments(address: str, node: Node) -> dict[str, Value]:
    """An AHCI port holds one drive: libvirt names no unit there."""
    return {} if (node.id or "").startswith("sata") else {"unit": int(address)}


def isa_port(driver: str) -> str:
    """The property that is the I/O port of an ISA device."""
    return "ioport" if driver in ("pvpanic", "isa-ipmi-kcs", "isa-ipmi-bt") else "iobase"


def _isa(device: Reported) -> tuple[str | None, tuple[str, ...]]:
    name = next((name for name in ("iobase", "ioport", "base") if name in device.properties), None)
    return (f"{device.properties[name]:x}", (name,)) if name is not None else (None, ())


def _ccw(device: Reported) -> tuple[str | None, tuple[str, ...]]:
    names = ("dev_id", "devno")
    return next((device.properties[name] for name in names if device.properties.get(name)), None), names


def _ccw_numbers(address: str) -> dict[str, Any]:
    cssid, ssid, devno = (int(part, 16) for part in address.split("."))
    return {"cssid": cssid, "ssid": ssid, "devno": devno}


#: what a CPU's address counts, by how many parts it has
_CPU_PARTS: Mapping[int, tuple[str, ...]] = {
    1: ("core-id",),
    3: ("socket-id", "core-id", "thread-id"),
    4: ("socket-id", "die-id", "core-id", "thread-id"),
    5: ("socket-id", "die-id", "module-id", "core-id", "thread-id"),
}


def _cpu_arguments(address: str, _: Node) -> dict[str, Value]:
    numbers = [int(part) for part in address.split(":")]
    return dict(zip(_CPU_PARTS.get(len(numbers), ()), numbers, strict=True))


#: flash memory, known by the name of its bank
FLASH = frozenset({"cfi.pflash01", "cfi.pflash02"})
#: system-bus devices at a fixed address that some versions of QEMU show and others do not
_HIDDEN_MMIO = frozenset({"intel-iommu", "amd-iommu"})


def _mmio(device: Reported) -> tuple[str | None, tuple[str, ...]]:
    if device.driver in _HIDDEN_MMIO:
        return None, ()
    if device.driver in FLASH and device.properties.get("name"):
        return device.properties["name"], ("name",)  # its base moves with its size
    bases = [base.lstrip("0") or "0" for base in device.mmio if base != "f" * 16]
    return (bases[0] if bases else None), ()


# --- the rows ----------------------------------------------------------------------------------------------------------

_NUMBER = Form(pattern(r"[0-9]+"), "a number")

PCI = Kind(
    ("PCI", "PCIE", "CXL", "pxb-bus", "pxb-pcie-bus", "pxb-cxl-bus"),
    pattern(
        r".*-pci(-(non-)?transitional)?$|e1000|virtio-vga|(secondary-)?(VGA|vga)$|cirrus-vga|vmware-svga|bochs-display|ati-vga|"
        r"qxl|ne2k_pci|rtl8139|pcnet|i82[58]|vmxnet3|igb$|tulip|rocker|ich9-(ahci|usb|intel-hda)|ahci$|piix[34]-|nvme$|"
        r"qemu-xhci|nec-usb-xhci|(ich9-)?usb-[eu]hci|usb-ehci|pci-|pcie-|ioh3420|x3130|xio3130|i6300esb|ES1370|AC97|"
        r"intel-hda|megasas|mptsas|lsi53|lsi$|pvscsi|am53c974|dc-?390|ivshmem|edu$|sdhci-pci|pxb|acpi-erst$|vt82c686b-usb|"
        r"vfio-pci(-nohotplug)?$"
    ),
    address="pci",
    controller="pci",
    read=_property("addr"),
    write=_pci_arguments,
    numbers=lambda address: {"slot": int(address[:2], 16), "function": int(address[3])},
    form=Form(pattern(r"[01][0-9a-f]\.[0-7]"), "slot.function: '05.0', slots 00 to 1f, functions 0 to 7"),
    hot_plug=True,
    machine={"pcie": "PCIE", "pci": "PCI"},
)
EXPANDERS = frozenset({"pxb-bus", "pxb-pcie-bus", "pxb-cxl-bus"})
#: expanders that hold ports and bridges only; a ``pxb`` brings a bridge of its own, and holds anything
PORTS_ONLY = EXPANDERS - {"pxb-bus"}
#: the PCI Express root: QEMU plugs nothing into it while the guest runs
NO_HOT_PLUG = "pcie.0"

#: by name; where a driver fits several, the first one counts, and where none, it is a PCI device
KINDS: Mapping[str, Kind] = {
    "usb": Kind(
        ("usb-bus",),
        pattern(r"usb-(?!ehci|xhci)|u2f-"),
        address="usb",
        controller="usb",
        read=_usb,
        write=lambda address, _: {"port": address},
        numbers=lambda address: {"port": address},
        form=Form(pattern(r"[0-9]+(\.[0-9]+)*"), "a port: '1', behind a hub '1.2'"),
        hot_plug=True,
        machine={"usb-bus": "usb-bus"},
    ),
    "scsi": Kind(
        ("SCSI",),
        pattern(r"scsi-"),
        address="drive",
        controller="scsi",
        read=_scsi,
        write=_scsi_arguments,
        numbers=_scsi_numbers,
        form=Form(pattern(r"[0-9]+:[0-9]+:[0-9]+"), "channel:id:lun: '0:1:0'"),
        hot_plug=True,
    ),
    "ide": Kind(
        ("IDE",),
        pattern(r"ide-(hd|cd|cf|drive)"),
        address="drive",
        controller="sata",
        read=_property("unit"),
        write=_ide_arguments,
        numbers=lambda address: {"unit": int(address)},
        form=_NUMBER,
        machine={"ide": "IDE"},
    ),
    "floppy": Kind(
        ("floppy-bus",),
        pattern(r"floppy$"),
        address="drive",
        controller="fdc",
        read=_property("unit"),
        write=_decimal("unit"),
        numbers=lambda address: {"unit": int(address)},
        form=_NUMBER,
        named=False,
        machine={"floppy-bus": "floppy-bus"},
    ),
    "virtio-serial": Kind(
        ("virtio-serial-bus",),
        pattern(r"virtserialport|virtconsole"),
        address="virtio-serial",
        controller="virtio-serial",
        read=_property("nr"),
        write=_decimal("nr"),
        numbers=lambda address: {"bus": 0, "port": int(address)},
        form=_NUMBER,
        hot_plug=True,
    ),
    "ccid": Kind(
        ("ccid-bus",),
        pattern(r"ccid-card-"),
        address="ccid",
        controller="ccid",
        read=_property("slot"),
        numbers=lambda address: {"slot": int(address)},
        form=_NUMBER,
    ),
    "hda": Kind(("HDA",), pattern(r"hda-"), read=_property("cad"), write=_decimal("cad"), form=_NUMBER, shared=True),
    "isa": Kind(
        ("ISA",),
        pattern(
            r"isa-|pvpanic$|ib700|sb16|adlib|cs4231a|gus|ne2k_isa|tpm-tis$|vmport|vmmouse|applesmc|pcspk|i8042|i82374|sga"
            r"|mc146818rtc|(hyperv|pc)-testdev|prep-systemio|rs6000-mc"
        ),
        address="isa",
        read=_isa,
        write=lambda address, node: {isa_port(node.driver): int(address, 16)},
        numbers=lambda address: {"iobase": int(address, 16)},
        form=Form(pattern(r"[0-9a-f]+"), "iobase in hexadecimal: '3f8'"),
        shared=True,
        named=False,
        machine={"isa": "ISA"},
    ),
    "ccw": Kind(
        ("virtual-css-bus",),
        pattern(r".*-ccw$|x-terminal3270"),
        address="ccw",
        controller="ccw",
        read=_ccw,
        write=lambda address, _: {"devno": address},
        numbers=_ccw_numbers,
        form=Form(pattern(r"[0-9a-f]{2}\.[0-3]\.[0-9a-f]{4}"), "cssid.ssid.devno: 'fe.0.0001'"),
        named=False,
        hot_plug=True,
        machine={"virtual-css": "virtual-css-bus"},
    ),
    "spapr-vio": Kind(
        ("spapr-vio-bus",),
        pattern(r"spapr-(vlan|vscsi|vty|nvram|rng)|tpm-spapr"),
        address="spapr-vio",
        read=_property("reg", "{:x}"),
        write=_hexadecimal("reg"),
        numbers=lambda address: {"reg": int(address, 16)},
        form=Form(pattern(r"[0-9a-f]+"), "reg in hexadecimal: '71000001'"),
        named=False,
        machine={"spapr-vio": "spapr-vio-bus"},
    ),
    "dimm": Kind(
        (),
        pattern(r"pc-dimm|nvdimm"),
        address="dimm",
        write=_decimal("slot"),
        numbers=lambda address: {"slot": int(address)},
        named=False,
    ),
    "cpu": Kind((), pattern(r".*-cpu$"), write=_cpu_arguments, named=False),
    "zpci": Kind(
        ("s390-pcibus",),
        pattern("zpci$"),
        address="zpci",
        read=_property("uid", "{:04x}"),
        write=_hexadecimal("uid"),
        numbers=lambda address: {"uid": int(address, 16)},
        named=False,
        machine={"s390-pcibus": "s390-pcibus"},
    ),
    "mmio": Kind(
        ("virtio-mmio-bus",),
        pattern(r"(virtio|vhost)-.*-device$"),
        address="virtio-mmio",
        machine={"virtio-mmio-bus": "virtio-mmio-bus"},
    ),
    "system": Kind(
        ("System",),
        pattern(
            r"ramfb|intel-iommu|amd-iommu|arm-smmuv3|tpm-crb|tpm-tis-device|vmcoreinfo|vmgenid|uefi-vars-(x64|sysbus)|pvpanic-mmio|loader|generic-sdhci"
        ),
        read=_mmio,
        named=False,
        machine={"main-system-bus": "System"},
    ),
    "nvme": Kind(
        ("nvme-bus",),
        pattern(r"nvme-ns$"),
        address="drive",
        controller="nvme",
        read=_property("nsid"),
        write=_decimal("nsid"),
        numbers=lambda address: {"bus": 0, "target": 0, "unit": int(address) - 1},
        form=_NUMBER,
    ),
    "i2c": Kind(
        ("i2c-bus",),
        pattern(
            r"(adm|dps|ds|emc|isl|lm|pca|raa|rs5c|ssd|tmp|twl|wm)\d+|max(31785|34451|7310)|m41t80|at24c-eeprom|i2c-echo"
            r"|smbus-(eeprom|ipmi)|tpm-tis-i2c|i2c-ddc|aspeed\.i2c|pxa2xx-i2c|lsm303|sii9022|tosa_dac|axp2"
        ),
        read=_property("address", "{:02x}"),
        write=_hexadecimal("address"),
        machine={"i2c": "i2c-bus"},
    ),
    "ssi": Kind(("SSI",), read=_property("cs")),
    "pci": PCI,
}

#: devices that some versions of QEMU keep on a bus of their own making, which `info qtree` does not show
LOOSE = frozenset({"nvme-ns"})

_BY_TYPE: Mapping[str, Kind] = {type_: kind for kind in KINDS.values() for type_ in kind.types}
_OF_MACHINES: Mapping[str, str] = {name: type_ for kind in KINDS.values() for name, type_ in kind.machine.items()}
_NONE = Kind()

PCI_BUSES = frozenset(PCI.types)
#: buses about which these rows know enough to say that something cannot go there
KNOWN_BUSES = frozenset(type_ for kind in KINDS.values() if kind.devices is not NOBODY for type_ in kind.types)
#: where QEMU itself refuses a second device at one address
EXCLUSIVE = frozenset(type_ for kind in KINDS.values() if kind.form and not kind.shared for type_ in kind.types)
#: where it does not, and a guest is confused
SHARED = frozenset(type_ for kind in KINDS.values() if kind.shared for type_ in kind.types)


@lru_cache(1024)
def kind_of_driver(driver: str) -> Kind:
    """The kind of bus that a driver sits on; PCI where no row knows better."""
    return next((kind for kind in KINDS.values() if kind.devices.match(driver)), PCI)


def kind_of_bus(type_: str) -> Kind:
    """The kind of a bus type; an empty row for one that no row knows."""
    return _BY_TYPE.get(type_, _NONE)


def form_of(type_: str) -> Form | None:
    return kind_of_bus(type_).form


def homes(driver: str) -> frozenset[str]:
    """The types of bus that a driver sits on; empty where no row knows it.

    >>> homes("usb-tablet"), "PCIE" in homes("e1000e"), homes("fw_cfg_io")
    (frozenset({'usb-bus'}), True, frozenset())
    """
    if PCI.devices.match(driver):
        return PCI_BUSES
    return next((frozenset(kind.types) for kind in KINDS.values() if kind.devices.match(driver)), frozenset())


def is_hot_plugged(bus: Bus | None) -> bool:
    """Whether devices come to and go from a bus while the guest runs: QEMU refuses it on the PCI Express root."""
    if bus is None or bus.name == NO_HOT_PLUG or bus.type in EXPANDERS:
        return False
    return kind_of_bus(bus.type).hot_plug


def bus_of_the_machine(name: str) -> Bus:
    """An empty bus by the name that the machine gives it (``ide.3``).

    >>> bus_of_the_machine("ide.3").type, bus_of_the_machine("virtual-css").type, bus_of_the_machine("port7").type
    ('IDE', 'virtual-css-bus', 'unknown')
    """
    return Bus(name, _OF_MACHINES.get(name) or _OF_MACHINES.get(name.partition(".")[0]) or "unknown")
