"""What a QEMU says of its machine, before anything is made of it: the same whichever way it was asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mdtool.machine.tree import Value
from mdtool.records import dataclass, field

#: what flash memory holds, as a property of its own making
CONTENTS = "sha256"
#: buses between a virtio proxy and its one device, which are one node
FOLDED = frozenset({"virtio-pci-bus", "virtio-ccw-bus"})


@dataclass(slots=True)
class RawBus:
    """A bus; ``devices`` youngest first, as QEMU keeps them."""

    name: str
    type: str
    devices: list[RawDevice] = field(default_factory=list)


@dataclass(slots=True)
class RawDevice:
    """A device with every qdev property, host side and all.

    ``id``    "" for an anonymous one
    ``port``  the USB port it was given, which is in no property unless it was chosen
    ``mmio``  bases of a system-bus device's memory regions, in hex as QEMU prints them
    ``pci``   what a PCI device is: ``{"class": "VGA controller", "id": "1234:1111", "bar0": "mem 16777216", ...}``
    ``path``  its QOM path where it is known; always, for what a user made
    ``repeated``  properties that `info qtree` has more than once, which no device has
    """

    driver: str
    id: str
    properties: dict[str, Value] = field(default_factory=dict)
    buses: list[RawBus] = field(default_factory=list)
    port: str | None = None
    mmio: list[str] = field(default_factory=list)
    pci: dict[str, Value] = field(default_factory=dict)
    path: str | None = None
    repeated: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Raw:
    """A machine.

    ``users``    QOM path of what -device or device_add made: its driver
    ``answers``  to the questions that are not about devices (``read.QUESTIONS``); None where QEMU has no answer
    ``loose``    devices on no bus that a user made and no reply lists
    """

    version: tuple[int, int, int]
    buses: list[RawBus]
    users: Mapping[str, str]
    answers: Mapping[str, Any]
    loose: list[RawDevice] = field(default_factory=list)


def placed(buses: Iterable[RawBus]) -> Iterator[tuple[RawBus, RawDevice]]:
    """Every device with its bus, outer ones first."""
    for bus in buses:
        for device in bus.devices:
            yield bus, device
            yield from placed(device.buses)


def data_from_buses(buses: Iterable[RawBus]) -> list[Any]:
    """Buses as ``info qtree`` gives them, before anything else is asked, as lists that a cache takes."""
    return [
        (
            bus.name,
            bus.type,
            [
                (one.driver, one.id, one.properties, data_from_buses(one.buses), one.port, one.mmio, one.pci, one.repeated)
                for one in bus.devices
            ],
        )
        for bus in buses
    ]


def buses_from_data(data: Iterable[Any]) -> list[RawBus]:
    return [
        RawBus(
            name,
            type_,
            [
                RawDevice(driver, id_, properties, buses_from_data(buses), port, mmio, pci, repeated=repeated)
                for driver, id_, properties, buses, port, mmio, pci, repeated in devices
            ],
        )
        for name, type_, devices in data
    ]
