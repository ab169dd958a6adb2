"""Checks of values: what must be unique, what properties take, and the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mdtool.errors import choices
from mdtool.machine import facts
from mdtool.machine.buses.pci import is_port
from mdtool.machine.machines import ALIASES
from mdtool.machine.roles import REMEDY, credentials, role
from mdtool.machine.tree import Place, Value
from mdtool.machine.values import number, plain
from mdtool.review.findings import Finding, Subject, each_node

# --- what must be unique ---------------------------------------------------------------------------------------------


def id_unique(subject: Subject) -> Iterator[Finding]:
    yield from _unique(((p, "id", p.node.id) for p in subject.mine if p.node.id is not None), "the id {value}")


def chassis_unique(subject: Subject) -> Iterator[Finding]:
    """QEMU refuses two PCI Express ports of one chassis and slot."""
    ports = (place for place in subject.mine if is_port(place.node.driver))
    keyed = ((p, "properties.chassis", (number(p.node.value("chassis")), number(p.node.value("slot")))) for p in ports)
    taken = {number(p.node.value("chassis")) for p in subject.mine if is_port(p.node.driver)}
    free = next(count for count in range(1, 1000) if count not in taken)
    for finding in _unique(keyed, "its (chassis, slot) {value}"):
        yield Finding(finding.node, finding.key, finding.what, f"a free one: {free}")


@each_node
def chassis_given(subject: Subject, place: Place) -> Iterator[Finding]:
    if place.node.driver == "pci-bridge" and not number(place.node.value("chassis_nr")):
        what = f"{place.name}: a pci-bridge needs a chassis_nr above 0"
        yield Finding(place.name, "properties.chassis_nr", what)


def bridge_unique(subject: Subject) -> Iterator[Finding]:
    bridges = (p for p in subject.mine if p.node.driver == "pci-bridge")
    keyed = ((p, "properties.chassis_nr", number(p.node.value("chassis_nr"))) for p in bridges)
    yield from _unique(keyed, "the chassis_nr {value}")


def bootindex_unique(subject: Subject) -> Iterator[Finding]:
    keyed = (
        (p, f"properties.{name}", number(p.node.properties[name]))
        for p in subject.mine
        for name in ("bootindex", "bootindexA", "bootindexB")
        if number(p.node.properties.get(name), -1) >= 0
    )
    yield from _unique(keyed, "the bootindex {value}")


def acpi_index_unique(subject: Subject) -> Iterator[Finding]:
    keyed = (
        (p, "properties.acpi-index", number(p.node.properties["acpi-index"]))
        for p in subject.mine
        if number(p.node.properties.get("acpi-index"))
    )
    yield from _unique(keyed, "the acpi-index {value}")


def mac_unique(subject: Subject) -> Iterator[Finding]:
    keyed = ((p, "properties.mac", str(mac).lower()) for p in subject.mine if (mac := p.node.properties.get("mac")))
    yield from _unique(keyed, "the MAC {value}")


def port_name_unique(subject: Subject) -> Iterator[Finding]:
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


def single(subject: Subject) -> Iterator[Finding]:
    for label, drivers in facts.SINGLE.items():
        found = [place for place in subject.tree.places if drivers.fullmatch(place.node.driver)]
        for place in found[1:]:
            what = f"{place.name}: a machine has one {label}, and {found[0].name} is it"
            yield Finding(place.name, "driver", what)


# --- properties ------------------------------------------------------------------------------------------------------


@each_node
def mac_form(subject: Subject, place: Place) -> Iterator[Finding]:
    mac = place.node.properties.get("mac")
    if mac is not None and not facts.MAC.fullmatch(str(mac)):
        what = f"{place.name}: '{mac}' is not a MAC address"
        yield Finding(place.name, "properties.mac", what, "six bytes: 52:54:00:11:22:33")


@each_node
def block_size(subject: Subject, place: Place) -> Iterator[Finding]:
    sizes = [number(place.node.value(f"{name}_block_size"), 512) for name in ("logical", "physical")]
    if "logical_block_size" in place.node.properties and sizes[0] > max(sizes[1], 512):
        what = f"{place.name}: its logical_block_size {sizes[0]} is above its physical_block_size {sizes[1]}"
        yield Finding(place.name, "properties.logical_block_size", what, "a physical_block_size at least as large")


@each_node
def host_side(subject: Subject, place: Place) -> Iterator[Finding]:
    for name in place.node.properties:
        if role(place.node.driver, name) == "host" and name not in place.node.applied:
            what = f"{place.name}: '{name}' is the host's side of {place.node.driver}, which no guest sees"
            yield Finding(place.name, f"properties.{name}:", what, remedy="it belongs in the guest XML; remove it here")


def credential(subject: Subject) -> Iterator[Finding]:
    for section, key, what in credentials(subject.tree):
        yield Finding(section, key, what, remedy=REMEDY)


def driver_known(subject: Subject) -> Iterator[Finding]:
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


def property_known(subject: Subject) -> Iterator[Finding]:
    for place, name, _ in _properties(subject):
        driver = subject.knowledge.driver(place.node.driver) if subject.knowledge else None
        if driver is None or driver.properties is None or name in driver.properties:
            continue
        what = f"{place.name}: {driver.name} has no property '{name}'"
        near = facts.near(name, driver.properties)
        yield Finding(place.name, f"properties.{name}:", what, choices(near) if near else None)


def property_value(subject: Subject) -> Iterator[Finding]:
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


def machine_known(subject: Subject) -> Iterator[Finding]:
    knowledge = subject.knowledge
    assert knowledge is not None
    kind = str(subject.tree.machine.get("type"))
    if knowledge.machines and kind not in knowledge.machines:
        near = facts.near(kind, knowledge.machines)
        what = f"QEMU {knowledge.version} has no machine type '{kind}'"
        yield Finding("machine", "type", what, choices(near) if near else None)


def machine_versioned(subject: Subject) -> Iterator[Finding]:
    kind = str(subject.tree.machine.get("type"))
    if kind in ALIASES:
        what = f"'{kind}' is an alias: it means another machine on another QEMU"
        yield Finding("machine", "type", what, f"a versioned type: {ALIASES[kind]}")


def cpu_topology(subject: Subject) -> Iterator[Finding]:
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
