"""A dump over a description: the machine as it is now, in the words of the description that was there."""

from __future__ import annotations

from typing import Any

import pytest

from mdtool.machine.tree import BUILTIN, MANUAL, Bus, Node, Retired, Tree
from mdtool.machine.update import updated


def tree(*nodes: Node, **more: Any) -> Tree:
    return Tree(buses=(Bus("pcie.0", "PCIE", devices=nodes),), **more)


def nic(**fields: Any) -> Node:
    return Node(
        "e1000e", **{"id": "net0", "address": "02.0", "origin": "interface/a", "properties": {"mac": "a"}, **fields}
    )


def only(old: Node, new: Node) -> Node:
    """The node that a dump of one node over a description of one leads to."""
    (place,) = updated(tree(old), tree(new)).places
    return place.node


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"address": "03.0", "origin": None}, {"origin": None}),  # by its id
        ({"id": "other", "address": "03.0"}, {}),  # by its element
        ({"id": "other", "origin": "interface/b"}, {"id": "net0", "origin": None}),  # by its place
        ({"id": None, "address": None, "origin": None}, {"id": None, "address": None, "origin": None}),  # by its name
        ({"id": None, "address": None}, {"id": None, "origin": None}),  # by its bus: it was left to QEMU where
    ],
)
def test_a_device_is_known_by(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert only(nic(**old, applied={"mac": "a"}), nic(**new)).applied == {"mac": "a"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"driver": "rtl8139"}, {}),  # another model with its id and its place
        ({"id": "x", "origin": "interface/b", "address": "03.0"}, {}),
        ({"id": "x", "origin": MANUAL, "address": "03.0"}, {"origin": MANUAL}),  # an origin of many is no mark
        ({"id": "x", "origin": BUILTIN, "address": "03.0"}, {"origin": BUILTIN}),
        ({"id": None, "address": "03.0"}, {"id": "y", "origin": None, "address": None}),
    ],
)
def test_another_device_is_not_taken_for_it(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = Node(**{"driver": "e1000e", "id": "net0", "address": "02.0", "origin": "interface/a", **old}, applied={"a": 1})
    assert only(before, nic(**new)).applied == {}


def test_an_id_counts_before_a_place() -> None:
    """Two NICs that changed places are the same two NICs."""
    one, two = nic(id="a", origin=None, applied={"n": 1}), nic(id="b", origin=None, address="03.0", applied={"n": 2})
    now = tree(nic(id="b", origin=None), nic(id="a", origin=None, address="03.0"))
    assert {p.node.id: p.node.applied["n"] for p in updated(tree(one, two), now).places} == {"a": 1, "b": 2}


def test_values_are_those_of_the_dump_in_the_spelling_of_the_description() -> None:
    node = only(
        nic(properties={"mac": "A:B", "mtu": "0x10", "rombar": "off"}, pins={"romsize": "0x8000", "queues": 1}),
        nic(properties={"mac": "a:b", "mtu": 16, "csum": True}, pins={"rombar": 1, "romsize": 0x8000, "queues": 4}),
    )
    assert dict(node.properties) == {"mac": "a:b", "mtu": "0x10", "rombar": 1, "csum": True}
    assert dict(node.pins) == {"romsize": "0x8000", "queues": 4}, "what was chosen is no pin"


def test_what_a_pin_held_is_not_chosen_by_a_dump() -> None:
    node = only(nic(properties={}, pins={"csum": True}), nic(properties={"csum": False}))
    assert (dict(node.properties), dict(node.pins)) == ({}, {"csum": False})


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        ("interface/a", "interface/b", "interface/b"),
        ("interface/a", None, "interface/a"),
        ("interface/a", MANUAL, "interface/a"),
        (None, MANUAL, MANUAL),
        (MANUAL, BUILTIN, BUILTIN),
    ],
)
def test_the_origin(old: str | None, new: str | None, result: str | None) -> None:
    assert only(nic(origin=old), nic(origin=new)).origin == result


def test_what_a_dump_could_not_read_stays() -> None:
    known = {"effective": {"speed": 1}, "pci": {"vendor": "8086"}}
    kept, new = only(nic(**known), nic()), only(nic(**known), nic(effective={"speed": 2}, pci={"vendor": "10ec"}))
    assert (kept.effective, kept.pci) == (known["effective"], known["pci"])
    assert (new.effective, new.pci) == ({"speed": 2}, {"vendor": "10ec"})


def test_sections_keep_order_spelling_and_what_no_dump_reports() -> None:
    old = {"boot": {"menu": "on", "x": 1}, "memory": {"size": "0x40", "backend": {"id": "ram", "only": "here"}}}
    new = {"boot": {"order": "c", "menu": True}, "memory": {"backend": {"id": "other", "share": True}, "size": 64}}
    found = updated(tree(**old), tree(**new))
    assert list(found.boot.items()) == [("menu", "on"), ("x", 1), ("order", "c")]
    assert found.memory == {"size": "0x40", "backend": {"id": "other", "only": "here", "share": True}}


def test_objects_are_the_dumps() -> None:
    assert updated(tree(objects={"rng0": {"a": 1}}), tree(objects={"rng1": {}})).objects == {"rng1": {}}


def test_the_place_of_what_went_is_retired() -> None:
    old = tree(
        nic(),
        nic(id="net1", address="03.0", origin="interface/b"),
        nic(id="net2", address="04.0", origin=BUILTIN),
        nic(id="net3", address="05.0", origin=None),
        nic(id="net4", address="06.0", origin="interface/c"),
        retired=(Retired("interface/z", "pcie.0", "1f.0"), Retired("interface/y", "pcie.0", "07.0")),
    )
    now = tree(nic(), Node("rtl8139", id="x", address="06.0"), Node("rtl8139", id="y", address="07.0"))
    assert updated(old, now).retired == (
        Retired("interface/z", "pcie.0", "1f.0"),
        Retired("interface/b", "pcie.0", "03.0", id="net1"),
    ), "built-ins and devices without an element leave no place, nor does one whose place is taken"
