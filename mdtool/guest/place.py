"""libvirt's places in QEMU's terms, and back: which bus, which address, which properties follow from the place.

    placed              wanted devices -> (bus name, node)
    device_arguments    (bus name, node) -> what ``-device`` is told
    spot_from_node      (bus name, node, tree) -> libvirt's place, None where it has none

A row (``Notation``) is a kind of bus: how a place is written there, and under which names ``-device`` takes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import MODELS, index_of, is_placed, model_of, type_of
from mdtool.guest.allocation.drives import NARROW
from mdtool.guest.allocation.order import wholes
from mdtool.guest.model import Guest, Spot, Wanted
from mdtool.machine.tree import Bus, Node, Tree, Value
from mdtool.machine.values import small_number

# --- controllers and their buses -------------------------------------------------------------------------------------

#: Bus types of what provides one bus with the name of its id: PCI controllers.
_PCI_BUSES: Mapping[str, str] = {
    "pci-bridge": "PCI",
    "pci-bridge-seat": "PCI",
    "i82801b11-bridge": "PCI",
    "pcie-pci-bridge": "PCI",
    "pcie-root-port": "PCIE",
    "ioh3420": "PCIE",
    "x3130-upstream": "PCIE",
    "xio3130-downstream": "PCIE",
    "pxb": "pxb-bus",
    "pxb-pcie": "pxb-pcie-bus",
}

#: Bus types of what provides buses that are its id and a number: (type, how many).
_NUMBERED_BUSES: Mapping[str, tuple[str, int]] = {
    "usb-ccid": ("ccid-bus", 1),
    "ich9-ahci": ("IDE", 6),
    "ahci": ("IDE", 6),
    "piix3-ide": ("IDE", 2),
    "intel-hda": ("HDA", 1),
    "ich9-intel-hda": ("HDA", 1),
    "spapr-pci-host-bridge": ("PCI", 1),
    "nvme": ("nvme-bus", 1),
}
_SCSI = ("lsi", "lsi53c895a", "lsi53c810", "megasas", "megasas-gen2", "mptsas1068", "pvscsi", "am53c974", "dc390", "dc-390",
         "spapr-vscsi")  # fmt: skip
_COMPANION = re.compile(r"ich9-usb-uhci[1-6]$")
_USB_HOST = re.compile(r"(ich9-usb-ehci[12]|usb-ehci|(nec-usb|qemu|usb)-xhci|pci-ohci|(piix[34]|vt82c686b)-usb-uhci)$")


def buses_of(driver: str, id: str | None) -> tuple[Bus, ...]:
    """The buses that a device provides, empty.

    >>> [bus.name for bus in buses_of("virtio-scsi-pci", "scsi0")]
    ['scsi0.0']
    """
    if driver == "isa-fdc":
        return (Bus("floppy-bus.0", "floppy-bus"),)
    if id is None:
        return ()
    if driver in _PCI_BUSES:
        return (Bus(id, _PCI_BUSES[driver]),)
    type_, number = _NUMBERED_BUSES.get(driver, ("", 0))
    if driver.startswith("virtio-scsi-") or driver in _SCSI:
        type_, number = "SCSI", 1
    elif driver.startswith("virtio-serial-"):
        type_, number = "virtio-serial-bus", 1
    elif _USB_HOST.match(driver):
        type_, number = "usb-bus", 1
    return tuple(Bus(f"{id}.{count}", type_) for count in range(number))


# --- notations -------------------------------------------------------------------------------------------------------

_SAID = object()  # in place of a property that the address says already


class Notation(NamedTuple):
    """How places are written on one kind of bus.

    ``drivers``    a pattern of the types that sit there
    ``spot``       the type of libvirt's address, "" where it has none
    ``write``      an address as text -> what ``-device`` is told
    ``read``       an address as text -> the numbers of libvirt's address, but for the controller's
    ``bus``        whether ``-device`` is told the bus: where there is one alone, libvirt leaves it out
    """

    drivers: re.Pattern[str]
    spot: str
    write: Callable[[str, Node], dict[str, Value]]
    read: Callable[[str], dict[str, Any]]
    bus: bool = True


def _scsi_arguments(address: str, _: Node) -> dict[str, Value]:
    channel, target, lun = (int(part) for part in address.split(":"))
    return {"channel": channel, "scsi-id": target, "lun": lun}


def _port(driver: str) -> str:
    return "ioport" if driver == "pvpanic" else "iobase"


def _drive(address: str) -> dict[str, Any]:
    channel, target, lun = (int(part) for part in address.split(":"))
    return {"bus": channel, "target": target, "unit": lun}


def _channel(address: str) -> dict[str, Any]:
    cssid, ssid, devno = (int(part, 16) for part in address.split("."))
    return {"cssid": cssid, "ssid": ssid, "devno": devno}


def _nothing(_: str, _node: Node) -> dict[str, Value]:
    return {}


def _no_numbers(_: str) -> dict[str, Any]:
    return {}


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


def _numbered(name: str) -> Callable[[str, Node], dict[str, Value]]:
    return lambda address, _: {name: int(address)}


NOTATIONS: Mapping[str, Notation] = {
    "usb": Notation(
        re.compile(r"usb-(?!ehci|xhci)|u2f-"),
        "usb",
        lambda address, _: {"port": address},
        lambda address: {"port": address},
    ),
    "scsi": Notation(re.compile(r"scsi-"), "drive", _scsi_arguments, _drive),
    "ide": Notation(
        re.compile(r"ide-(hd|cd|cf|drive)"),
        "drive",
        # An AHCI port holds one drive: libvirt says no unit there.
        lambda address, node: {} if (node.id or "").startswith("sata") else {"unit": int(address)},
        lambda address: {"unit": int(address)},
    ),
    "floppy": Notation(
        re.compile(r"floppy$"), "drive", _numbered("unit"), lambda address: {"unit": int(address)}, bus=False
    ),
    "virtio-serial": Notation(
        re.compile(r"virtserialport|virtconsole"), "virtio-serial", _numbered("nr"), lambda address: {"port": int(address)}
    ),
    "ccid": Notation(re.compile(r"ccid-card-"), "ccid", _nothing, lambda address: {"slot": int(address)}),
    "hda": Notation(re.compile(r"hda-"), "", _numbered("cad"), _no_numbers),
    "isa": Notation(
        re.compile(r"isa-|pvpanic$|ib700|sb16|adlib|cs4231a|gus|ne2k_isa|tpm-tis$|vmport|vmmouse|applesmc|pcspk"),
        "isa",
        lambda address, node: {_port(node.driver): int(address, 16)},
        lambda address: {"iobase": int(address, 16)},
        bus=False,
    ),
    "ccw": Notation(re.compile(r".*-ccw$"), "ccw", lambda address, _: {"devno": address}, _channel, bus=False),
    "spapr-vio": Notation(
        re.compile(r"spapr-(vlan|vscsi|vty|nvram|tpm|rng)"),
        "spapr-vio",
        lambda address, _: {"reg": int(address, 16)},
        lambda address: {"reg": int(address, 16)},
        bus=False,
    ),
    "dimm": Notation(
        re.compile(r"pc-dimm|nvdimm"), "dimm", _numbered("slot"), lambda address: {"slot": int(address)}, bus=False
    ),
    "cpu": Notation(re.compile(r".*-cpu$"), "", _cpu_arguments, _no_numbers, bus=False),
    "zpci": Notation(
        re.compile("zpci$"),
        "zpci",
        lambda address, _: {"uid": int(address, 16)},
        lambda address: {"uid": int(address, 16)},
        bus=False,
    ),
    "mmio": Notation(re.compile(r"(virtio|vhost)-.*-device$"), "virtio-mmio", _nothing, _no_numbers),
    "system": Notation(
        re.compile(
            r"ramfb|intel-iommu|amd-iommu|tpm-crb|tpm-tis-device|vmcoreinfo|vmgenid|pvpanic-mmio|loader|generic-sdhci"
        ),
        "",
        _nothing,
        _no_numbers,
        bus=False,
    ),
}
_PCI_ADDRESS = re.compile(r"([0-9a-f]{2})\.([0-7])$")
_PCI = Notation(
    re.compile(""),
    "pci",
    lambda address, _: {"addr": _addr(address)},
    lambda address: {"slot": int(address[:2], 16), "function": int(address[3])},
)


def notation_of(driver: str) -> Notation:
    """The notation of where a type sits; PCI where no row knows better."""
    return next((row for row in NOTATIONS.values() if row.drivers.match(driver)), _PCI)


def _addr(address: str) -> str:
    """``02.1`` as -device takes it: ``0x2.0x1``, and ``0x2`` for function 0."""
    slot, function = int(address[:2], 16), int(address[3])
    return f"{slot:#x}.{function:#x}" if function else f"{slot:#x}"


# --- -device ---------------------------------------------------------------------------------------------------------


def device_arguments(bus_name: str | None, node: Node, parent: Node | None = None) -> dict[str, Value]:
    """What ``-device`` is told of a node: driver, id, bus, address and properties, as libvirt spells them.

    ``parent`` is the node whose bus it is: on a narrow SCSI controller libvirt names a drive's target alone.

    >>> device_arguments("pci.1", Node("virtio-net-pci", "net0", "00.0", properties={"mac": "52:54:00:00:00:01"}))
    {'driver': 'virtio-net-pci', 'id': 'net0', 'bus': 'pci.1', 'addr': '0x0', 'mac': '52:54:00:00:00:01'}
    """
    notation = notation_of(node.driver)
    arguments: dict[str, Value] = {"driver": node.driver}
    if node.id is not None:
        arguments["id"] = node.id
    if bus_name and notation.bus and (node.address is not None or notation.spot not in _PLACED_BY_QEMU):
        arguments["bus"] = bus_name
    if node.address is not None and (notation is not _PCI or _PCI_ADDRESS.match(node.address)):
        try:
            arguments |= notation.write(node.address, node)
        except ValueError:
            raise InputError(
                f"{node.id or node.driver}: {node.address!r} is no place for {node.driver}",
                at=node.position,
                remedy="give it an address of its own bus, or none",
                rule="address-notation",
            ) from None
    narrow = parent is not None and parent.driver in _NARROW_DRIVERS
    if narrow and not arguments.get("channel") and not arguments.get("lun"):
        arguments = {name: value for name, value in arguments.items() if name not in ("channel", "lun")}
    return arguments | dict(node.properties)


_NARROW_DRIVERS = frozenset({"lsi", "lsi53c895a", "lsi53c810", "am53c974", "dc390", "dc-390"})


#: Addresses without which a device goes to the first bus that has room: libvirt names none.
_PLACED_BY_QEMU = ("virtio-serial",)


# --- wanted devices to nodes -----------------------------------------------------------------------------------------


def placed(guest: Guest, wanted: Sequence[Wanted]) -> list[tuple[str, Node]]:
    """(bus name, node) of every device that is a ``-device``, in the order of ``wanted``.

    ``wanted`` is what ``with_ids`` gives.  The bus name is "" for a device on no bus that anybody names.  Properties that
    follow from the place are the node's (chassis, port, multifunction, the companion's master); buses that the device
    provides come empty.
    """
    buses = _Names(guest, wanted)
    return [buses.node(one) for one in wanted if one.driver]


@dataclass
class _Names:
    """The names of all buses of a guest, by what libvirt calls their controllers."""

    guest: Guest
    wanted: Sequence[Wanted]
    ids: dict[tuple[str, int], str] = field(default_factory=dict)
    drivers: dict[tuple[str, int], str] = field(default_factory=dict)
    models: dict[int, str] = field(default_factory=dict)
    of: dict[int, str] = field(default_factory=dict)  # identity of a part -> id of its device
    names: dict[str, str | None] = field(default_factory=dict)  # origin -> id

    def __post_init__(self) -> None:
        for one in self.wanted:
            if one.kind == "controller" and one.id is not None and not _COMPANION.match(one.driver):
                key = type_of(one), index_of(one)
                self.ids[key] = one.id
                self.drivers[key] = one.driver
                if type_of(one) == "scsi":
                    self.models[index_of(one)] = model_of(one)
        self.names = {one.origin: one.id for one in self.wanted}
        self.of = {id(self.wanted[at]): str(self.wanted[whole].id) for at, whole in wholes(self.wanted).items()}

    def controller(self, type_: str, index: int) -> str:
        """A controller's id; libvirt's own for one that is not there."""
        return self.ids.get((type_, index)) or (type_ if type_ == "usb" and not index else f"{type_}{index}")

    def pci(self, index: int) -> str:
        if index == 0:
            return "pci" if self.guest.machine == "versatilepb" else self.guest.root_bus
        id = self.ids.get(("pci", index), f"pci.{index}")
        return f"{id}.0" if self.drivers.get(("pci", index)) == "spapr-pci-host-bridge" else id

    def node(self, one: Wanted) -> tuple[str, Node]:
        bus, address, properties = self._place(one)
        properties |= self._of_controller(one)
        if one.facts.get("device_id") is True:
            properties["device_id"] = f"drive-{one.id}"
        return bus, Node(
            driver=one.driver,
            id=one.id,
            address=address,
            origin=one.origin,
            properties={name: value for name, value in {**one.properties, **properties}.items() if value is not _SAID},
            buses=buses_of(one.driver, one.id),
            position=one.position,
        )

    def _place(self, one: Wanted) -> tuple[str, str | None, dict[str, Value]]:
        """Bus name, address, and the properties that say more of the place."""
        spot = one.spot
        if one.kind == "commandline" and (spot is None or spot.type == "none"):
            return _as_written(one)
        notation = notation_of(one.driver)
        if notation is NOTATIONS["hda"]:
            return f"{self.of.get(id(one))}.0", str(one.facts.get("number", 0)), {}
        if notation is NOTATIONS["isa"]:
            name = _port(one.driver)
            base = one.properties.get(name)
            return ("isa.0", f"{base:x}", {name: _SAID}) if isinstance(base, int) else ("isa.0", None, {})
        if notation is NOTATIONS["system"] or spot is None:
            return self._default_bus(one, notation), None, {}
        places: Mapping[str, Callable[[Wanted, Spot], tuple[str, str | None, dict[str, Value]]]] = {
            "pci": self._pci,
            "drive": self._drive,
            "usb": lambda _, spot: (f"{self.controller('usb', spot.get('bus', 0))}.0", spot.get("port"), {}),
            "virtio-serial": lambda _, spot: (
                f"{self.controller('virtio-serial', spot.get('controller', 0))}.0",
                _text(spot.get("port")),
                {},
            ),
            "ccid": lambda _, spot: (
                f"{self.controller('ccid', spot.get('controller', 0))}.0",
                _text(spot.get("slot")),
                {},
            ),
            "ccw": lambda _, spot: ("virtual-css", _devno(spot), {}),
            "spapr-vio": lambda _, spot: ("spapr-vio", f"{spot['reg']:x}" if "reg" in spot.numbers else None, {}),
            "dimm": lambda _, spot: (
                "",
                _text(spot.get("slot")),
                {"addr": spot["base"]} if spot.get("base") is not None else {},
            ),
            "zpci": lambda one, spot: ("s390-pcibus.0", f"{spot['uid']:04x}", {"target": self.names.get(one.facts["for"])}),
        }
        place = places.get(spot.type)
        return place(one, spot) if place else (self._default_bus(one, notation), None, {})

    def _default_bus(self, one: Wanted, notation: Notation) -> str:
        """The bus of a device that has no place on it yet."""
        if notation is NOTATIONS["virtio-serial"]:
            return f"{self.controller('virtio-serial', 0)}.0"
        if notation is NOTATIONS["system"] and one.driver not in ("tpm-crb", "vmgenid", "vmcoreinfo"):
            return "main-system-bus"
        return ""

    def _pci(self, one: Wanted, spot: Spot) -> tuple[str, str | None, dict[str, Value]]:
        if not is_placed(spot):
            return self.pci(0), None, {}
        address = f"{spot.get('slot', 0):02x}.{spot.get('function', 0)}"
        extra: dict[str, Value] = {}
        if "multifunction" in spot.numbers:
            extra["multifunction"] = spot["multifunction"]
        return self.pci(spot.get("bus", 0)), address, extra

    def _drive(self, one: Wanted, spot: Spot) -> tuple[str, str | None, dict[str, Value]]:
        index, bus, target, unit = (spot.get(name, 0) for name in ("controller", "bus", "target", "unit"))
        type_ = "scsi" if one.kind == "hostdev" else str(one.facts.get("bus") or self._drive_bus(one.driver))
        id = self.controller(type_, index)
        if type_ == "scsi":
            narrow = self.models.get(index) in NARROW
            return (f"{id}.{bus}", f"0:{unit}:0", {}) if narrow else (f"{id}.0", f"{bus}:{target}:{unit}", {})
        if type_ == "sata":
            return f"{id}.{unit}", "0", {}
        if type_ == "fdc":
            return "floppy-bus.0", str(unit), {}
        return f"{id}.{bus}", str(unit), {}

    def _drive_bus(self, driver: str) -> str:
        """The bus of a drive that no <disk> asks for: one of <qemu:commandline>."""
        kind = driver.partition("-")[0]
        return {"floppy": "fdc", "ide": "sata" if self.guest.is_q35 else "ide"}.get(kind, kind)

    def _of_controller(self, one: Wanted) -> dict[str, Value]:
        """What a controller is told of its place: numbers that must differ from every other's."""
        if one.kind != "controller":
            return {}
        slot, function = (one.spot.get(name, 0) for name in ("slot", "function")) if one.spot is not None else (0, 0)
        index, facts = index_of(one), one.facts
        defaults: Mapping[str, dict[str, Value]] = {
            "pcie-root-port": {
                "port": facts.get("port", slot << 3 | function),
                "chassis": facts.get("chassis", index),
            },
            "pcie-switch-downstream-port": {"port": facts.get("port", slot), "chassis": facts.get("chassis", index)},
            "pci-bridge": {"chassis_nr": facts.get("chassisNr", index)},
            "pci-expander-bus": {"bus_nr": facts.get("busNr")},
            "pcie-expander-bus": {"bus_nr": facts.get("busNr")},
        }
        properties = {name: value for name, value in defaults.get(model_of(one), {}).items() if value is not None}
        if one.driver == "spapr-pci-host-bridge":
            properties["index"] = facts["targetIndex"]
        if _COMPANION.match(one.driver) and facts.get("master") is not None:
            properties |= {"masterbus": f"{self.controller('usb', index)}.0", "firstport": facts["master"]}
        return properties


