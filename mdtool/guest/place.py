"""libvirt's places in QEMU's terms: which bus, which address, which properties follow from the place.

    placed    wanted devices -> (bus name, node)

The way back, from nodes to libvirt's places, is ``guest.addresses``; what a bus is stands in ``machine.buses``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdtool.guest.allocation.controllers import controllers_of, index_of, is_placed, model_of, type_of
from mdtool.guest.allocation.order import wholes
from mdtool.guest.disk_buses import DISK_BUSES, NARROW_AT, DiskBus
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.machine.buses.kinds import KINDS, Kind, isa_port, kind_of_driver
from mdtool.machine.buses.pci import HOST_BRIDGE, PCI_MODELS, ControllerPlace, targets_of
from mdtool.machine.buses.providers import NARROW, buses_of, is_companion
from mdtool.machine.tree import Node, Value
from mdtool.records import dataclass, field, replace

_OMITTED = object()  # in place of a property that the address says already


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
    root: str = "pcie.0"

    def __post_init__(self) -> None:
        for one in self.wanted:
            if one.kind == "controller" and one.id is not None and not is_companion(one.driver):
                key = type_, index = type_of(one), index_of(one)
                self.ids[key] = one.id
                self.drivers[key] = one.driver
                if type_ == "scsi":
                    self.models[index] = model_of(one)
        family, root = self.guest.family, controllers_of(self.wanted, "pci").get(0)
        if family is not None and family.root_bus:
            self.root = family.root_bus
        elif root is not None and model_of(root) == "pci-root":
            self.root = "pci.0"
        self.names = {one.origin: one.id for one in self.wanted}
        self.of = {id(self.wanted[at]): str(self.wanted[whole].id) for at, whole in wholes(self.wanted).items()}

    def controller(self, type_: str, index: int) -> str:
        """A controller's id; libvirt's own for one that is not there."""
        return self.ids.get((type_, index)) or (type_ if type_ == "usb" and not index else f"{type_}{index}")

    def pci(self, index: int) -> str:
        if index == 0:
            return self.root
        id = self.ids.get(("pci", index), f"pci.{index}")
        return f"{id}.0" if self.drivers.get(("pci", index)) == HOST_BRIDGE else id

    def node(self, one: Wanted) -> tuple[str, Node]:
        bus, address, properties = self._place(one)
        properties |= {**self._of_controller(one), **one.facts.get("made_up", {})}
        if one.driver == "arm-smmuv3":
            properties["primary-bus"] = self.pci(one.facts["bus"])
        if one.facts.get("device_id") is True:
            properties["device_id"] = f"drive-{one.id}"
        return bus, Node(
            driver=one.driver,
            id=one.id,
            address=address,
            origin=one.origin,
            properties={name: value for name, value in {**one.properties, **properties}.items() if value is not _OMITTED},
            buses=buses_of(one.driver, one.id),
            position=one.position,
        )

    def _place(self, one: Wanted) -> tuple[str, str | None, dict[str, Value]]:
        """Bus name, address, and the properties that say more of the place."""
        address = one.address
        if one.kind == "commandline" and (address is None or address.type == "none"):
            return "", None, {name: one.facts[name] for name in ("bus", "addr") if name in one.facts}
        if address is not None and address.type == "qemu":
            return address["on"], address["at"], {}
        kind = kind_of_driver(one.driver)
        if "of" in one.facts:  # on the bus of the device that it is a part of
            return f"{self.of.get(id(one))}.0", str(one.facts.get("number", 0)), {}
        if kind is KINDS["isa"]:
            name = isa_port(one.driver)
            base = one.properties.get(name)
            return ("isa.0", f"{base:x}", {name: _OMITTED}) if isinstance(base, int) else ("isa.0", None, {})
        if kind is KINDS["system"] or address is None:
            return self._default_bus(one, kind), None, {}
        given = address.numbers.get
        match address.type:
            case "pci":
                return self._pci(address)
            case "drive":
                return self._drive(one, address)
            case "usb":
                return f"{self.controller('usb', given('bus', 0))}.0", given("port"), {}
            case "virtio-serial":
                return f"{self.controller('virtio-serial', given('controller', 0))}.0", _text(given("port")), {}
            case "ccid":
                return f"{self.controller('ccid', given('controller', 0))}.0", _text(given("slot")), {}
            case "ccw":
                return "virtual-css", _devno(address), {}
            case "spapr-vio":
                return "spapr-vio", f"{address['reg']:x}" if "reg" in address.numbers else None, {}
            case "dimm":
                return "", _text(given("slot")), {"addr": given("base")} if given("base") is not None else {}
            case "zpci":
                return "s390-pcibus.0", f"{address['uid']:04x}", {"target": self.names.get(one.facts["for"])}
        return self._default_bus(one, kind), None, {}

    def _default_bus(self, one: Wanted, kind: Kind) -> str:
        """The bus of a device that has no place on it yet."""
        if kind is KINDS["virtio-serial"]:
            return f"{self.controller('virtio-serial', 0)}.0"
        if kind is KINDS["system"] and one.driver not in ("tpm-crb", "vmgenid", "vmcoreinfo"):
            return "main-system-bus"
        return ""

    def _pci(self, address: Address) -> tuple[str, str | None, dict[str, Value]]:
        if not is_placed(address):
            return self.pci(0), None, {}
        given = address.numbers.get
        at = f"{given('slot', 0):02x}.{given('function', 0)}"
        extra = {"multifunction": address["multifunction"]} if "multifunction" in address.numbers else {}
        return self.pci(given("bus", 0)), at, extra

    def _drive(self, one: Wanted, address: Address) -> tuple[str, str | None, dict[str, Value]]:
        if one.kind == "commandline":  # which names its bus as QEMU does
            bus_name, at, extra = self._drive(replace(one, kind="disk", facts={}), address)
            return str(one.facts.get("bus", bus_name)), at, extra
        index, bus, target, unit = (address.get(name, 0) for name in ("controller", "bus", "target", "unit"))
        type_ = "scsi" if one.kind == "hostdev" else str(one.facts.get("bus") or self._drive_bus(one.driver))
        narrow = type_ == "scsi" and self.models.get(index) in NARROW
        row = DISK_BUSES.get(type_, DiskBus(""))
        return *(NARROW_AT if narrow else row.at)(self.controller(type_, index), bus, target, unit), {}

    def _drive_bus(self, driver: str) -> str:
        """The bus of a drive that no <disk> asks for: one of <qemu:commandline>."""
        kind = driver.partition("-")[0]
        return {"floppy": "fdc", "ide": "sata" if self.guest.is_q35 else "ide"}.get(kind, kind)

    def _of_controller(self, one: Wanted) -> dict[str, Value]:
        """Properties that a controller gets by its place: numbers that must differ from every other's."""
        if one.kind != "controller":
            return {}
        slot, function = (one.address.get(name, 0) for name in ("slot", "function")) if one.address is not None else (0, 0)
        index, facts = index_of(one), one.facts
        row = PCI_MODELS.get(model_of(one))
        targets = targets_of(HOST_BRIDGE) if one.driver == HOST_BRIDGE else row.targets if row is not None else {}
        place = ControllerPlace(index, slot, function)
        given = {name: facts.get(target.fact, target.absent(place)) for name, target in targets.items()}
        properties: dict[str, Value] = {name: value for name, value in given.items() if value is not None}
        if is_companion(one.driver) and facts.get("master") is not None:
            properties |= {"masterbus": f"{self.controller('usb', index)}.0", "firstport": facts["master"]}
        return properties


def _text(number: Any) -> str | None:
    return None if number is None else str(number)


def _devno(address: Address) -> str | None:
    if address.get("devno") is None:
        return None
    return f"{address.get('cssid', 0xFE):x}.{address.get('ssid', 0):x}.{address['devno']:04x}"
