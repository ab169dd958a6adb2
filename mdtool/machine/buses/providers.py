"""Devices that provide buses: a row each, with libvirt's type and model of controller where it has one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from mdtool.machine.buses.pci import CXL, HOST_BRIDGE, PCI_MODELS
from mdtool.machine.tree import BUILTIN, MANUAL, Bus, Node
from mdtool.machine.values import small_number
from mdtool.records import dataclass
from mdtool.text import pattern

#: what a narrow SCSI bus says of no drive: its target is all of its place
NARROW_UNSAID = ("channel", "lun")
#: How a virtio device's type ends, by how it reaches the guest.
ENDINGS = {"pci": "pci", "ccw": "ccw", "mmio": "device"}


@dataclass(frozen=True, slots=True)
class Provider:
    """One row.

    ``driver``  QEMU's type; "" for what the machine has, ``virtio-scsi-*`` for what takes its ending from the transport
    ``bus``     the type of its buses; "" where it provides none of its own
    ``type``, ``model``  libvirt's names of the controller; "" if it has none
    ``count``   how many buses
    ``named``   whether its one bus is named by the id alone, and not by the id and a number
    ``unsaid``  what of a SCSI drive's address libvirt does not say, being 0; with ``lun`` a unit is all of its place
    ``whole``   whether what sits on its bus are its parts, and of the same element of guest XML
    ``written`` whether libvirt's XML has a word for the model; ``ahci`` is mdtool's own
    """

    driver: str
    bus: str = ""
    type: str = ""
    model: str = ""
    count: int = 1
    named: bool = False
    unsaid: tuple[str, ...] = ()
    written: bool = True
    whole: bool = False

    def names(self, id: str) -> tuple[str, ...]:
        """The names of the buses of the device with this id.

        >>> Provider("ahci", "IDE", count=2).names("sata0"), Provider("nvme", "nvme-bus", named=True).names("nvme0")
        (('sata0.0', 'sata0.1'), ('nvme0',))
        """
        return (id,) if self.named else tuple(f"{id}.{number}" for number in range(self.count))


def _pci() -> tuple[Provider, ...]:
    return tuple(
        Provider(driver, row.bus if driver else "", "pci", model, named=True)
        for model, row in PCI_MODELS.items()
        for driver in row.drivers or ("",)
    )


#: in libvirt's order of types on its command line; its choice of a driver for a model comes before others of the model
PROVIDERS: tuple[Provider, ...] = (
    *_pci(),
    Provider(HOST_BRIDGE, "PCI", "pci", "pci-root"),
    *(Provider(driver, bus, named=True) for driver, bus in CXL.items()),
    Provider("", "", "usb", "none"),
    Provider("piix3-usb-uhci", "usb-bus", "usb", "piix3-uhci"),
    Provider("piix4-usb-uhci", "usb-bus", "usb", "piix4-uhci"),
    Provider("usb-ehci", "usb-bus", "usb", "ehci"),
    Provider("ich9-usb-ehci1", "usb-bus", "usb", "ich9-ehci1"),
    Provider("ich9-usb-ehci2", "usb-bus"),
    *(Provider(f"ich9-usb-uhci{n}", "", "usb", f"ich9-uhci{n}") for n in (1, 2, 3)),
    *(Provider(f"ich9-usb-uhci{n}") for n in (4, 5, 6)),
    Provider("vt82c686b-usb-uhci", "usb-bus", "usb", "vt82c686b-uhci"),
    Provider("pci-ohci", "usb-bus", "usb", "pci-ohci"),
    Provider("nec-usb-xhci", "usb-bus", "usb", "nec-xhci"),
    Provider("qemu-xhci", "usb-bus", "usb", "qemu-xhci"),
    Provider("lsi", "SCSI", "scsi", "lsilogic", unsaid=NARROW_UNSAID),
    Provider("lsi53c895a", "SCSI", "scsi", "lsilogic", unsaid=NARROW_UNSAID),
    Provider("lsi53c810", "SCSI", unsaid=NARROW_UNSAID),
    Provider("virtio-scsi-*", "SCSI", "scsi", "virtio-scsi"),
    Provider("virtio-scsi-pci-transitional", "SCSI", "scsi", "virtio-transitional"),
    Provider("virtio-scsi-pci-non-transitional", "SCSI", "scsi", "virtio-non-transitional"),
    Provider("mptsas1068", "SCSI", "scsi", "lsisas1068"),
    Provider("megasas", "SCSI", "scsi", "lsisas1078"),
    Provider("megasas-gen2", "SCSI"),
    Provider("pvscsi", "SCSI", "scsi", "vmpvscsi"),
    Provider("am53c974", "SCSI", "scsi", "am53c974", unsaid=NARROW_UNSAID),
    Provider("dc390", "SCSI", "scsi", "dc390", unsaid=NARROW_UNSAID),
    Provider("dc-390", "SCSI", "scsi", "dc390", unsaid=NARROW_UNSAID),
    Provider("spapr-vscsi", "SCSI", "scsi", "ibmvscsi"),
    Provider("", "", "scsi", "ncr53c90", unsaid=NARROW_UNSAID),
    Provider("usb-bot", "SCSI", unsaid=("channel",), whole=True),
    Provider("usb-uas", "SCSI", whole=True),
    Provider("", "", "ide", "piix3"),
    Provider("", "", "ide", "piix4"),
    Provider("", "", "ide", "ich6"),
    Provider("piix3-ide", "IDE", count=2),
    Provider("piix4-ide", "IDE", count=2),
    Provider("ahci", "IDE", "sata", "ahci", count=6, written=False),
    Provider("ich9-ahci", "IDE", "sata", "ahci", count=6, written=False),
    Provider("isa-fdc", "floppy-bus", "fdc", "isa-fdc", written=False),
    Provider("virtio-serial-*", "virtio-serial-bus", "virtio-serial", "virtio"),
    Provider("virtio-serial-pci-transitional", "virtio-serial-bus", "virtio-serial", "virtio-transitional"),
    Provider("virtio-serial-pci-non-transitional", "virtio-serial-bus", "virtio-serial", "virtio-non-transitional"),
    Provider("usb-ccid", "ccid-bus", "ccid", "usb-ccid", written=False),
    Provider("", "", "isa", "isa", written=False),
    Provider("nvme", "nvme-bus", "nvme", "nvme", named=True, written=False),
    Provider("intel-hda", "HDA", whole=True),
    Provider("ich9-intel-hda", "HDA", whole=True),
    Provider("tpci200", "IndustryPack"),
)
_NO_MODEL = Provider("")
#: libvirt's models of SCSI controllers where a drive's unit is all of its place
NARROW = frozenset(row.model for row in PROVIDERS if row.unsaid == NARROW_UNSAID and row.model)

#: USB controllers that serve slow devices on another one's bus.
_COMPANION = pattern(r"ich9-usb-uhci[1-6]$")

#: (libvirt's type, model) -> QEMU's type; "" for what the machine has.
DRIVERS: dict[tuple[str, str], str] = {}
for _row in PROVIDERS:
    if _row.type:
        DRIVERS.setdefault((_row.type, _row.model), _row.driver)

#: libvirt's type -> the model of a controller whose XML names none, where neither machine nor index decides
DEFAULT_MODELS: dict[str, str] = {}
for _type, _model in DRIVERS:
    DEFAULT_MODELS.setdefault(_type, _model)

_BY_DRIVER: Mapping[str, Provider] = {
    driver: row
    for row in reversed(PROVIDERS)
    if row.driver
    for driver in ([row.driver[:-1] + ending for ending in ENDINGS.values()] if row.driver.endswith("*") else [row.driver])
}
#: libvirt's types of controllers, in its order
TYPES = tuple(DEFAULT_MODELS)
#: drivers that libvirt has a type of controller for
CONTROLLERS = tuple(driver for driver, row in _BY_DRIVER.items() if row.type)
_ON_BUS: Mapping[str, tuple[str, ...]] = {"isa-fdc": ("floppy-bus.0",)}  # named by the machine, not by an id


@lru_cache(maxsize=1024)
def provider_of(driver: str) -> Provider:
    """The row of a driver; an empty one for what provides no bus that anybody names.

    >>> provider_of("ioh3420").model, provider_of("virtio-scsi-ccw").bus, provider_of("e1000").bus
    ('pcie-root-port', 'SCSI', '')
    """
    found = _BY_DRIVER.get(driver)
    if found is None:  # vhost-user and endings to come
        start = next((row for row in PROVIDERS if row.driver.endswith("*") and driver.startswith(row.driver[:-1])), None)
        found = start or _NO_MODEL
    return found


def is_companion(driver: str) -> bool:
    """Whether a USB controller serves the slow devices on another one's bus, and has none of its own."""
    return _COMPANION.match(driver) is not None