def _as_written(one: Wanted) -> tuple[str, str | None, dict[str, Value]]:
    """The place of a device of <qemu:commandline>: its bus and address where it names both, else as it stands."""
    bus, addr = one.facts.get("bus"), str(one.facts.get("addr", ""))
    match = re.fullmatch(r"(?:0x)?([0-9a-f]{1,2})(?:\.(?:0x)?([0-7]))?", addr.lower())
    if bus is not None and match:
        return str(bus), f"{int(match[1], 16):02x}.{match[2] or 0}", {}
    return "", None, {name: one.facts[name] for name in ("bus", "addr") if name in one.facts}


def _text(number: Any) -> str | None:
    return None if number is None else str(number)


def _devno(spot: Spot) -> str | None:
    if spot.get("devno") is None:
        return None
    return f"{spot.get('cssid', 0xFE):x}.{spot.get('ssid', 0):x}.{spot['devno']:04x}"


# --- nodes to libvirt's places ---------------------------------------------------------------------------------------


def spot_from_node(bus_name: str, node: Node, tree: Tree) -> Spot | None:
    """libvirt's place of a node on a bus; None where libvirt has no word for it.

    A PCI spot says ``alone`` where function 0 does not announce further functions: nothing may be put beside it, since
    its guest would notice.  A node without a driver stands for an address alone: its bus says what kind it is.
    """
    bus = _controllers(tree).get(bus_name)
    if bus is None:
        return _on_named_bus(bus_name, node)
    return _on_controller(bus, node)


