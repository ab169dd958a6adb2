"""Whether QEMU would take a description, and whether a guest would be well off with it, before anybody starts it.

A check is a row: a name, what it says, the checks that must have passed before it makes sense, and a function that
yields what it finds.  An *error* is what QEMU itself refuses; a *warning* is what QEMU takes and a guest, or the next
reconcile, would stumble over.  The facts were measured on QEMU 7.2: a corpus of edits, each tried on the real one, is
part of the tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mdtool.errors import Errors, InputError, MdtoolError, Position, Warn, choices
from mdtool.machine import facts
from mdtool.machine.buses import EXCLUSIVE, KNOWN_BUSES, PCI_BUSES, PORTS_ONLY, SHARED, form_of, homes, is_port
from mdtool.machine.buses.limits import LIMITS, usb_ports, usb_speeds
from mdtool.machine.buses.pci import BRIDGES, EXPRESS
from mdtool.machine.document import Document
from mdtool.machine.facts import value_of
from mdtool.machine.machines import ALIASES, Family, family_of
from mdtool.machine.positions import Positions, positions
from mdtool.machine.roles import role
from mdtool.machine.tree import BUILTIN, Bus, Place, Tree, Value
from mdtool.machine.values import is_on, natural, number, plain
from mdtool.machine.writer import address_key
from mdtool.qemu.introspect import Knowledge

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: at which node (or section) and key of it; ``expected`` and ``remedy`` as in an error."""

    node: str
    key: str
    what: str
    expected: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Subject:
    """A description being checked; ``knowledge`` is None where no binary was asked."""

    tree: Tree
    knowledge: Knowledge | None = None

    @cached_property
    def mine(self) -> tuple[Place, ...]:
        """The nodes that somebody put there: all but the machine's own."""
        return tuple(place for place in self.tree.places if place.node.origin != BUILTIN)

    @cached_property
    def is_full(self) -> bool:
        """Whether the machine's own devices are listed (a dump) or not (made from XML)."""
        return len(self.mine) < len(self.tree.places)

    @cached_property
    def providers(self) -> Mapping[str, Place]:
        """Bus name -> the node that provides it; a bus at the top has none."""
        return {bus.name: place for place in self.tree.places for bus in place.node.buses}

    @cached_property
    def on(self) -> Mapping[str, list[Place]]:
        """Bus name -> what sits on it."""
        found: dict[str, list[Place]] = defaultdict(list)
        for place in self.tree.places:
            if place.bus is not None:
                found[place.bus.name].append(place)
        return found

    @cached_property
    def machine(self) -> Family | None:
        return family_of(str(self.tree.machine.get("type", "")), str(self.tree.machine.get("arch", "")))


