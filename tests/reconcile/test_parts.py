"""The small parts of a reconciliation: trees taken apart, plans as data, places of sections, machines without addresses."""

from __future__ import annotations

from typing import Any

import pytest

from mdtool.errors import Position
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.model import Address, Wanted
from mdtool.machine.tree import BUILTIN, Bus, Node, Retired, Tree
from mdtool.reconcile.assemble import assembled, parts_of
from mdtool.reconcile.match import matched
from mdtool.reconcile.merge import ABSENT, PropertyChange
from mdtool.reconcile.minimal import minimal
from mdtool.reconcile.plan import Action, Plan, Reason, Step, json_from_plan
from mdtool.reconcile.sections import position_of


def port(name: str, *behind: Node, **fields: Any) -> Node:
    return Node("pcie-root-port", id=name, buses=(Bus(name, "PCIE", devices=behind),), **fields)


def nic(name: str, **fields: Any) -> Node:
    return Node("e1000e", id=name, **fields)


def root(*nodes: Node) -> Bus:
    return Bus("pcie.0", "PCIE", devices=nodes)


def test_removing_a_port_removes_what_is_behind_it() -> None:
    inner = port("p2", nic("a"), nic("b"))
    tree = Tree(buses=(root(port("p1", inner), nic("c")),))
    parts = parts_of(tree)
    assert sorted(parts.remove("p1")) == ["a", "b", "p1", "p2"]
    assert list(parts.nodes) == ["c"] and list(parts.buses) == list(parts.owners) == ["pcie.0"]
    assert assembled(parts, tree) == Tree(buses=(root(nic("c")),))


def test_a_plan_as_data() -> None:
    changes = (PropertyChange("mtu", ABSENT, 9000), PropertyChange("csum", True, ABSENT))
    step = Step(
        Action.MODIFY, "net0", "e1000e", ("pcie.0", "02.0"), "interface/a", changes, Reason.ORDER, "more",
        Position("g.xml", 3, 4), hot=False, notices=True, called=("enp1s0", None),
    )  # fmt: skip
    bare = Step(Action.KEEP, "cpu")
    assert json_from_plan(Plan((step, bare))) == {
        "mdtool": "plan/1",
        "changes": True,
        "steps": [
            {
                "action": "modify", "symbol": "~", "name": "net0", "driver": "e1000e", "bus": "pcie.0", "address": "02.0",
                "origin": "interface/a", "reason": "order", "detail": "more", "at": "g.xml:3:4", "hotplug": False,
                "guest_notices": True, "guest_name": {"before": "enp1s0", "after": None},
                "changes": [
                    {"name": "mtu", "before": None, "after": 9000}, {"name": "csum", "before": True, "after": None}
                ],
            },
            {
                "action": "keep", "symbol": "=", "name": "cpu", "driver": "", "bus": None, "address": None,
                "origin": None, "reason": None, "detail": "", "at": None, "hotplug": None, "guest_notices": False,
                "guest_name": None, "changes": [],
            },
        ],
    }  # fmt: skip
    assert not json_from_plan(Plan((bare,)))["changes"]


@pytest.mark.parametrize(
    ("before", "after", "text"), [(ABSENT, True, "x: - -> true"), (False, 2, "x: false -> 2"), ("A", ABSENT, "x: A -> -")]
)
def test_a_change_as_text(before: Any, after: Any, text: str) -> None:
    assert str(PropertyChange("x", before, after)) == text


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("memory.size", 3),
        ("cpu.topology.cores", 6),  # the element itself
        ("cpu.model", 5),  # the one that it would be in
        ("features.globals.kvm-pit.lost_tick_policy", 7),  # clock, without a timer in it
        ("firmware.kind", 4),
        ("machine.properties.usb", 1),  # <features> is not there
        ("nothing.of.all", 1),
    ],
)
def test_where_the_xml_says_a_key(key: str, line: int) -> None:
    xml = """<domain type='qemu'>
    <name>g</name>
    <memory>65536</memory>
    <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
    <cpu>
      <topology sockets='1' cores='1' threads='1'/></cpu>
    <clock offset='utc'/></domain>"""
    assert position_of(guest_from_bytes(xml.encode(), "g.xml"), key).line == line


@pytest.mark.parametrize(
    ("driver", "origin", "is_the_same"),
    [
        ("rtl8139", "interface/x", True),  # another model of the same element
        ("e1000e", "disk/x", True),  # the same driver
        ("rtl8139", "disk/x", False),
        ("rtl8139", None, False),
    ],
)
def test_a_device_at_the_address_is_matched_where_its_kind_fits(driver: str, origin: str | None, is_the_same: bool) -> None:
    at = Address("pci", {"domain": 0, "bus": 0, "slot": 2, "function": 0})
    tree = Tree(buses=(root(Node(driver, id="old", origin=origin, address="02.0")),))
    found = matched(tree, [Wanted("interface", "e1000e", "interface/new", address=at)], addresses={"old": at})
    assert [(match.rule, match.place.name) for match in found.matches] == ([("address", "old")] if is_the_same else [])


def test_a_description_without_addresses() -> None:
    placed = {"multifunction": True, "port": 8, "addr": "1", "chassis": 1}
    card = Node("intel-hda", id="s", address="04.0", buses=(Bus("s.0", "HDA", devices=(Node("hda-duplex", address="0"),)),))
    builtin = Node(
        "ich9-ahci", address="1f.2", origin=BUILTIN, buses=(Bus("ide.0", "IDE", host="x", devices=(Node("ide-hd"),)),)
    )
    full = Tree(
        machine={"type": "q35"},
        buses=(
            root(
                port("p1", nic("a", address="00.0", pins={"x": 1}, effective={"y": 2}), address="01.0", properties=placed,
                     applied={**placed, "@address": "pci 0:0:1:0"}),
                card,
                builtin,
                Node("mch", address="00.0", origin=BUILTIN, buses=(Bus("empty", "X"),)),
            ),
        ),
        devices=(Node("isa-debugcon", address="7", origin=BUILTIN), nic("b", address="1")),
        retired=(Retired("interface/z", "pcie.0", "05.0"),),
        machine_pins={"a": 1},
        source=(("qemu", "7.2"),),  # type: ignore[arg-type]
    )  # fmt: skip
    assert minimal(full) == Tree(
        machine={"type": "q35"},
        buses=(
            Bus("ide.0", "IDE", devices=(Node("ide-hd"),)),
            root(
                port("p1", nic("a"), properties={"chassis": 1}, applied={"chassis": 1}),
                Node("intel-hda", id="s", buses=card.buses),
            ),
        ),
        devices=(nic("b"),),
    )