@dataclass(frozen=True, slots=True)
class _Provider:
    """The controller of a bus in libvirt's terms, and the number of the bus on it."""

    type: str
    index: int
    model: str = ""
    bus: int = 0


def _controllers(tree: Tree) -> Mapping[str, _Provider]:
    """Bus name -> controller, for every bus of a tree; made once a tree."""
    known: dict[str, _Provider] | None = tree.__dict__.get("_providers")
    if known is None:
        known = dict(_providers(tree))
        tree.__dict__["_providers"] = known  # as cached_property would: the tree itself is frozen
    return known


def _providers(tree: Tree) -> Iterator[tuple[str, _Provider]]:
    q35 = "q35" in str(tree.machine.get("type", ""))
    for bus in tree.all_buses.values():
        if bus.name in ("pci.0", "pcie.0", "pci"):
            yield bus.name, _Provider("pci", 0)
        elif re.fullmatch(r"ide\.\d+", bus.name):
            number = small_number(bus.name[4:])
            yield bus.name, _Provider("sata", 0, bus=number) if q35 or number > 1 else _Provider("ide", 0, bus=number)
        elif bus.type == "floppy-bus":
            yield bus.name, _Provider("fdc", 0)
        elif bus.type == "virtual-css-bus" or bus.name.startswith("virtual-css"):
            yield bus.name, _Provider("ccw", 0)
    # A pxb's bus is really that of a bridge which the pxb makes: the device that has an id has the last word.
    for place in sorted(tree.places, key=lambda place: place.node.id is not None):
        node = place.node
        type_, model = MODELS.get(node.driver, ("", ""))
        provided = {bus.name for bus in (*node.buses, *buses_of(node.driver, node.id))}
        if not provided or re.match(r"ide\.\d+$", min(provided)):
            continue
        for bus_type, row in _TYPES.items():
            if any(bus.type == bus_type for bus in (*node.buses, *buses_of(node.driver, node.id))):
                type_ = row
        index = _index(node, type_)
        for name in provided:
            suffix = name.rpartition(".")[2]
            number = small_number(suffix) if name != node.id else 0
            yield name, _Provider(type_, index, model or _SCSI_MODELS.get(node.driver, ""), number)


