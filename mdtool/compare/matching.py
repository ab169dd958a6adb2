"""Which node of one machine is which of another: ids are names, and no guest sees a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mdtool.machine.drivers import same_driver
from mdtool.machine.tree import BUILTIN, MANUAL, Bus, Place, Tree
from mdtool.machine.values import same

Pairs = list[tuple[Place, Place]]


def matched(description: Tree, machine: Tree) -> tuple[Pairs, list[Place], list[Place]]:
    """(pairs, described and not there, there and not described).

    No guest sees an id: ``-net nic`` gives none, and libvirt reassigns them, so that another NIC may have it.  So
    in this order: the same name and no contradiction; the same XML element; the same place and no contradiction; the same
    id; the same place; and at last a device without a place, and an anonymous one (named by where it is), with another one
    of its driver, nearest first.  A place is the way to it, or, on a bus of the machine's own that a partial description
    has without what provides it, that bus's name.
    """
    left: dict[str, Place] = dict(machine.by_name)
    alone = dict(description.by_name)
    way_to, by_way = ways(description), {way: name for name, way in ways(machine).items()}
    at: dict[tuple[str | None, str | None], str] = {
        (bus_of(place), place.node.address): name for name, place in left.items() if place.node.address is not None
    }
    by_origin = {
        origin: place.name
        for place in left.values()
        if (origin := place.node.origin) is not None and origin not in (BUILTIN, MANUAL)
    }
    pairs: dict[str, Place] = {}

    def named(place: Place) -> Place | None:
        return left.get(place.name)

    def element(place: Place) -> Place | None:
        return left.get(by_origin.get(place.node.origin or "", ""))

    def placed(place: Place) -> Place | None:
        there = by_way.get(way_to.get(place.name, ()))
        if there is None and (place.parent is None or place.name not in way_to):
            there = at.get((bus_of(place), place.node.address))
        return left.get(there or "")

    def like(place: Place) -> Place | None:
        others = [other for other in left.values() if _may_be(place, other)]
        return min(others, key=lambda other: bus_of(other) != bus_of(place), default=None)

    rules: tuple[tuple[Callable[[Place], Place | None], Callable[[Place, Place], bool]], ...] = (
        (named, _agree),
        (element, _agree),
        (placed, _agree),
        (named, lambda one, _: one.node.id is not None),
        (element, _same_driver),
        (placed, _same_driver),
        (like, _agree),
        (like, _same_driver),
    )
    for candidate, fits in rules:
        for place in list(alone.values()):
            if (other := candidate(place)) is not None and fits(place, other):
                pairs[place.name] = left.pop(other.name)
                del alone[place.name]
    found = [(place, pairs[place.name]) for place in description.places if place.name in pairs]
    return found, list(alone.values()), list(left.values())


def _may_be(place: Place, other: Place) -> bool:
    """Of one driver, and neither an id nor an address tells the two apart."""
    if not _same_driver(place, other):
        return False
    anonymous = place.node.id is None and other.node.id is None
    is_shared = place.node.address == other.node.address  # of ISA cards, which may be at one port
    return anonymous or is_shared or place.node.address is None or other.node.address is None


def _agree(one: Place, other: Place) -> bool:
    """The same driver, and nothing that makes them two devices."""
    mine, others = ({**place.node.pins, **place.node.properties} for place in (one, other))
    marks = [name for name in ("mac", "serial", "wwn") if mine.get(name) and others.get(name)]
    return _same_driver(one, other) and all(same(mine[name], others[name]) for name in marks)


def ways(tree: Tree) -> dict[str, tuple[str, ...]]:
    """Node name -> the way to it, in which ids have no part: the top bus, then a bus's number and an address in turn.

    Only where each of the addresses is known, or a device is alone on its bus: ``("pcie.0", "0", "02.0", "0", "00.0")``.
    """
    found: dict[str, tuple[str, ...]] = {}
    names = {id(place.node): place.name for place in tree.places}
    for place in tree.places:
        if place.bus is None or (place.node.address is None and len(place.bus.devices) > 1):
            continue
        number = [bus.name for bus in place.parent.buses].index(place.bus.name) if place.parent is not None else 0
        before = (place.bus.name,) if place.parent is None else found.get(names[id(place.parent)])
        if before is not None:
            found[place.name] = (*before, str(number), place.node.address or "")
    return found


def bus_of(place: Place) -> str | None:
    return place.bus.name if place.bus is not None else None


def same_bus(want: Place, have: Place, providers: Mapping[int, int]) -> bool:
    """A bus is named after its device: with another id it has another name, and is the same one on the same device.

    ``providers``: identity of a described node -> that of the machine's node it was matched with.
    """
    if bus_of(want) == bus_of(have):
        return True
    if want.parent is None or have.parent is None or want.bus is None or have.bus is None:
        return _is_the_only(want, have)
    if providers.get(id(want.parent)) != id(have.parent):
        return False
    return _number(want.parent.buses, want.bus) == _number(have.parent.buses, have.bus)


def _is_the_only(want: Place, have: Place) -> bool:
    """A described bus without what provides it: on the machine it is a built-in's, under that one's own name."""
    outer, inner = (want, have) if want.parent is None else (have, want)
    if inner.parent is None or outer.bus is None or inner.bus is None:
        return False
    return inner.parent.origin == BUILTIN and outer.bus.type == inner.bus.type and outer.bus.host == inner.parent.driver


def _number(buses: tuple[Bus, ...], bus: Bus) -> int:
    return [one.name for one in buses].index(bus.name)


def _same_driver(one: Place, other: Place) -> bool:
    return same_driver(one.node.driver, other.node.driver)
