"""Devices by their QOM properties: what `info qtree` says, with types, and what it leaves out.

`info qtree` is the skeleton: which devices there are, in which order, which of their many QOM properties are qdev's
own, and the USB ports and MMIO bases that are no properties at all.  QOM has the values.  They are read in one batch
where QEMU has qom-list-get (10.1 and later), or one by one: slow, and the reference that the others are held against.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mdtool.errors import MonitorError, Warned
from mdtool.machine.tree import Value
from mdtool.qemu.phases import Task, answered, or_none
from mdtool.qemu.replies import FOLDED, RawBus, RawDevice
from mdtool.qemu.session import Refused
from mdtool.text import pattern

#: QOM properties that can be set, that the guest sees and that `info qtree` does not show, since they are not qdev's
BESIDES_QDEV: Mapping[str, tuple[str, ...]] = {
    "ICH9-LPC": ("disable_s3", "disable_s4", "acpi-pci-hotplug-with-bridge-support"),
    "qemu-xhci": ("p2", "p3", "streams"),
    "nec-usb-xhci": ("p2", "p3", "streams"),
    "virtio-mem-pci": ("block-size", "memaddr", "node"),  # the latter two are in the text of QEMU 7.2
    "isa-fdc": ("bootindexA", "bootindexB"),
    "realview_sysctl": ("db-voltage", "db-clock"),  # which QEMU 8.2 to 10.0 print as a sorted set
}
_BOOTABLE = frozenset({"drive", "netdev", "mac"})
_BOOTABLE_DRIVERS = pattern(r"vfio-pci|vfio-ccw|usb-host|usb-redir|vhost-user-(blk|fs)-.*|vhost-(user-)?scsi-.*")

#: path -> {property: (type, value)}
Bags = Mapping[str, Mapping[str, tuple[str, Any]]]
Reader = Callable[[Iterable[str]], Task[Bags]]


def besides(device: RawDevice, *, user: bool) -> tuple[str, ...]:
    """The properties of a device that only QOM has; a boot index of what a ``user`` made and may boot."""
    names = BESIDES_QDEV.get(device.driver, ())
    inside = (d for bus in device.buses if bus.type in FOLDED for d in bus.devices)
    boots = _BOOTABLE_DRIVERS.fullmatch(device.driver) or any(
        not _BOOTABLE.isdisjoint(d.properties) for d in (device, *inside)
    )
    if not user:
        return tuple(name for name in names if not name.startswith("bootindex"))
    return (*names, "bootindex") if boots and "bootindexA" not in names else names


def batch(warn: Warned) -> Reader:
    """A reader by qom-list-get: all of it is one question."""

    def read(paths: Iterable[str]) -> Task[Bags]:
        asked = list(paths)
        if not asked:
            return {}
        answers = answered((yield [("qom-list-get", {"paths": asked})])[0])
        for path, answer in zip(asked, answers, strict=True):
            for entry in answer["properties"]:
                if "value" not in entry and not is_structure(entry["type"]):
                    warn(f"{path}: QEMU cannot say its {entry['name']}")
        return {
            path: {entry["name"]: (entry["type"], entry.get("value")) for entry in answer["properties"]}
            for path, answer in zip(asked, answers, strict=True)
        }

    return read


def one_by_one(warn: Warned) -> Reader:
    """A reader by qom-list and qom-get, two thousand questions for a hundred devices."""

    def read(paths: Iterable[str]) -> Task[Bags]:
        bags: dict[str, dict[str, tuple[str, Any]]] = {path: {} for path in paths}
        lists = yield [("qom-list", {"path": path}) for path in bags]
        entries = [
            (path, entry["name"], entry["type"])
            for path, found in zip(bags, lists, strict=True)
            for entry in answered(found)
        ]
        plain = [(path, name) for path, name, kind in entries if not kind.startswith("child<")]
        values = iter((yield [("qom-get", {"path": path, "property": name}) for path, name in plain]))
        for path, name, kind in entries:
            value = f"{path}/{name}" if kind.startswith("child<") else next(values)
            if not isinstance(value, Refused):
                bags[path][name] = (kind, value)
            elif not is_structure(kind) and not name.startswith("legacy-"):
                warn(f"{path}: {value.what}")
        return bags

    return read


def is_structure(kind: str) -> bool:
    """Whether a property of that type is an object or a structure, as far as its name says so."""
    return kind.startswith(("child<", "link<", "struct "))


def fill(source: str, buses: list[RawBus], users: Mapping[str, str], read: Reader, tree: str) -> Task[None]:
    """Replace every value of the skeleton by QOM's, add what QOM has besides, and find every device's path.

    ``tree`` is ``info qom-tree``, which says where the buses are.
    """
    paths = dict(_paths(tree))
    kinds = {bus.type for bus in all_buses(buses)}
    links = yield from read(path for path, kind in paths.items() if kind in kinds)
    system = next((path for path, kind in paths.items() if kind == "System"), None)
    if system is None:
        raise MonitorError(f"{source}: info qom-tree shows no system bus")
    found = list(_devices(buses[0], system, links, source))
    bags = yield from read(path for path, _ in found)
    for path, device in found:
        _take(device, bags[path], besides(device, user=path in users))


def _paths(tree: str) -> Iterator[tuple[str, str]]:
    """(path, type) of every object, from ``info qom-tree``: ``  /net0 (virtio-net-pci)``."""
    stack: list[str] = []
    for blanks, name, kind in re.findall(r"^( *)/(.*) \(([^()\n]*)\)$", tree, re.MULTILINE):
        del stack[len(blanks) // 2 :]
        stack.append(name)
        yield "/" + "/".join(stack), kind


def all_buses(buses: Iterable[RawBus]) -> Iterator[RawBus]:
    for bus in buses:
        yield bus
        for device in bus.devices:
            yield from all_buses(device.buses)


def _devices(bus: RawBus, path: str, links: Bags, source: str) -> Iterator[tuple[str, RawDevice]]:
    """(QOM path, device): a bus links to its devices as child[0], child[1], ..., the eldest first."""
    children = {
        int(name[6:-1]): str(value) for name, (_, value) in links.get(path, {}).items() if name.startswith("child[")
    }
    if len(children) != len(bus.devices):
        raise MonitorError(f"{source}: bus {bus.name} changed while it was read", remedy="dump again")
    for number, device in zip(sorted(children, reverse=True), bus.devices, strict=True):
        device.path = children[number]
        yield device.path, device
        for inner in device.buses:
            yield from _devices(inner, f"{device.path}/{inner.name.replace('/', chr(92) + 'x2f')}", links, source)


def _take(device: RawDevice, bag: Mapping[str, tuple[str, Any]], more: Iterable[str]) -> None:
    for name, (kind, value) in bag.items():
        if name in device.properties:
            device.properties[name] = plain(name, kind, value)
        elif name in more:
            device.properties[name] = value


#: QOM properties of every device that describe the object and not the machine
_OBJECT = frozenset({"type", "realized", "hotplugged", "hotpluggable", "parent_bus"})


def loose(users: Mapping[str, str], read: Reader) -> Task[list[RawDevice]]:
    """Devices that sit on no bus `info qtree` knows of, with all their plain QOM properties."""
    bags = yield from read(users)
    return [
        RawDevice(
            driver=users[path],
            id=path.rpartition("/")[2] if path.startswith("/machine/peripheral/") else "",
            properties={
                name: plain(name, kind, value)
                for name, (kind, value) in bag.items()
                if name not in _OBJECT and not is_structure(kind) and not name.startswith("legacy-")
            },
            path=path,
        )
        for path, bag in bags.items()
    ]


def plain_values(path: str, *, batch: bool) -> Task[dict[str, Value]]:
    """The properties of an object that are a switch, a number or a string: of a CPU its features and what it is."""
    if batch:
        (answer,) = answered((yield [("qom-list-get", {"paths": [path]})])[0])
        found = {entry["name"]: entry.get("value") for entry in answer["properties"] if not is_structure(entry["type"])}
    else:
        entries = answered((yield [("qom-list", {"path": path})])[0])
        names = [e["name"] for e in entries if not is_structure(e["type"]) and e["name"] not in _OBJECT]
        values = yield [("qom-get", {"path": path, "property": name}) for name in names]
        found = dict(zip(names, map(or_none, values), strict=True))
    return {
        name: found[name]
        for name in sorted(found)
        if name not in _OBJECT and isinstance(found[name], (bool, int, str)) and not name.startswith("legacy-")
    }


def plain(name: str, kind: str, value: Value) -> Value:
    """A QOM value of that type in the form that `info qtree` has.

    PCI addresses are text, structures and empty lists are nothing, and a uint64 of all ones is -1: `info qtree` prints
    that, and QEMU takes it for the same.

    >>> plain("addr", "int32", 0x2B), plain("MCFG", "uint64", 2**64 - 1), plain("io-reserve", "size", 2**64 - 1)
    ('05.3', -1, 18446744073709551615)
    """
    if kind == "uint64" and isinstance(value, int) and value >= 1 << 63:
        return value - (1 << 64)
    if name == "addr" and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 256:
        return f"{value >> 3:02x}.{value & 7}"
    if isinstance(value, dict) or (isinstance(value, list) and (not value or isinstance(value[0], dict))):
        return None
    return value
