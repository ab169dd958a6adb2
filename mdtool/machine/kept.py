"""Trees of descriptions that were read before, by their texts: to read and check one takes as long as all the rest."""

from __future__ import annotations

import os
from typing import Any

from mdtool.cache import known, remember
from mdtool.errors import Position
from mdtool.machine.tree import Bus, Node, Retired, Tree

_KIND, _CODE = "descriptions", os.path.dirname(__file__)
_SECTIONS = [name for name in Tree.__annotations__ if name not in ("buses", "devices", "retired")]
_BAGS = [name for name in Node.__annotations__ if name not in ("buses", "position", "empty")]


def known_tree(text: str, file: str) -> tuple[Tree, int] | None:
    """The tree of a whole description and where its first document ends; None where the text is not known."""
    data = known(_KIND, text, _CODE)
    return None if data is None else (_Reader(file).tree(data[0]), data[1])


def keep_tree(tree: Tree, text: str, end: int) -> None:
    sections = [getattr(tree, name) for name in _SECTIONS]
    retired = [(one.origin, one.bus, one.address, one.id) for one in tree.retired]
    remember(_KIND, text, ((sections, _buses(tree.buses), _nodes(tree.devices), retired), end), _CODE)


def _buses(buses: tuple[Bus, ...]) -> list[Any]:
    return [(bus.name, bus.type, bus.host, _place(bus.position), _nodes(bus.devices)) for bus in buses]


def _nodes(nodes: tuple[Node, ...]) -> list[Any]:
    return [([getattr(node, name) for name in _BAGS], _place(node.position), _buses(node.buses)) for node in nodes]


def _place(position: Position | None) -> tuple[int, int] | None:
    return None if position is None else (position.line, position.column)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file

    def tree(self, data: Any) -> Tree:
        sections, buses, devices, retired = data
        return Tree(
            **dict(zip(_SECTIONS, sections, strict=True)),
            buses=self.buses(buses),
            devices=self.nodes(devices),
            retired=tuple(Retired(*one) for one in retired),
        )

    def buses(self, data: list[Any]) -> tuple[Bus, ...]:
        return tuple(
            Bus(name, type_, self.nodes(devices), host, self.place(place)) for name, type_, host, place, devices in data
        )

    def nodes(self, data: list[Any]) -> tuple[Node, ...]:
        return tuple(Node(*(*bags, self.buses(buses), self.place(place))) for bags, place, buses in data)

    def place(self, place: tuple[int, int] | None) -> Position | None:
        return None if place is None else Position(self._file, *place)
