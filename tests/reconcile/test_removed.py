"""Only what some XML element could have made may be removed."""

from __future__ import annotations

import pytest
from support import SAMPLES
from support_sequences import Part, World

from mdtool.guest.devices import guest_from_file
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.reconcile import reconcile


@pytest.mark.parametrize(
    ("driver", "origin", "stays"),
    [
        ("ES1370", None, False),
        ("virtio-rng-pci", None, False),
        ("edu", None, True),
        ("edu", "hand", True),
        ("ES1370", "hand", True),
        ("ES1370", "builtin", True),
        ("virtio-rng-pci", "rng/virtio", False),
    ],
)
def test_what_the_xml_does_not_name(driver: str, origin: str | None, stays: bool) -> None:
    node = Node(driver, id="it", address="0a.0", origin=origin)
    old = Tree(machine={"type": "pc-i440fx-7.2"}, buses=(Bus("pci.0", "PCI", (node,)),))
    result = reconcile(guest_from_file(SAMPLES / "legacy" / "guest.xml"), old)
    assert ("it" in result.tree.by_name) is stays
    if stays:
        assert result.tree.by_name["it"].address == ("pci.0", "0a.0")


def test_a_port_whose_number_would_be_a_gap_stays() -> None:
    """libvirt fills the numbers up to the highest, and would make a port anew at another place."""
    world = World("virt", [Part("port", at, index=f" index='{at}'") for at in (1, 2, 3, 4)])
    world.step()
    where = {origin: world.last[origin] for origin in ("controller/pci/2", "controller/pci/3")}
    world.parts = [world.parts[0], world.parts[3], Part("port", 9, index=" index='9'")]
    world.step()
    assert {origin: world.last[origin] for origin in where} == where
    assert world.document().tree.by_name["pci.3"].address == where["controller/pci/3"]
    world.parts = world.parts[:1]
    steps = {step.name: step.action.name for step in world.step().plan.steps}
    assert steps["pci.9"] == "REMOVE" and "pci.9" not in world.document().tree.by_name


@pytest.mark.parametrize(("driver", "function"), [("igb", "igbvf"), ("nvme", "nvme")])
@pytest.mark.parametrize("another", [False, True], ids=["alone", "beside another"])
def test_virtual_functions_go_with_the_device_that_brings_them(driver: str, function: str, another: bool) -> None:
    nodes = [
        Node(driver, id="net9", address="0a.0", origin="interface/52:54:00:00:00:99"),
        *(Node(function, address=f"{slot:02x}.0", origin="builtin") for slot in (0x10, 0x11)),
    ]
    if another:
        nodes.append(Node(driver, id="mine", address="0b.0", origin="hand"))
    old = Tree(machine={"type": "pc-i440fx-7.2"}, buses=(Bus("pci.0", "PCI", tuple(nodes)),))
    tree = reconcile(guest_from_file(SAMPLES / "legacy" / "guest.xml"), old).tree
    assert "net9" not in tree.by_name
    left = [place for place in tree.places if place.node.driver == function and place.node.origin == "builtin"]
    assert len(left) == (2 if another else 0)
