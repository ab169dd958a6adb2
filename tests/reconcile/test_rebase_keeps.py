"""What the XML sets stays with another machine type, also where a dump has it among the pins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support_sequences import parsed

from mdtool.apply.rebase import bare
from mdtool.errors import MdtoolError
from mdtool.machine.document import tree_with
from mdtool.machine.tree import BUILTIN, Node, Tree
from mdtool.reconcile import reconcile

XML = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc-q35-6.2'>hvm</type></os><devices>
<disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/>
<blockio logical_block_size='4096' physical_block_size='4096'/></disk>
<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><mtu size='1400'/></interface>
</devices></domain>"""


def test_what_the_xml_sets_is_no_pin_of_the_machine_type() -> None:
    guest = parsed(XML)
    tree = reconcile(guest).tree
    pinned = {}  # as a dump has it: all that is not chosen by people among the pins
    for place in tree.places:
        node = place.node
        pins = {name: value for name, value in node.properties.items() if name in node.applied} | {"vectors": 3}
        pinned[place.name] = {"pins": pins, "properties": {k: v for k, v in node.properties.items() if k not in pins}}
    dumped = replace(tree_with(tree, pinned), source=("monitor",), machine_pins={"hpet": True})
    new = bare(parsed(XML.replace("pc-q35-6.2", "pc-q35-7.2")), dumped, "pc-q35-7.2")
    assert (new.source, dict(new.machine_pins)) == ((), {})
    kept = {name: value for place in new.places for name, value in place.node.properties.items()}
    assert (kept["logical_block_size"], kept["physical_block_size"]) == (4096, 4096) and kept["host_mtu"] == 1400
    assert not any("vectors" in {**place.node.properties, **place.node.pins} for place in new.places)


def test_functions_that_a_nic_brings_are_where_they_are() -> None:
    """An igb's virtual functions have routing ids behind a port that has one slot; another device there is an error."""
    guest = parsed(XML.replace("<model type='virtio'/><mtu size='1400'/>", "<model type='igb'/>"))
    tree = reconcile(guest).tree
    nic = next(place for place in tree.places if place.node.driver == "igb")
    assert nic.parent is not None and nic.bus is not None

    def rebuilt(origin: str | None) -> Tree:
        def node(one: Node) -> Node:
            buses = tuple(replace(bus, devices=tuple(map(node, bus.devices))) for bus in one.buses)
            if one.id == nic.parent.id:
                function = Node("igbvf", address="10.0", origin=origin, id=None if origin else "vf0")
                buses = tuple(replace(bus, devices=(*bus.devices, function)) for bus in buses)
            return replace(one, buses=buses)

        return replace(tree, buses=tuple(replace(bus, devices=tuple(map(node, bus.devices))) for bus in tree.buses))

    assert not reconcile(guest, rebuilt(BUILTIN)).plan
    with pytest.raises(MdtoolError, match=r"no '10\.0'"):
        reconcile(guest, rebuilt(None))
