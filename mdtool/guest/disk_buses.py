"""Buses of disks: a row each, with libvirt's word for it, what sits there, how its places are counted and named.

A row is all that a bus needs: reading the XML (``elements.disk``), numbering (``allocation.drives``), the controllers that
libvirt adds (``defaults``), QEMU's bus and address (``place``) and ids (``alias``) ask this table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from mdtool.guest.table import virtio
from mdtool.records import NamedTuple


class Layout(NamedTuple):
    """How many drives a controller has: on each of its buses, and on how many buses; ``alone``: there is one controller."""

    units: int
    buses: int = 1
    alone: bool = False

    def place(self, number: int) -> tuple[int, int, int]:
        """(controller, bus, unit) of a drive's number.

        >>> Layout(2, buses=2).place(7)
        (1, 1, 1)
        """
        controller, rest = divmod(number, self.units * self.buses)
        bus, unit = divmod(rest, self.units)
        return controller, bus, unit


#: the controller's id, the numbers of an address: bus, target, unit -> QEMU's bus and address
At = Callable[[str, int, int, int], tuple[str, str]]


class DiskBus(NamedTuple):
    """One row.

    ``target``   how a target's name begins: ``hd``; ``nvme`` names controller and namespace, all others count in letters
    ``drivers``  device, or device and model -> QEMU's type; "" for what is the machine's own
    ``layout``   how the controllers count their drives; None for a bus that has no address of type ``drive``
    ``at``       QEMU's bus and address of a place; on a SCSI bus where a unit is all of a place it is ``NARROW_AT``
    ``alias``    how an id begins where it is no place; "" where the bus's own name does
    """

    target: str
    drivers: Mapping[str, str] = {}
    layout: Layout | None = None
    at: At = lambda id, bus, _target, unit: (f"{id}.{bus}", str(unit))
    alias: str = ""


#: more namespaces than an NVMe controller of QEMU's has
NAMESPACES = 256
#: drives of a narrow SCSI controller
NARROW_UNITS = 7
#: on a controller where a unit is all of a SCSI drive's place
NARROW_AT: At = lambda id, bus, _target, unit: (f"{id}.{bus}", f"0:{unit}:0")  # noqa: E731

#: in libvirt's order of the controllers that it adds
DISK_BUSES: Mapping[str, DiskBus] = {
    "virtio": DiskBus(
        "vd",
        {f"{device}/{model}": driver for model, driver in virtio("virtio-blk").items() for device in ("disk", "lun")},
        alias="virtio-disk",
    ),
    # by another process, which is all that QEMU knows of it
    "vhostuser": DiskBus("vd", {f"disk/{model}": driver for model, driver in virtio("vhost-user-blk").items()}),
    # by libvirt's reckoning every SCSI bus is a narrow one: seven drives and the controller itself
    "scsi": DiskBus(
        "sd",
        {"disk": "scsi-hd", "cdrom": "scsi-cd", "lun": "scsi-block"},
        Layout(NARROW_UNITS),
        lambda id, bus, target, unit: (f"{id}.0", f"{bus}:{target}:{unit}"),
    ),
    "fdc": DiskBus(
        "fd", {"floppy": "floppy"}, Layout(2, alone=True), lambda _id, _b, _t, unit: ("floppy-bus.0", str(unit))
    ),
    "ide": DiskBus("hd", {"disk": "ide-hd", "cdrom": "ide-cd"}, Layout(2, buses=2, alone=True)),
    "sata": DiskBus("sd", {"disk": "ide-hd", "cdrom": "ide-cd"}, Layout(6), lambda id, _b, _t, unit: (f"{id}.{unit}", "0")),
    "nvme": DiskBus("nvme", {"disk": "nvme-ns"}, Layout(NAMESPACES), lambda id, _b, _t, unit: (id, str(unit + 1))),
    "usb": DiskBus("sd", {"disk": "usb-storage", "cdrom": "usb-storage"}, alias="usb-disk"),
    "usb-bot": DiskBus("sd", {"disk": "usb-bot", "cdrom": "usb-bot"}),
    "sd": DiskBus("sd", {"disk": ""}),
    "xen": DiskBus("xvd"),
    "uml": DiskBus("ubd"),
}
#: those whose disks have an address of type ``drive``
LAYOUTS: Mapping[str, Layout] = {bus: row.layout for bus, row in DISK_BUSES.items() if row.layout is not None}

#: The beginning of a target's name -> the bus that libvirt takes for it.
_MEANT = {row.target: name for name, row in reversed(list(DISK_BUSES.items()))}


@lru_cache(4096)
def bus_meant_by(target: str) -> str:
    """The bus of a disk whose XML names none, by its target; "" where that says none.

    >>> bus_meant_by("sda"), bus_meant_by("vdb"), bus_meant_by("nvme0n1"), bus_meant_by("floppy")
    ('scsi', 'virtio', 'nvme', '')
    """
    return next((bus for start, bus in _MEANT.items() if target.startswith(start)), "")


@lru_cache(4096)
def disk_number(target: str) -> int:
    """The number in a disk's target: 0 for ``vda``, 27 for ``sdab``, 1 for ``hdb``; -1 for a name that has none.

    >>> disk_number("vdc"), disk_number("xvdab1"), disk_number("nvme1n2"), disk_number("nvme0"), disk_number("disk")
    (2, 27, 257, -1, -1)
    """
    start = next((start for start in _MEANT if target.startswith(start)), None)
    if start == "nvme":
        return int(found[1]) * NAMESPACES + int(found[2]) - 1 if (found := nvme_target(target)) else -1
    letters = re.fullmatch(r"([a-z]+)\d*", target[len(start) :]) if start is not None else None
    number = 0
    for letter in letters[1] if letters else "":
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def nvme_target(target: str) -> re.Match[str] | None:
    """Controller and namespace in a target on an NVMe controller, ``nvme0n1``; None for any other name."""
    return re.fullmatch(r"nvme([0-9]{1,4})n([1-9][0-9]{0,3})", target)
