"""A description without addresses: the devices, their ids and their properties, and nothing that QEMU can choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mdtool.machine.tree import BUILTIN, Bus, Node, Tree
from mdtool.records import replace

#: properties that say where a device is, or follow from it
_OF_THE_PLACE = frozenset({"multifunction", "port", "addr"})
_FACT = "@address"  # where the XML put it, of what is kept as applied


def minimal(tree: Tree) -> Tree:
    """``tree`` without addresses, built-ins, pins and retired addresses.

    Devices stay on their buses: which port a device is behind is its own.  Reconciling it again fills the addresses in,
    as for a guest that is new.
    """

    def device(node: Node) -> Node:
        return replace(
            node,
            address=None,
            properties={name: value for name, value in node.properties.items() if name not in _OF_THE_PLACE},
            pins={},
            effective={},
            applied={name: v for name, v in node.applied.items() if name not in _OF_THE_PLACE and name != _FACT},
            buses=tuple(bus(one) for one in node.buses),
        )

    top: list[Bus] = []

    def devices(nodes: Iterable[Node]) -> Iterator[Node]:
        """Built-ins go; a bus of theirs that something sits on goes to the top, as where the XML alone is known."""
        for node in nodes:
            if node.origin != BUILTIN:
                yield device(node)
            else:
                top.extend(replace(bus(one), host=None) for one in node.buses)

    def bus(one: Bus) -> Bus:
        if one.type == "HDA":  # the number of a codec is its name on the card
            return one
        return replace(one, devices=tuple(devices(one.devices)))

    top += [bus(one) for one in tree.buses]
    alone = tuple(devices(tree.devices))
    buses = tuple(one for one in top if one.devices)
    return replace(tree, buses=buses, devices=alone, retired=(), source=(), machine_pins={})