#: QEMU's bus types -> libvirt's types of controllers.
_TYPES = {
    "PCI": "pci",
    "PCIE": "pci",
    "pxb-bus": "pci",
    "pxb-pcie-bus": "pci",
    "usb-bus": "usb",
    "SCSI": "scsi",
    "IDE": "sata",
    "virtio-serial-bus": "virtio-serial",
    "ccid-bus": "ccid",
    "floppy-bus": "fdc",
}
_SCSI_MODELS = {"lsi": "lsilogic", "lsi53c895a": "lsilogic", "am53c974": "am53c974", "dc390": "dc390", "dc-390": "dc390"}


def _index(node: Node, type_: str) -> int:
    """A controller's index: its origin says it, or the number at the end of its id."""
    match = re.match(rf"controller/{re.escape(type_)}/(\d+)", node.origin or "") or re.search(r"(\d+)$", node.id or "")
    return small_number(match[1]) if match else 0


def _on_controller(bus: _Provider, node: Node) -> Spot | None:
    address = node.address
    if bus.type == "pci":
        match = _PCI_ADDRESS.match(address or "")
        if not match:
            return None
        numbers: dict[str, Any] = {"domain": 0, "bus": bus.index, "slot": int(match[1], 16), "function": int(match[2])}
        multifunction = node.properties.get("multifunction", node.pins.get("multifunction"))
        if multifunction in (True, "on"):
            numbers["multifunction"] = True
        elif node.properties.get("multifunction") in (False, "off"):
            numbers["multifunction"] = False  # somebody said so
        elif numbers["function"] == 0 and node.driver:
            numbers["alone"] = True
        return Spot("pci", numbers)
    if bus.type == "sata":
        return Spot("drive", {"controller": bus.index, "bus": 0, "target": 0, "unit": bus.bus})
    if address is None:
        return None
    try:
        if bus.type == "scsi":
            numbers = _drive(address)
            if bus.model in NARROW:
                numbers = {"bus": bus.bus, "target": 0, "unit": numbers["target"]}
            return Spot("drive", {"controller": bus.index, **numbers})
        if bus.type in ("ide", "fdc"):
            return Spot("drive", {"controller": bus.index, "bus": bus.bus, "target": 0, "unit": int(address)})
        if bus.type == "usb":
            return Spot("usb", {"bus": bus.index, "port": address})
        if bus.type == "virtio-serial":
            return Spot("virtio-serial", {"controller": bus.index, "bus": 0, "port": int(address)})
        if bus.type == "ccid":
            return Spot("ccid", {"controller": bus.index, "slot": int(address)})
        if bus.type == "ccw":
            return Spot("ccw", _channel(address))
    except ValueError:
        return None
    return None