@dataclass(frozen=True, slots=True)
class Check:
    """One row.  ``needs`` names checks that must have found nothing; ``asks`` says that a binary must be known."""

    name: str
    severity: Severity
    says: str
    find: Callable[[Subject], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    asks: bool = False


@dataclass(frozen=True)
class Checked:
    """What all checks found, errors and warnings in the order of the file; and the checks that could not run."""

    errors: tuple[MdtoolError, ...] = ()
    warnings: tuple[Warn, ...] = ()
    skipped: tuple[str, ...] = field(default=())

    def done(self, *, strict: bool = False) -> None:
        """Raise Errors where there are any (with ``strict`` where there are warnings as well)."""
        found = [*self.errors]
        if strict:
            found += [InputError(w.what, at=w.at, expected=w.expected, remedy=w.remedy, rule=w.rule) for w in self.warnings]
        if found:
            raise Errors(found)


def checked(document: Document, knowledge: Knowledge | None = None) -> Checked:
    """Run every check over a description that its schema accepts (``document_from_file`` raises where it does not)."""
    where = positions(document)
    subject = Subject(document.tree, knowledge)
    errors: list[MdtoolError] = []
    warnings: list[Warn] = []
    skipped: list[str] = []
    failed: set[str] = set()
    for check in CHECKS:
        if (check.asks and knowledge is None) or failed & set(check.needs):
            skipped.append(check.name)
            continue
        for finding in check.find(subject):
            at = _position(where, finding, document.file)
            error = {"at": at, "expected": finding.expected, "remedy": finding.remedy, "rule": check.name}
            if check.severity == "error":
                failed.add(check.name)
                errors.append(InputError(finding.what, **error))  # type: ignore[arg-type]
            else:
                warnings.append(Warn(finding.what, **error))  # type: ignore[arg-type]
    order: Callable[[MdtoolError], Any] = lambda error: error.at or Position("", 0)  # noqa: E731
    return Checked(tuple(sorted(errors, key=order)), tuple(sorted(warnings, key=order)), tuple(skipped))


def _position(where: Positions, finding: Finding, file: str) -> Position:
    """The key's position; where the description does not say the key, the node's."""
    for key in (finding.key, finding.key.rstrip(":").rpartition(".")[0], ""):
        if (at := where.get((finding.node, key))) is not None:
            return at
    return Position(file, 1)


# --- buses -----------------------------------------------------------------------------------------------------------


def _bus_known(subject: Subject) -> Iterator[Finding]:
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


def _bus_provided(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        expected = facts.provided(place.node)
        if expected is None:
            continue
        for bus in place.node.buses:
            if bus.name not in expected:
                what = f"{place.name}: a {place.node.driver} provides no bus '{bus.name}'"
                remedy = "a bus is named by the id of what provides it: an id was changed on one of them only"
                expect = choices(expected) if expected else "no buses"
                yield Finding(bus.name, "bus", what, expect, remedy if expected else None)


def _bus_type(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        for bus in place.node.buses:
            kind = (facts.provided(place.node) or {}).get(bus.name, bus.type)
            if kind != bus.type:
                what = f"bus '{bus.name}' of {place.name} is {kind}, and the description says {bus.type}"
                yield Finding(bus.name, "bus", what, kind)


def _bus_holds(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        if place.bus is None:
            continue
        driver = subject.knowledge.driver(place.node.driver) if subject.knowledge else None
        kinds = facts.buses_for(driver.bus) if driver is not None and driver.bus else homes(place.node.driver)
        if kinds and place.bus.type not in kinds and place.bus.type in KNOWN_BUSES:
            what = f"{place.name}: {place.node.driver} cannot go on {place.bus.name}, which is a {place.bus.type} bus"
            fitting = sorted((b.name for b in subject.tree.all_buses.values() if b.type in kinds), key=natural)
            expect = choices(fitting) if fitting else f"a bus of type {' or '.join(sorted(kinds))}"
            yield Finding(place.name, "driver", what, expect)


def _only_bridges(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        if place.bus is not None and place.bus.type in PORTS_ONLY and not BRIDGES.match(place.node.driver):
            what = f"{place.name}: only bridges can be plugged into {place.bus.name}, and {place.node.driver} is none"
            yield Finding(place.name, "driver", what, "a port or a bridge, with the device behind it")


# --- addresses -------------------------------------------------------------------------------------------------------


def _address_form(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        form = form_of(place.bus.type) if place.bus else None
        if form and place.node.address is not None and not form.pattern.fullmatch(place.node.address):
            what = f"{place.name}: '{place.node.address}' is no address on a {place.bus.type} bus"  # type: ignore[union-attr]
            yield Finding(place.name, "address", what, form.says)


def _address_range(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        if place.bus is None or place.node.address is None:
            continue
        limit = LIMITS.get(place.bus.type)
        provider = subject.providers.get(place.bus.name)
        units = subject.machine.ide_units if subject.machine else 1
        expected = limit(place, provider.node if provider else None, units) if limit else None
        if expected:
            what = f"{place.name}: there is no {place.node.address} on {place.bus.name}"
            yield Finding(place.name, "address", what, expected)


def _address_taken(subject: Subject) -> Iterator[Finding]:
    yield from _taken(subject, lambda bus: bus.type in EXCLUSIVE)


def _address_shared(subject: Subject) -> Iterator[Finding]:
    yield from _taken(subject, lambda bus: bus.type in SHARED)


def _taken(subject: Subject, applies: Callable[[Bus], bool]) -> Iterator[Finding]:
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


def _address_reserved(subject: Subject) -> Iterator[Finding]:
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


def _multifunction(subject: Subject) -> Iterator[Finding]:
    for name, zero, others in _slots(subject):
        if zero is not None and others and not is_on(value_of(zero.node, "multifunction")):
            first = others[0]
            what = f"{first.name}: {name} {first.node.address} shares a slot with {zero.name}, whose function 0 is alone"
            remedy = f"give {zero.name} the property multifunction: true"
            yield Finding(first.name, "address", what, _free(first.bus, subject.on[name]) if first.bus else None, remedy)


def _function_zero(subject: Subject) -> Iterator[Finding]:
    for name, zero, others in _slots(subject):
        if zero is None and others:
            first = others[0]
            slot = str(first.node.address)[:2]
            what = f"{first.name}: no guest looks at {name} {first.node.address} while there is nothing at {slot}.0"
            yield Finding(first.name, "address", what, f"{slot}.0")


def _slots(subject: Subject) -> Iterator[tuple[str, Place | None, list[Place]]]:
    """(bus name, function 0 of a slot, its other functions that somebody put there)."""
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


def _port_slot(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        provider = subject.providers.get(place.bus.name) if place.bus else None
        if provider is None or not is_port(provider.node.driver) or place.node.address is None:
            continue
        if place.node.address[:2] != "00":
            what = f"{place.name}: behind the port {provider.name} a guest looks at slot 00 only"
            yield Finding(place.name, "address", what, "00.0")


def _express(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        if place.bus is not None and place.bus.type == "PCI" and EXPRESS.match(place.node.driver):
            what = f"{place.name}: {place.node.driver} is PCI Express, and {place.bus.name} is a conventional PCI bus"
            yield Finding(place.name, "driver", what, "a bus of type PCIE")


def _usb_speed(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        speeds = usb_speeds(place.node.driver, place.node.properties)
        if place.bus is None or place.bus.type != "usb-bus" or not speeds or not place.node.address:
            continue
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


def _usb_port(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        if place.bus is None or place.bus.type != "usb-bus" or not place.node.address:
            continue
        offered = _usb_ports(subject, place.bus.name)
        if offered and place.node.address not in offered:
            what = f"{place.name}: {place.bus.name} has no port {place.node.address}"
            used = {other.node.address for other in subject.on[place.bus.name]}
            yield Finding(place.name, "address", what, choices(port for port in offered if port not in used))


def _retired(subject: Subject) -> Iterator[Finding]:
    used = {place.address: place for place in subject.tree.places if place.address}
    for count, retired in enumerate(subject.tree.retired):
        if (place := used.get((retired.bus, retired.address))) is not None:
            what = f"{retired.bus} {retired.address} is kept for {retired.origin}, and {place.name} sits there"
            yield Finding("retired", str(count), what, remedy="remove this entry, or move the device")


# --- what must be unique ---------------------------------------------------------------------------------------------


def _id_unique(subject: Subject) -> Iterator[Finding]:
    yield from _unique(((p, "id", p.node.id) for p in subject.mine if p.node.id is not None), "the id {value}")


def _chassis_unique(subject: Subject) -> Iterator[Finding]:
    """QEMU refuses two PCI Express ports of one chassis and slot."""
    ports = (place for place in subject.mine if is_port(place.node.driver))
    keyed = (
        (p, "properties.chassis", (number(value_of(p.node, "chassis")), number(value_of(p.node, "slot")))) for p in ports
    )
    taken = {number(value_of(p.node, "chassis")) for p in subject.mine if is_port(p.node.driver)}
    free = next(count for count in range(1, 1000) if count not in taken)
    for finding in _unique(keyed, "its (chassis, slot) {value}"):
        yield Finding(finding.node, finding.key, finding.what, f"a free one: {free}")


def _chassis_given(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        if place.node.driver == "pci-bridge" and not number(value_of(place.node, "chassis_nr")):
            what = f"{place.name}: a pci-bridge needs a chassis_nr above 0"
            yield Finding(place.name, "properties.chassis_nr", what)


def _bridge_unique(subject: Subject) -> Iterator[Finding]:
    bridges = (p for p in subject.mine if p.node.driver == "pci-bridge")
    keyed = ((p, "properties.chassis_nr", number(value_of(p.node, "chassis_nr"))) for p in bridges)
    yield from _unique(keyed, "the chassis_nr {value}")


def _bootindex_unique(subject: Subject) -> Iterator[Finding]:
    keyed = (
        (p, f"properties.{name}", number(p.node.properties[name]))
        for p in subject.mine
        for name in ("bootindex", "bootindexA", "bootindexB")
        if number(p.node.properties.get(name), -1) >= 0
    )
    yield from _unique(keyed, "the bootindex {value}")


def _acpi_index_unique(subject: Subject) -> Iterator[Finding]:
    keyed = (
        (p, "properties.acpi-index", number(p.node.properties["acpi-index"]))
        for p in subject.mine
        if number(p.node.properties.get("acpi-index"))
    )
    yield from _unique(keyed, "the acpi-index {value}")


def _mac_unique(subject: Subject) -> Iterator[Finding]:
    keyed = ((p, "properties.mac", str(mac).lower()) for p in subject.mine if (mac := p.node.properties.get("mac")))
    yield from _unique(keyed, "the MAC {value}")


def _port_name_unique(subject: Subject) -> Iterator[Finding]:
    keyed = (
        (p, "properties.name", (p.bus.name, p.node.properties["name"]))
        for p in subject.mine
        if p.bus is not None and p.bus.type == "virtio-serial-bus" and "name" in p.node.properties
    )
    yield from _unique(keyed, "its (bus, name) {value}")


def _unique(keyed: Iterable[tuple[Place, str, Any]], says: str) -> Iterator[Finding]:
    seen: dict[Any, Place] = {}
    for place, key, value in keyed:
        first = seen.setdefault(value, place)
        if first is not place:
            at = f" (line {first.node.position.line})" if first.node.position else ""
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            yield Finding(place.name, key, f"{place.name}: {says.format(value=shown)} is taken by {first.name}{at}")


def _single(subject: Subject) -> Iterator[Finding]:
    for label, drivers in facts.SINGLE.items():
        found = [place for place in subject.tree.places if drivers.fullmatch(place.node.driver)]
        for place in found[1:]:
            what = f"{place.name}: a machine has one {label}, and {found[0].name} is it"
            yield Finding(place.name, "driver", what)


# --- properties ------------------------------------------------------------------------------------------------------


def _mac_form(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        mac = place.node.properties.get("mac")
        if mac is not None and not facts.MAC.fullmatch(str(mac)):
            what = f"{place.name}: '{mac}' is no MAC address"
            yield Finding(place.name, "properties.mac", what, "six bytes: 52:54:00:11:22:33")


def _block_size(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        sizes = [number(value_of(place.node, f"{name}_block_size"), 512) for name in ("logical", "physical")]
        if "logical_block_size" in place.node.properties and sizes[0] > max(sizes[1], 512):
            what = f"{place.name}: its logical_block_size {sizes[0]} is above its physical_block_size {sizes[1]}"
            yield Finding(place.name, "properties.logical_block_size", what, "a physical_block_size at least as large")


def _host_side(subject: Subject) -> Iterator[Finding]:
    for place in subject.mine:
        for name in place.node.properties:
            if role(place.node.driver, name) == "host" and name not in place.node.applied:
                what = f"{place.name}: '{name}' is the host's side of {place.node.driver}, which no guest sees"
                yield Finding(place.name, f"properties.{name}:", what, remedy="it belongs in the guest XML; remove it here")


def _driver_known(subject: Subject) -> Iterator[Finding]:
    knowledge = subject.knowledge
    assert knowledge is not None
    for place in subject.mine:
        driver = knowledge.driver(place.node.driver)
        if facts.FROM_MACHINE.search(place.node.driver):
            continue
        if driver is None or not driver.creatable:
            why = "is only made by machines" if driver else "is unknown"
            what = f"{place.name}: {place.node.driver} {why} in QEMU {knowledge.version}"
            near = facts.near(place.node.driver, (d.name for d in knowledge.drivers.values() if d.creatable))
            yield Finding(place.name, "driver", what, choices(near) if near else None)


def _property_known(subject: Subject) -> Iterator[Finding]:
    for place, name, _ in _properties(subject):
        driver = subject.knowledge.driver(place.node.driver) if subject.knowledge else None
        if driver is None or driver.properties is None or name in driver.properties:
            continue
        what = f"{place.name}: {driver.name} has no property '{name}'"
        near = facts.near(name, driver.properties)
        yield Finding(place.name, f"properties.{name}:", what, choices(near) if near else None)


def _property_value(subject: Subject) -> Iterator[Finding]:
    for place, name, value in _properties(subject):
        driver = subject.knowledge.driver(place.node.driver) if subject.knowledge else None
        known = driver.properties.get(name) if driver is not None and driver.properties else None
        expected = facts.refused(driver.name, name, known, value) if known is not None and driver is not None else None
        if expected:
            shown = plain(value) if isinstance(value, bool) else value
            yield Finding(place.name, f"properties.{name}", f"{place.name}: {name} does not take '{shown}'", expected)


def _properties(subject: Subject) -> Iterator[tuple[Place, str, Value]]:
    for place in subject.mine:
        for name, value in place.node.properties.items():
            yield place, name, value


# --- the machine -----------------------------------------------------------------------------------------------------


def _machine_known(subject: Subject) -> Iterator[Finding]:
    knowledge = subject.knowledge
    assert knowledge is not None
    kind = str(subject.tree.machine.get("type"))
    if knowledge.machines and kind not in knowledge.machines:
        near = facts.near(kind, knowledge.machines)
        what = f"QEMU {knowledge.version} has no machine type '{kind}'"
        yield Finding("machine", "type", what, choices(near) if near else None)


def _machine_versioned(subject: Subject) -> Iterator[Finding]:
    kind = str(subject.tree.machine.get("type"))
    if kind in ALIASES:
        what = f"'{kind}' is an alias: it means another machine on another QEMU"
        yield Finding("machine", "type", what, f"a versioned type: {ALIASES[kind]}")


def _cpu_topology(subject: Subject) -> Iterator[Finding]:
    cpu = subject.tree.cpu
    vcpus, most = number(cpu.get("vcpus"), 0), number(cpu.get("maxcpus", cpu.get("vcpus")), 0)
    if vcpus and most and vcpus > most:
        yield Finding("cpu", "vcpus", f"{vcpus} vcpus are more than maxcpus, {most}", f"at most {most}")
    topology = cpu.get("topology")
    if not isinstance(topology, Mapping) or not most:
        return
    product = 1
    for count in topology.values():
        product *= number(count, 1)
    if product != most:
        said = " x ".join(f"{count} {name}" for name, count in topology.items())
        yield Finding("cpu", "topology", f"{said} make {product} CPUs, and there are {most}")


#: in the order in which they run; a check that needs another one stands below it
CHECKS: tuple[Check, ...] = (
    Check("machine-versioned", "warning", "the machine type is a versioned one, never an alias", _machine_versioned),
    Check("machine-known", "error", "the binary has the machine type", _machine_known, asks=True),
    Check("cpu-topology", "error", "sockets, cores and threads multiply to the number of CPUs", _cpu_topology),
    Check("id-unique", "error", "no id is given twice", _id_unique),
    Check("driver-known", "error", "the binary has the driver, and -device takes it", _driver_known, asks=True),
    Check("bus-known", "error", "the machine type has the bus", _bus_known),
    Check("bus-provided", "error", "a bus is one that its device provides, named by the device's id", _bus_provided),
    Check("bus-type", "error", "a bus is of the type that its device makes", _bus_type, ("bus-provided",)),
    Check("bus-holds", "error", "a device sits on a bus that can hold it", _bus_holds, ("bus-type",)),
    Check("only-bridges", "error", "a PCI expander holds ports and bridges only", _only_bridges),
    Check("address-form", "error", "an address is in the notation of its bus", _address_form, ("bus-holds",)),
    Check("address-range", "error", "a bus has the address", _address_range, ("address-form", "bus-holds")),
    Check("address-taken", "error", "no two devices are at one address", _address_taken, ("address-form",)),
    Check("address-shared", "warning", "no two devices answer at one address, where QEMU lets them", _address_shared),
    Check("address-reserved", "error", "no address of the machine's own devices", _address_reserved, ("address-form",)),
    Check("multifunction", "error", "function 0 of a shared slot is multifunction", _multifunction, ("address-taken",)),
    Check("function-zero", "warning", "a slot in use has a function 0", _function_zero, ("address-form",)),
    Check("port-slot", "warning", "what sits behind a PCI Express port is at slot 00", _port_slot, ("address-form",)),
    Check("express", "warning", "a PCI Express device sits on a PCI Express bus", _express, ("bus-holds",)),
    Check("usb-port", "error", "a USB controller or hub has the port", _usb_port, ("address-form", "bus-holds")),
    Check("usb-speed", "error", "a USB port has a speed that the device can use", _usb_speed, ("usb-port",)),
    Check("single", "error", "there is one of what a machine can have one of", _single),
    Check("chassis-unique", "error", "no two PCI Express ports share chassis and slot", _chassis_unique),
    Check("chassis-given", "error", "a pci-bridge has a chassis number", _chassis_given),
    Check("bridge-unique", "warning", "no two pci-bridges share a chassis number", _bridge_unique, ("chassis-given",)),
    Check("bootindex-unique", "error", "no bootindex is given twice", _bootindex_unique),
    Check("acpi-index-unique", "error", "no acpi-index is given twice", _acpi_index_unique),
    Check("port-name-unique", "error", "no two virtio-serial ports share a name", _port_name_unique),
    Check("mac-form", "error", "a MAC is six bytes", _mac_form),
    Check("block-size", "error", "no logical block is larger than a physical one", _block_size),
    Check("mac-unique", "warning", "no MAC is given twice", _mac_unique),
    Check("host-side", "warning", "no host side in the description", _host_side),
    Check("property-known", "error", "the driver has the property", _property_known, ("driver-known",), asks=True),
    Check("property-value", "error", "the property takes the value", _property_value, ("driver-known",), asks=True),
    Check("retired-free", "warning", "nobody sits at an address that is kept for another device", _retired),
)  # fmt: skip
