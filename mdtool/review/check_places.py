"""Checks of buses and addresses: whether each device can be where it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mdtool.errors import choices
from mdtool.machine import facts
from mdtool.machine.buses.kinds import EXCLUSIVE, KNOWN_BUSES, PCI_BUSES, PORTS_ONLY, SHARED, form_of, homes
from mdtool.machine.buses.limits import LIMITS, usb_ports, usb_speeds
from mdtool.machine.buses.pci import BRIDGES, EXPRESS, is_port
from mdtool.machine.tree import BUILTIN, Bus, Place
from mdtool.machine.values import is_on, natural
from mdtool.machine.writer import address_key
from mdtool.review.findings import Finding, Subject, each_node

# --- buses -----------------------------------------------------------------------------------------------------------


def bus_known(subject: Subject) -> Iterator[Finding]:
    """A dump names the machine's own buses; without one, the machine type says which there are."""
    machine = subject.machine
    if machine is None or not machine.buses:
        return
    if subject.is_full:
        known = {bus.name for bus in subject.tree.buses if bus.host is not None} | {"main-system-bus", *machine.buses}
    else:
        known = {*machine.buses}
    for bus in subject.tree.buses:
        if bus.name not in known and bus.devices and not bus.name.startswith(machine.families):
            what = f"there is no bus '{bus.name}' on {subject.tree.machine['type']}"
            yield Finding(bus.name, "bus", what, choices(known))


@each_node
def bus_provided(subject: Subject, place: Place) -> Iterator[Finding]:
    expected = facts.provided(place.node)
    if expected is None:
        return
    for bus in place.node.buses:
        if bus.name not in expected:
            what = f"{place.name}: a {place.node.driver} provides no bus '{bus.name}'"
            remedy = "a bus is named by the id of what provides it: an id was changed on one of them only"
            expect = choices(expected) if expected else "no buses"
            yield Finding(bus.name, "bus", what, expect, remedy if expected else None)


@each_node
def bus_type(subject: Subject, place: Place) -> Iterator[Finding]:
    for bus in place.node.buses:
        kind = (facts.provided(place.node) or {}).get(bus.name, bus.type)
        if kind != bus.type:
            what = f"bus '{bus.name}' of {place.name} is {kind}, and the description says {bus.type}"
            yield Finding(bus.name, "bus", what, kind)


@each_node
def bus_holds(subject: Subject, place: Place) -> Iterator[Finding]:
    if place.bus is None:
        return
    driver = subject.knowledge.driver(place.node.driver) if subject.knowledge else None
    kinds = facts.buses_for(driver.bus) if driver is not None and driver.bus else homes(place.node.driver)
    if kinds and place.bus.type not in kinds and place.bus.type in KNOWN_BUSES:
        what = f"{place.name}: {place.node.driver} cannot go on {place.bus.name}, which is a {place.bus.type} bus"
        fitting = sorted((b.name for b in subject.tree.all_buses.values() if b.type in kinds), key=natural)
        expect = choices(fitting) if fitting else f"a bus of type {' or '.join(sorted(kinds))}"
        yield Finding(place.name, "driver", what, expect)


@each_node
def only_bridges(subject: Subject, place: Place) -> Iterator[Finding]:
    if place.bus is not None and place.bus.type in PORTS_ONLY and not BRIDGES.match(place.node.driver):
        what = f"{place.name}: only bridges can be plugged into {place.bus.name}, and {place.node.driver} is not a bridge"
        yield Finding(place.name, "driver", what, "a port or a bridge, with the device behind it")


# --- addresses -------------------------------------------------------------------------------------------------------


@each_node
def address_form(subject: Subject, place: Place) -> Iterator[Finding]:
    form = form_of(place.bus.type) if place.bus else None
    if form and place.node.address is not None and not form.pattern.fullmatch(place.node.address):
        what = f"{place.name}: '{place.node.address}' is not an address of a {place.bus.type} bus"  # type: ignore[union-attr]
        yield Finding(place.name, "address", what, form.says)


@each_node
def address_range(subject: Subject, place: Place) -> Iterator[Finding]:
    if place.bus is None or place.node.address is None:
        return
    limit = LIMITS.get(place.bus.type)
    provider = subject.providers.get(place.bus.name)
    units = subject.machine.ide_units if subject.machine else 1
    expected = limit(place, provider.node if provider else None, units) if limit else None
    if expected:
        what = f"{place.name}: there is no {place.node.address} on {place.bus.name}"
        yield Finding(place.name, "address", what, expected)


def address_taken(subject: Subject) -> Iterator[Finding]:
    yield from taken(subject, lambda bus: bus.type in EXCLUSIVE)


def address_shared(subject: Subject) -> Iterator[Finding]:
    yield from taken(subject, lambda bus: bus.type in SHARED)


def taken(subject: Subject, applies: Callable[[Bus], bool]) -> Iterator[Finding]:
    for name, places in subject.on.items():
        bus = places[0].bus
        if bus is None or not applies(bus):
            continue
        seen: dict[Any, Place] = {}
        for place in sorted(places, key=lambda p: p.node.origin != BUILTIN):  # the machine's own were there first
            if place.node.address is None:
                continue
            first = seen.setdefault(address_key(place.node.address), place)
            if first is not place:
                what = f"{place.name}: {name} {place.node.address} is taken by {first.name}"
                yield Finding(place.name, "address", what, _free(bus, places))


