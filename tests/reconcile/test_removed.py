"""Only what some XML element could have made may be removed."""

from __future__ import annotations

import pytest
from support import SAMPLES

from mdtool.guest.devices import guest_from_file
from mdtool.reconcile import reconcile
from mdtool.tree import Bus, Node, Tree


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
