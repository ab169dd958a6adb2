"""The devices of a machine that was read: how they are walked, named, and matched with the options that made them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mdtool.commandline.option import Option
from mdtool.commandline.placeholder.drivers import substitute_of
from mdtool.commandline.placeholder.hostside import HostSide, OptionBag
from mdtool.commandline.placeholder.options import BACKENDS, UNNAMED
from mdtool.errors import Position, QemuError
from mdtool.guest.elements.interface import BOARD
from mdtool.importer.row import Written
from mdtool.machine.buses.kinds import PCI_BUSES
from mdtool.machine.buses.providers import provider_of
from mdtool.machine.drivers import same_driver
from mdtool.machine.roles import is_hosts
from mdtool.qemu.replies import FOLDED, Raw, RawBus, RawDevice
from mdtool.qemu.session import Session
from mdtool.records import dataclass, field


@dataclass
class ImportedDevice:
    """A device on its way into the XML: ``made`` is its element, ``verbatim`` the option that it stays if it has none.

    What is ``on_board`` is the machine's own, and only its host side is in the XML; ``parts`` are the ids of codecs.
    """

    device: RawDevice
    given: OptionBag | None
    made: Written | None = None
    verbatim: Option | None = None
    on_board: bool = False
    parts: list[str] = field(default_factory=list)

    @property
    def at(self) -> Position | None:
        return self.given.option.position if self.given is not None else None


def fits(bag: Mapping[str, Any], device: RawDevice, arch: str) -> bool:
    """Whether a -device without an id can have made a device: the driver, and the back end that it names."""
    driver = str(bag.get("driver"))
    if not same_driver(substitute_of(driver, bag, arch) or driver, device.driver):
        return False
    properties = properties_of(device)
    have = {name: str(properties.get(name) or "").removeprefix("#").rpartition("/")[2] for name in BACKENDS if name in bag}
    return all(not found or found == str(bag[name]) or found.startswith("import-") for name, found in have.items())


def properties_of(device: RawDevice) -> dict[str, Any]:
    """With those of the device behind a virtio proxy."""
    inner = next((bus.devices[0] for bus in device.buses if bus.type in FOLDED and bus.devices), None)
    return {**(inner.properties if inner is not None else {}), **device.properties}


def _inner(device: RawDevice) -> list[RawDevice]:
    """What is behind a virtio proxy."""
    return [one for bus in device.buses if bus.type in FOLDED for one in bus.devices]


def buses_below(device: RawDevice) -> list[RawBus]:
    """The buses that a device provides, itself or behind a proxy."""
    return [bus for provider in (device, *_inner(device)) for bus in provider.buses]


def name_device(device: RawDevice, id: str) -> dict[str, str]:
    """Give a device an id, and its buses the names that QEMU derives from it; old names of buses and new ones."""
    device.id = id
    renamed: dict[str, str] = {}
    for provider in (device, *_inner(device)):
        for number, bus in enumerate(sorted(provider.buses, key=_number_of)):  # QEMU lists the youngest first
            row = provider_of(provider.driver)
            name = id if row.named or (not row.bus and bus.type in PCI_BUSES) else f"{id}.{number}"
            is_by_id = (
                row.named
                or bus.type in PCI_BUSES
                or re.fullmatch(rf"({re.escape(bus.type.lower())}|.*@[0-9a-f]+)\.\d+", bus.name)
            )
            if bus.type not in FOLDED and is_by_id:  # some drivers call their bus always alike (sdhci-pci)
                renamed[bus.name], bus.name = name, name
    return renamed


def _number_of(bus: RawBus) -> int:
    """The number that QEMU's own name of a bus ends in, 0 where there is none."""
    return int(re.search(r"\d*$", bus.name)[0] or 0)  # type: ignore[index]


def name_hubs(raw: Raw, host: HostSide) -> None:
    """What is behind a NIC of -net: the hub's back end, or the network that QEMU gives by default."""
    number = 0
    for _, device in in_order(raw.buses):
        if "mac" in device.properties and re.fullmatch(r"|hub\d+port\d+", str(device.properties.get("netdev") or "")):
            name = "default" if "default" in host.nets else f"hub{number}"
            device.properties["netdev"] = name if name in host.nets else ""
            number += 1


#: devices of a board that have a host side, which the XML says
ON_BOARD = frozenset({"sd-card", *BOARD})
#: back ends that are links, which `info qtree` leaves out: driver -> property
_LINKS = {
    "isa-serial": "chardev", "isa-parallel": "chardev", "virtio-rng-pci": "rng", "virtio-rng-device": "rng",
    "virtio-rng-ccw": "rng", "pc-dimm": "memdev", "ivshmem-plain": "memdev",
}  # fmt: skip


def add_links(session: Session, device: RawDevice) -> None:
    name = _LINKS.get(device.driver)
    if name is None or name in device.properties:
        return
    if device.path is None:  # the board's own, which -serial and -parallel made
        device.properties[name] = f"{device.driver.removeprefix('isa-')}{device.properties.get('index', 0)}"
        return
    with suppress(QemuError):
        device.properties[name] = session.execute("qom-get", {"path": device.path, "property": name})


def names_of_drives(session: Session) -> dict[str, str]:
    """The name that QEMU gives a drive without one -> what it is called here."""
    nodes = {
        str(one["device"]): str(one.get("inserted", {}).get("node-name", "")) for one in session.execute("query-block")
    }
    return {device: node for device, node in nodes.items() if node.startswith(UNNAMED)}


def in_order(buses: Sequence[RawBus]) -> Iterator[tuple[RawBus, RawDevice]]:
    """As made: QEMU lists the youngest first, and a carrier before what it carries."""
    for bus in buses:
        for device in reversed(bus.devices):
            yield bus, device
            yield from in_order(device.buses)


def typed(value: Any, like: Any) -> Any:
    """A value that a script spells, as QEMU's JSON wants it: ``like`` is one of the same type, None if unknown."""
    if not isinstance(value, str):
        return value
    if isinstance(like, bool) or (like is None and value in ("on", "off")):
        return value in ("on", "yes", "true")
    if (isinstance(like, int) or like is None) and re.fullmatch(r"[0-9]{1,20}|0x[0-9a-fA-F]{1,16}", value):
        return int(value, 0)
    return value


def is_hosts_key(driver: str, key: str, value: Any) -> bool:
    """Whether it speaks of the host."""
    return key == "write-cache" or is_hosts(driver, key, value)
