"""Numbers that are none, or have thousands of digits, wherever a text is expected to be a number."""

from __future__ import annotations

import pytest

from mdtool.commandline.sections import value_of
from mdtool.guest.addresses import indices_taken
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.elements.outside import wanted_outside
from mdtool.guest.write import _target_of
from mdtool.launch.argv import ordered
from mdtool.launch.backends.net import _number
from mdtool.machine.sizes import bytes_of
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.machine.values import numbers_of
from mdtool.qemu.qtree import _scalar
from mdtool.review.merge3 import _next_name

LONG = "9" * 5000
NUMBERS = (LONG, f"-{LONG}", f"{LONG}.5", "\u00b2", "\u0663", "1e9", "0x", "", "-", "+1", "1_000")


@pytest.mark.parametrize("text", NUMBERS, ids=lambda text: ascii(text)[:12])
def test_a_number_that_is_none_is_no_traceback(text: str) -> None:
    node = Node("pcie-root-port", id=f"pci.{text}", address="02.0", properties={"chassis": text, "port": text})
    tree = Tree(machine={"type": "pc-q35-7.2"}, buses=(Bus("pcie.0", "PCIE", (node,)),))
    assert [place.node for place in ordered(tree, [])] == [node]
    assert indices_taken([node]) == frozenset()
    assert _target_of(node) == ({"chassis": "1", "port": "0x1"} if text == "+1" else {})
    assert numbers_of(f"{text}-3,4") == [4]
    assert _next_name(f"net{text}", set()).startswith("net")
    assert isinstance(_number(text), int)
    assert value_of(text) == _scalar(text) == text
    assert bytes_of(f"{text}G") is None


@pytest.mark.parametrize("text", NUMBERS, ids=lambda text: ascii(text)[:12])
def test_a_place_of_qemus_own_that_is_no_number_stays_a_text(text: str) -> None:
    xml = f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
<qemu:commandline><qemu:arg value='-device'/><qemu:arg value='edu,id=e,unit={text}'/></qemu:commandline></domain>"""
    (edu,) = wanted_outside(guest_from_bytes(xml.encode(), "guest.xml"))
    assert edu.properties["unit"] == text
