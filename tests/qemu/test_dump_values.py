"""From what was read to a tree, without a QEMU: values, order, roles; and the examples in the docstrings."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mdtool.machine.roles import ROLES, UNCHOSEN, chosen, is_told, role
from mdtool.machine.tree import BUILTIN, Bus, Node, Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.dump import as_planned, tree_from_raw
from mdtool.qemu.qom import plain
from mdtool.qemu.replies import Raw, RawBus, RawDevice

ANSWERS: dict[str, Any] = {"machine": {}, "type": "none-machine", "target": {"arch": "x86_64"}}


def tree(devices: list[RawDevice], *, bus_type: str = "odd-bus", loose: list[RawDevice] | None = None) -> Tree:
    paths = {device.path: device.driver for device in [*devices, *(loose or [])] if device.path}
    return tree_from_raw(Raw((7, 2, 0), [RawBus("odd.0", bus_type, devices)], paths, ANSWERS, loose or []))


def test_devices_without_an_address_have_the_same_names_in_any_order() -> None:
    """Nothing tells them apart but their properties."""
    texts = set()
    for order in itertools.permutations(range(3)):
        made = [RawDevice("thing", "", {"level": number}, path=f"/p/{number}") for number in order]
        apart = [RawDevice("free", "", {"level": number}, path=f"/q/{number}") for number in order]
        texts.add(yaml_from_tree(tree(made, loose=apart)))
    assert len(texts) == 1
    (text,) = texts
    assert '"thing@odd.0#2": {"level": 1}' in text
    assert '"free#3": {"level": 2}' in text


@pytest.mark.parametrize(
    ("name", "kind", "value", "expected"),
    [
        ("addr", "int32", 0x2B, "05.3"),
        ("addr", "str", 0xFF, "1f.7"),
        ("addr", "int32", -1, -1),
        ("addr", "uint64", 4096, 4096),
        ("mask", "uint64", 2**64 - 1, -1),
        ("mask", "uint64", 2**63 - 1, 2**63 - 1),
        ("io-reserve", "size", 2**64 - 1, 2**64 - 1),
        ("stats-intervals", "list", [], None),
        ("iothread-vq-mapping", "list", [{"iothread": "a"}], None),
        ("counts", "list", [2, 2], [2, 2]),
        ("layout", "struct", {"a": 1}, None),
        ("on", "bool", True, True),
    ],
)
def test_qom_values(name: str, kind: str, value: Any, expected: Any) -> None:
    found = plain(name, kind, value)
    assert found == expected
    assert type(found) is type(expected)


def test_properties_go_where_their_role_says() -> None:
    properties = {"mac": "52:54:00:00:00:01", "netdev": "n0", "cyls": 5, "busnr": 3, "level": 1, "romfile": "/x/y.rom"}
    made = tree([RawDevice("nic", "n", properties, path="/machine/peripheral/n")])
    node = made.by_name["n"].node
    assert (node.properties, node.pins, node.effective) == ({"mac": "52:54:00:00:00:01"}, {"level": 1}, {"cyls": 5})
    assert node.origin is None
    assert tree([RawDevice("nic", "", {})]).places[0].node.origin == BUILTIN


def test_an_unknown_property_is_the_guests() -> None:
    assert role("any-driver", "no-such-property") == "guest"
    assert not chosen("any-driver", "no-such-property", 1)


def test_no_row_contradicts_another() -> None:
    """What is chosen by people is the guest's; what nobody chose is not chosen; booleans are no numbers."""
    assert not ROLES.keys() & UNCHOSEN.keys()
    for name, values in UNCHOSEN.items():
        assert not any(chosen("d", name, value) for value in values)
    assert chosen("pcie-root-port", "multifunction", True)
    assert not chosen("pcie-root-port", "chassis", 0)
    assert not chosen("ide-hd", "serial", "QM00003")
    assert chosen("ide-hd", "serial", "QM00003x")
    assert is_told("mount_tag", "/import")
    assert not is_told("hostmem", "/objects/m")


def test_a_virtio_proxy_and_its_device_are_one_node() -> None:
    inner = RawDevice("virtio-scsi-device", "", {"num_queues": 2, "class": 9}, [RawBus("s.0", "SCSI")])
    proxy = RawDevice(
        "virtio-scsi-pci", "s", {"addr": "05.0", "class": 1}, [RawBus("virtio-bus", "virtio-pci-bus", [inner])]
    )
    made = tree([proxy], bus_type="PCI")
    (place,) = made.places
    assert place.node.address == "05.0"
    assert place.node.pins == {"num_queues": 2, "class": 1}
    assert list(made.all_buses) == ["odd.0", "s.0"]


def test_what_a_rehearsal_cannot_say_is_as_planned() -> None:
    plan = Tree(
        cpu={"model": "host", "vcpus": 1, "features": {"hle": False}},
        clock={"base": "utc"},
        buses=(Bus("b", "PCI", (Node("e1000", id="n", origin="interface/m", applied={"mac": "m"}), Node("odd", id="o"))),),
    )
    dumped = Tree(
        cpu={"model": "max", "vcpus": 1},
        machine={"qemu": "7.2.22"},
        buses=(Bus("b", "PCI", (Node("e1000", id="n", address="03.0"), Node("other", id="o"), Node("isa"))),),
    )
    made = as_planned(dumped, plan)
    assert made.cpu == plan.cpu
    assert (made.clock, made.machine) == ({"base": "utc"}, {"qemu": "7.2.22"})
    assert made.by_name["n"].node == Node("e1000", id="n", address="03.0", origin="interface/m", applied={"mac": "m"})
    assert made.by_name["o"].node.driver == "other"