def _on_named_bus(bus_name: str, node: Node) -> Spot | None:
    """The place on a bus that no controller of libvirt's provides."""
    if node.address is None:
        return None
    try:
        if bus_name.startswith("isa."):
            return Spot("isa", {"iobase": int(node.address, 16)})
        if bus_name.startswith("s390-pcibus"):
            return Spot("zpci", {"uid": int(node.address, 16), "fid": node.properties.get("fid", node.pins.get("fid"))})
        if bus_name.startswith("spapr-vio"):
            return Spot("spapr-vio", {"reg": int(node.address, 16)})
        if not bus_name and notation_of(node.driver) is NOTATIONS["dimm"]:
            return Spot("dimm", {"slot": int(node.address)})
    except ValueError:
        return None
    return None


def spots_from_tree(tree: Tree) -> dict[str, Spot]:
    """Name -> libvirt's place, of every node that has one."""
    return {
        place.name: spot
        for place in tree.places
        if (spot := spot_from_node(place.bus.name if place.bus else "", place.node, tree)) is not None
    }


def indices_taken(nodes: Iterable[Node]) -> frozenset[int]:
    """Numbers that new PCI controllers must not have beside these: those in ids (``pci.7``), and chassis numbers."""
    found: set[int] = set()
    for node in nodes:
        if node.driver in _PCI_BUSES:
            have = {**node.pins, **node.properties}
            found |= {int(have[name]) for name in ("chassis", "chassis_nr") if str(have.get(name, "")).isdigit()}
            if match := re.fullmatch(r"pci\.(\d+)", node.id or ""):
                found.add(int(match[1]))
    return frozenset(found)


def survivor(wanted: Wanted, node: Node, spot: Spot | None) -> Wanted:
    """``wanted`` where its node is: the node's id and place, and a controller's numbers that the XML leaves out."""
    numbers = {"chassis": "chassis", "port": "port", "chassis_nr": "chassisNr", "bus_nr": "busNr"}
    if node.driver == "spapr-pci-host-bridge":
        numbers["index"] = "targetIndex"
    have = {**node.pins, **node.properties}
    facts = {fact: have[name] for name, fact in numbers.items() if wanted.kind == "controller" and name in have}
    properties = (
        {"fid": have["fid"], **wanted.properties} if wanted.driver == "zpci" and "fid" in have else wanted.properties
    )
    return replace(wanted, id=node.id, spot=spot or wanted.spot, properties=properties, facts={**facts, **wanted.facts})
