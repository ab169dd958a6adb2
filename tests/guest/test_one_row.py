"""A new element of guest XML is one row, and all commands know it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import require

from mdtool.cli import main
from mdtool.compare import comparison, guest_visible
from mdtool.guest.convert import number
from mdtool.guest.devices import guest_from_file
from mdtool.guest.elements import ROWS
from mdtool.guest.table import ElementRow, Prop
from mdtool.launch.rehearse import rehearsed
from mdtool.machine.document import tree_from_file
from mdtool.qemu.dump import dump

GADGET = ElementRow(
    "gadget", choose="@model", drivers={"edu": "edu"}, props={"dma_mask": Prop("dma/@mask", number)}, alias="gadget"
)


def described(folder: Path, devices: str) -> dict[str, tuple[str, str | None]]:
    """Id -> driver and address of the devices of a guest, once reconcile, write-xml and a real QEMU agree on them."""
    xml, yaml = folder / "g.xml", folder / "g.yaml"
    xml.write_text(
        "<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory>"
        f"<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>{devices}</devices></domain>"
    )
    assert main(["reconcile", str(xml), "-o", str(yaml), "--write-xml", str(folder / "all.xml")]) == 0
    for again in (xml, folder / "all.xml"):
        assert main(["reconcile", str(again), str(yaml), "--dry-run"]) == 0
    tree = tree_from_file(yaml)
    with rehearsed(guest_from_file(xml), tree) as session:
        assert guest_visible(comparison(tree, dump(session))[0]) == []
    return {str(place.node.id): (place.node.driver, place.node.address) for place in tree.places}


def test_an_element(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has an id, a slot where libvirt would put a conventional device, its property, and a place in the XML."""
    require("qemu-system-x86_64")
    monkeypatch.setitem(ROWS, "gadget", GADGET)
    found = described(tmp_path, "<gadget model='edu'><dma mask='0xff'/></gadget><gadget model='edu'/><rng model='virtio'/>")
    assert (found["gadget0"], found["gadget1"]) == (("edu", "01.0"), ("edu", "02.0"))
    (pci,) = (p for p in tree_from_file(tmp_path / "g.yaml").places if p.node.id == "gadget0")
    assert pci.node.value("dma_mask") == 0xFF
    assert pci.parent is not None and pci.parent.driver == "pcie-pci-bridge"
    assert (tmp_path / "all.xml").read_text().count("<gadget") == 2