def controller_of(driver: str) -> tuple[str, str]:
    """libvirt's type and model of a controller; ("", "") for one that libvirt does not know.

    >>> controller_of("lsi53c895a"), controller_of("virtio-net-pci")
    (('scsi', 'lsilogic'), ('', ''))
    """
    row = provider_of(driver)
    return row.type, row.model


def buses_of(driver: str, id: str | None) -> tuple[Bus, ...]:
    """The buses that a device provides, empty.

    >>> [bus.name for bus in buses_of("virtio-scsi-pci", "scsi0")]
    ['scsi0.0']
    """
    row = provider_of(driver)
    if driver in _ON_BUS:
        return tuple(Bus(name, row.bus) for name in _ON_BUS[driver])
    if id is None or not row.bus:
        return ()
    return tuple(Bus(name, row.bus) for name in row.names(id))


#: Types of controllers whose first one libvirt names without a number, and how it writes the others.
_IDS: Mapping[str, str] = {"pci": r"pcie?\.(\d+)", "usb": r"usb(\d*)", "ide": r"ide(\d*)"}
#: how the origin of a controller goes on after its type
_NUMBER = pattern(r"(\d+)(?:[/#].*)?")


def libvirt_index(node: Node, type_: str) -> int | None:
    """libvirt's index of a controller; None for one that libvirt (or mdtool in its place) did not number.

    The origin says it.  Where none is recorded (a dump), libvirt's own names say it too: ``pci.7``, ``scsi0``, ``usb``.
    An id that anybody else chose is a name and no number, whatever it ends in.

    >>> libvirt_index(Node("pcie-root-port", "pci.7"), "pci"), libvirt_index(Node("pcie-root-port", "port7"), "pci")
    (7, None)
    >>> libvirt_index(Node("pcie-root-port", "pci.7", origin="commandline/pci.7"), "pci")
    """
    origin = node.origin or ""
    head = f"controller/{type_}/"
    if origin.startswith(head) and (match := _NUMBER.fullmatch(origin, len(head))):
        return small_number(match[1])
    if origin in (BUILTIN, MANUAL) or origin.startswith("commandline/"):
        return None
    match = re.fullmatch(_IDS.get(type_, rf"{re.escape(type_)}(\d+)"), node.id or "")
    return small_number(match[1] or "0") if match else None
