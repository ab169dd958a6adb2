"""What two devices cannot both have: a place, a chassis, a name on their bus.

The XML may ask for it, or a manual change of the description; QEMU would refuse the second device, and a guest that ran
cannot have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mdtool.errors import ConflictError, InputError, Position, Report
from mdtool.limits import MAX_BUSES_DEEP
from mdtool.machine.buses.kinds import EXCLUSIVE
from mdtool.machine.buses.pci import is_port
from mdtool.machine.machines import family_of
from mdtool.machine.tree import BUILTIN, Bus, Place, Tree
from mdtool.records import NamedTuple
from mdtool.text import pattern


class _Unique(NamedTuple):
    """Something that only one device can have: what to call it, and its key; None if a device has none."""

    rule: str
    shown: Callable[[Place], str]
    key: Callable[[Place], object]


def _address(place: Place) -> object:
    return (id(place.bus), place.node.address) if place.address and place.bus and place.bus.type in EXCLUSIVE else None


def _chassis(place: Place) -> object:
    properties = place.node.properties
    known = properties.get("chassis") is not None and is_port(place.node.driver)
    return (str(properties["chassis"]), str(properties.get("slot", 0))) if known else None


def _channel(place: Place) -> object:
    named = place.bus is not None and place.bus.type == "virtio-serial-bus" and place.node.properties.get("name")
    return (id(place.parent), place.node.properties["name"]) if named else None


_UNIQUE = (
    _Unique("same-id", lambda place: f"the id is {place.node.id}", lambda place: place.node.id),
    _Unique("same-address", lambda place: "at " + " ".join(place.address or ()), _address),
    _Unique("same-chassis", lambda place: f"chassis {place.node.properties['chassis']}", _chassis),
    _Unique("same-channel", lambda place: f"channel {place.node.properties['name']}", _channel),
)


def check_depth(tree: Tree, positions: Mapping[str, Position | None], report: Report) -> None:
    """Buses behind buses, more of them than a description may have."""
    behind: list[tuple[Bus, int]] = [(bus, 1) for bus in tree.buses]
    while behind:
        bus, depth = behind.pop()
        for node in bus.devices:
            if node.buses and depth >= MAX_BUSES_DEEP:
                what = f"more than {MAX_BUSES_DEEP} buses behind each other"
                report.error(InputError(what, at=positions.get(node.origin or ""), rule="limit-depth"))
                return
            behind += [(inner, depth + 1) for inner in node.buses]


def check_collisions(tree: Tree, positions: Mapping[str, Position | None], report: Report) -> None:
    """An error at each device that cannot be where another one is, or cannot be where it is; ``positions`` by origin."""

    def at(place: Place, rule: str = "") -> Position | None:
        asked, described = positions.get(place.node.origin or ""), place.node.position
        return (described or asked) if rule == "same-id" else (asked or described)  # the XML says no id of a survivor

    def refuse(place: Place, what: str, rule: str) -> None:
        remedy = "change one of them" if rule != "no-such-slot" else "give it another address, or none"
        report.error(ConflictError(f"{place.name}: {what}", at=at(place, rule), remedy=remedy, rule=rule))

    in_order = sorted(tree.places, key=lambda place: _rank(at(place)))
    for unique in _UNIQUE:
        first: dict[object, Place] = {}
        for place in in_order:
            if (key := unique.key(place)) is None:
                continue
            if key in first:
                where = at(first[key], unique.rule)
                other = f"{first[key].name} ({where})" if where else first[key].name
                refuse(place, f"{unique.shown(place)}, as is {other}", unique.rule)
            first.setdefault(key, place)
    is_full = any(place.node.origin == BUILTIN for place in tree.places)
    chipset = frozenset() if is_full else _chipset(tree)
    for place in tree.places:
        if place.address in chipset:
            refuse(place, f"at {' '.join(place.address or ())}, as is the chipset", "same-address")
        elif place.address and place.bus and place.bus.type in ("PCI", "PCIE") and not _is_brought(place):
            last = 0 if place.parent is not None and is_port(place.parent.driver) else 0x1F
            slot = _PCI_ADDRESS.fullmatch(place.address[1])
            if slot is None or int(slot[1], 16) > last:
                slots = f"slots 00.0 to {last:02x}.7" if last else "only slot 00, with functions 0 to 7"
                refuse(place, f"there is no {place.address[1]!r} on {place.bus.name}: it has {slots}", "no-such-slot")


_PCI_ADDRESS = pattern(r"([0-9A-Fa-f]{1,2})(?:\.[0-7])?")


def _is_brought(place: Place) -> bool:
    """Whether a device brings it, as a NIC its SR-IOV functions: their routing ids count, and no slot of the bus."""
    return place.node.origin == BUILTIN


def _chipset(tree: Tree) -> frozenset[tuple[str, str]]:
    """Where a machine's own devices are, for a description that does not have the built-ins."""
    family = family_of(str(tree.machine.get("type")), str(tree.machine.get("arch", "")))
    reserved = family.reserved(tree) if family is not None else {}
    return frozenset((bus, address) for bus, held in reserved.items() for address in held)


def _rank(position: Position | None) -> tuple[bool, int, int]:
    """Built-ins first, then as they are written."""
    return (position is not None, position.line if position else 0, position.column if position else 0)