def _free(bus: Bus, places: Iterable[Place], also: Iterable[str] = ()) -> str | None:
    """The free PCI slots of a bus, in words; None for other buses."""
    if bus.type not in PCI_BUSES:
        return None
    used = {str(place.node.address)[:2] for place in places} | {address[:2] for address in also}
    free = [f"{slot:02x}.0" for slot in range(bus.name.startswith(("pci.", "pcie.")), 32) if f"{slot:02x}" not in used]
    more = ", ..." if len(free) > 8 else ""
    return f"a free slot: {', '.join(free[:8])}{more}" if free else "another bus: this one is full"


def address_reserved(subject: Subject) -> Iterator[Finding]:
    machine = subject.machine
    if machine is None or subject.is_full:
        return  # a dump lists what is there
    for name, reserved in machine.reserved(subject.tree).items():
        places = subject.on.get(name, [])
        for place in places:
            holder = reserved.get(str(place.node.address)) or reserved.get(str(place.node.address)[:2] + ".*")
            if holder and place.bus is not None:
                what = f"{place.name}: {name} {place.node.address} belongs to the machine's own {holder}"
                yield Finding(place.name, "address", what, _free(place.bus, places, reserved))


def multifunction(subject: Subject) -> Iterator[Finding]:
    for name, zero, others in _slots(subject):
        if zero is not None and others and not is_on(zero.node.value("multifunction")):
            first = others[0]
            what = f"{first.name}: {name} {first.node.address} shares a slot with {zero.name}, whose function 0 is alone"
            remedy = f"give {zero.name} the property multifunction: true"
            yield Finding(first.name, "address", what, _free(first.bus, subject.on[name]) if first.bus else None, remedy)


def function_zero(subject: Subject) -> Iterator[Finding]:
    for name, zero, others in _slots(subject):
        if zero is None and others:
            first = others[0]
            slot = str(first.node.address)[:2]
            what = f"{first.name}: no guest looks at {name} {first.node.address} while there is nothing at {slot}.0"
            yield Finding(first.name, "address", what, f"{slot}.0")


def _slots(subject: Subject) -> Iterator[tuple[str, Place | None, list[Place]]]:
    """(bus name, function 0 of a slot, its other functions that are not built in)."""
    for name, places in subject.on.items():
        if places[0].bus is None or places[0].bus.type not in PCI_BUSES:
            continue
        reserved = subject.machine.reserved(subject.tree).get(name, {}) if subject.machine and not subject.is_full else {}
        by_slot: dict[str, dict[str, Place]] = defaultdict(dict)
        for place in places:
            if place.node.address is not None:
                slot, _, function = place.node.address.partition(".")
                by_slot[slot][function] = place
        for slot, functions in by_slot.items():
            others = [p for f, p in sorted(functions.items()) if f != "0" and p.node.origin != BUILTIN]
            if f"{slot}.0" not in reserved:
                yield name, functions.get("0"), others


@each_node
def port_slot(subject: Subject, place: Place) -> Iterator[Finding]:
    provider = subject.providers.get(place.bus.name) if place.bus else None
    if provider is None or not is_port(provider.node.driver) or place.node.address is None:
        return
    if place.node.address[:2] != "00":
        what = f"{place.name}: behind the port {provider.name} a guest looks at slot 00 only"
        yield Finding(place.name, "address", what, "00.0")


@each_node
def express(subject: Subject, place: Place) -> Iterator[Finding]:
    if place.bus is not None and place.bus.type == "PCI" and EXPRESS.match(place.node.driver):
        what = f"{place.name}: {place.node.driver} is PCI Express, and {place.bus.name} is a conventional PCI bus"
        yield Finding(place.name, "driver", what, "a bus of type PCIE")


@each_node
def usb_speed(subject: Subject, place: Place) -> Iterator[Finding]:
    speeds = usb_speeds(place.node.driver, place.node.properties)
    if place.bus is None or place.bus.type != "usb-bus" or not speeds or not place.node.address:
        return
    offered = _usb_ports(subject, place.bus.name)
    ports = {port: speeds_there for port, speeds_there in offered.items() if speeds_there & speeds}
    if place.node.address in offered and place.node.address not in ports:
        what = (
            f"{place.name}: {place.node.driver} needs {' or '.join(sorted(speeds))} speed, and "
            f"{place.bus.name} {place.node.address} is {' and '.join(sorted(offered[place.node.address]))} speed"
        )
        yield Finding(place.name, "address", what, choices(ports) if ports else "another USB controller")


def _usb_ports(subject: Subject, bus: str) -> dict[str, frozenset[str]]:
    provider = subject.providers.get(bus)
    return usb_ports(bus, provider.node if provider else None, subject.tree.places)


@each_node
def usb_port(subject: Subject, place: Place) -> Iterator[Finding]:
    if place.bus is None or place.bus.type != "usb-bus" or not place.node.address:
        return
    offered = _usb_ports(subject, place.bus.name)
    if offered and place.node.address not in offered:
        what = f"{place.name}: {place.bus.name} has no port {place.node.address}"
        used = {other.node.address for other in subject.on[place.bus.name]}
        yield Finding(place.name, "address", what, choices(port for port in offered if port not in used))


def retired(subject: Subject) -> Iterator[Finding]:
    used = {place.address: place for place in subject.tree.places if place.address}
    for count, retired in enumerate(subject.tree.retired):
        if (place := used.get((retired.bus, retired.address))) is not None:
            what = f"{retired.bus} {retired.address} is kept for {retired.origin}, and {place.name} sits there"
            yield Finding("retired", str(count), what, remedy="remove this entry, or move the device")
