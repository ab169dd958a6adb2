"""The one comparison: whatever a description records of a device and is otherwise in the machine is a difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mdtool.compare import EFFECTIVE, HOST, IDENTITY, Difference, compare, guest_visible, noticed
from mdtool.machine.document import tree_from_file
from mdtool.machine.tree import Bus, Node, Tree, Value

DUMPED = sorted((Path(__file__).parent / "qemu" / "dumped").glob("*.yaml"))
#: what a comparison leaves out on purpose: the firmware sets it, or it follows from another property in the tree
LEFT_OUT = {("q35-pcihost", "MCFG")}


def other(value: Value) -> Value:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return f"{value}x"
    return value


def with_another(tree: Tree, name: str) -> tuple[Tree, set[str]]:
    """The tree with another value of a property wherever it is recorded, and the nodes where it is."""
    changed: set[str] = set()

    def node(old: Node) -> Node:
        bags = {}
        for bag in ("properties", "pins"):
            values = getattr(old, bag)
            bags[bag] = {key: other(value) if key == name else value for key, value in values.items()}
        if bags["properties"] != old.properties or bags["pins"] != old.pins:
            changed.add(names[id(old)])
        return replace(old, **bags, buses=tuple(map(bus, old.buses)))

    def bus(old: Bus) -> Bus:
        return replace(old, devices=tuple(map(node, old.devices)))

    names = {id(place.node): place.name for place in tree.places}
    return replace(tree, buses=tuple(map(bus, tree.buses))), changed


@pytest.mark.parametrize("path", DUMPED, ids=[path.stem for path in DUMPED])
def test_every_recorded_property_is_compared(path: Path) -> None:
    tree = tree_from_file(path)
    drivers = {place.name: place.node.driver for place in tree.places}
    for name in sorted({name for place in tree.places for name in {**place.node.properties, **place.node.pins}}):
        machine, changed = with_another(tree, name)
        found = {(one.node, one.property) for one in compare(tree, machine)}
        passed = {node for node in changed if (node, name) not in found and (drivers[node], name) not in LEFT_OUT}
        # Another MAC is another NIC, for instance: the node is then missing.
        missed = {node for node in passed if (node, "") not in found}
        if name == "romsize":  # follows from the properties in the tree, where one of these is
            missed -= {p.name for p in tree.places if {"rombar", "romfile"} & p.node.properties.keys()}
        assert missed == set(), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-pcie-lnksta-dllla", True),
        ("x-disable-legacy-check", True),
        ("physical_block_size", 512),
        ("logical_block_size", 512),
        ("rotation_rate", 0),
    ],
)
@pytest.mark.parametrize("where", ["properties", "pins"])
def test_a_guest_that_sees_another_value_is_not_the_described_one(name: str, value: Value, where: str) -> None:
    """A disk with other sectors, a device with a compatibility switch thrown: the guest would notice."""
    node = replace(Node("scsi-hd", id="it", address="0:0:0"), **{where: {name: value}})
    tree = Tree(machine={"type": "pc-i440fx-7.2", "arch": "x86_64"}, buses=(Bus("scsi0.0", "SCSI", (node,)),))
    machine, changed = with_another(tree, name)
    assert changed == {"it"}
    assert [(one.node, one.property) for one in compare(tree, machine)] == [("it", name)]
    assert compare(tree, tree) == []


def test_what_the_guest_notices_and_what_it_does_not() -> None:
    """A name on the host is nobody's to see; a MAC, a CPU's flag and a disk's geometry are, whoever chose them."""
    seen = [
        Difference("net0", "mac", "a", "b", IDENTITY),
        Difference("cpu", "feature-words.1.ecx", 1, 2, EFFECTIVE),
        Difference("disk0", "cyls", 1, 2, EFFECTIVE),
    ]
    unseen = [Difference("guest", "name", "a", "b", HOST), Difference("disk0", "write-cache", True, False, EFFECTIVE)]
    assert noticed([*seen, *unseen]) == seen


@pytest.mark.parametrize(
    ("driver", "name", "stops"),
    [
        ("Nehalem-x86_64-cpu", "stepping", True),
        ("cortex-a57-arm-cpu", "midr", True),
        ("Nehalem-x86_64-cpu", "vendor", False),
        ("Nehalem-x86_64-cpu", "level", False),
        ("host-x86_64-cpu", "stepping", False),
        ("max-arm-cpu", "midr", False),
    ],
)
def test_a_launch_stops_for_another_cpu_and_not_for_another_host(driver: str, name: str, stops: bool) -> None:
    one, two = (Tree(devices=(Node(driver, address="0", effective={"identity": {name: value}}),)) for value in (1, 2))
    found = compare(one, two)
    assert [d.property for d in found] == [f"identity.{name}"] == [d.property for d in noticed(found)]
    assert bool(guest_visible(found)) is stops
