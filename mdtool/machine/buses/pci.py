"""PCI controllers: a row each, by libvirt's model, with what fits on its bus, its slots and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mdtool.records import NamedTuple, dataclass
from mdtool.text import pattern


@dataclass(frozen=True, slots=True)
class ControllerPlace:
    """Where a PCI controller is and which it is, as far as its numbers follow from that."""

    index: int
    slot: int
    function: int


class Target(NamedTuple):
    """A number of a PCI controller that must differ from every other's.

    ``fact``    its name among the facts of a controller
    ``name``    libvirt's name of it, an attribute of ``<target>``; "" where it is that of the fact
    ``form``    how libvirt writes it
    ``absent``  what libvirt takes where the XML names none; None where it depends on the other controllers
    """

    fact: str
    form: str = "{}"
    name: str = ""
    absent: Callable[[ControllerPlace], int | None] = lambda _: None

    @property
    def attribute(self) -> str:
        return self.name or self.fact


def _index(place: ControllerPlace) -> int:
    return place.index


_CHASSIS = Target("chassis", absent=_index)


class PciModel(NamedTuple):
    """One row.

    ``drivers``   QEMU's types, libvirt's choice first; none for what the machine has
    ``bus``       the type of the bus
    ``takes``     what libvirt puts there by itself: ``pci``, ``pcie``, ``integrated``, or a PCI controller's model
    ``first``, ``last``  its slots
    ``is_port``   whether it has one slot, and QEMU a list of such by chassis and slot
    ``targets``   property -> the number
    """

    drivers: tuple[str, ...]
    bus: str
    takes: frozenset[str]
    first: int = 0
    last: int = 31
    is_port: bool = False
    targets: Mapping[str, Target] = MappingProxyType({})


_BEHIND_PORT = frozenset({"pcie", "pcie-switch-upstream-port", "pcie-to-pci-bridge"})
_ON_BRIDGE = frozenset({"pci", "pci-bridge"})
_BUS_NR = {"bus_nr": Target("busNr")}

PCI_MODELS: Mapping[str, PciModel] = {
    "pci-root": PciModel((), "PCI", _ON_BRIDGE | {"integrated", "pci-expander-bus"}, first=1),
    "pcie-root": PciModel(
        (), "PCIE", frozenset({"integrated", "pcie-root-port", "dmi-to-pci-bridge", "pcie-expander-bus"}), first=1
    ),
    "pci-bridge": PciModel(
        ("pci-bridge", "pci-bridge-seat"),
        "PCI",
        _ON_BRIDGE,
        first=1,
        targets={"chassis_nr": Target("chassisNr", absent=_index)},
    ),
    "pci-expander-bus": PciModel(("pxb",), "pxb-bus", _ON_BRIDGE, targets=_BUS_NR),
    "dmi-to-pci-bridge": PciModel(("i82801b11-bridge",), "PCI", frozenset({"pci-bridge"})),
    "pcie-to-pci-bridge": PciModel(("pcie-pci-bridge",), "PCI", _ON_BRIDGE, first=1),
    "pcie-root-port": PciModel(
        ("pcie-root-port", "ioh3420"),
        "PCIE",
        _BEHIND_PORT,
        last=0,
        is_port=True,
        targets={
            "chassis": _CHASSIS,
            "port": Target("port", "0x{:x}", absent=lambda place: place.slot << 3 | place.function),
        },
    ),
    "pcie-switch-upstream-port": PciModel(("x3130-upstream",), "PCIE", frozenset({"pcie-switch-downstream-port"})),
    "pcie-switch-downstream-port": PciModel(
        ("xio3130-downstream",),
        "PCIE",
        _BEHIND_PORT,
        last=0,
        is_port=True,
        targets={"chassis": _CHASSIS, "port": Target("port", "0x{:x}", absent=lambda place: place.slot)},
    ),
    "pcie-expander-bus": PciModel(
        ("pxb-pcie",), "pxb-pcie-bus", frozenset({"pcie-root-port", "dmi-to-pci-bridge"}), targets=_BUS_NR
    ),
}
#: Models that the machine has by itself, and that host bridges of POWER stand for.
ROOTS = ("pci-root", "pcie-root")
#: Root buses of their own.
EXPANDERS = tuple(model for model, row in PCI_MODELS.items() if "bus_nr" in row.targets)
#: Further PCI host bridges of POWER: numbered by what libvirt calls the target's index.
HOST_BRIDGE = "spapr-pci-host-bridge"
HOST_BRIDGE_TARGETS: Mapping[str, Target] = {"index": Target("targetIndex", name="index")}

#: CXL ports and expanders, which libvirt cannot express.
CXL: Mapping[str, str] = {"pxb-cxl": "pxb-cxl-bus", "cxl-rp": "CXL", "cxl-upstream": "CXL", "cxl-downstream": "CXL"}
_PORTS = frozenset(driver for row in PCI_MODELS.values() if row.is_port for driver in row.drivers) | {
    "cxl-rp",
    "cxl-downstream",
}
#: What may be plugged into an expander that holds ports and bridges only.
BRIDGES = pattern(r"pci-bridge|pcie-|ioh3420$|x3130-upstream$|i82801b11-bridge$|cxl-rp$|dec-21154")
#: Devices that libvirt plugs behind a PCI Express port; virtio devices are of them, but for transitional ones.
EXPRESS_ENDPOINTS = frozenset({
    "e1000e", "igb", "nec-usb-xhci", "qemu-xhci", "vfio-pci", "vfio-pci-nohotplug", "nvme", "bochs-display",
})  # fmt: skip
#: Devices that are of PCI Express wherever they are plugged in.
#: virtual function -> the driver of the device on the same bus that brings it (SR-IOV)
BROUGHT_BY = {"igbvf": "igb", "nvme": "nvme"}
EXPRESS = pattern(r"pcie-(root-port|pci-bridge)$|ioh3420$|x3130-upstream$|xio3130-downstream$|e1000e$|igb$")


def is_port(driver: str) -> bool:
    """Whether a driver is a PCI Express port: one slot behind it, and known to QEMU by chassis and slot.

    >>> is_port("ioh3420"), is_port("pci-bridge")
    (True, False)
    """
    return driver in _PORTS


def targets_of(driver: str) -> Mapping[str, Target]:
    """The numbers of a PCI controller by property; empty for what has none."""
    if driver == HOST_BRIDGE:
        return HOST_BRIDGE_TARGETS
    return next((row.targets for row in PCI_MODELS.values() if driver in row.drivers), {})
