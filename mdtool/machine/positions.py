"""Where a description says what: the position of every key and value of every node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdtool.errors import Position
from mdtool.machine.document import Document
from mdtool.machine.tree import Place, Tree
from mdtool.machine.yaml import items, kind, position

#: (name of a node or section, path of a key in it): ("net0", "address"), ("net0", "properties.mac"), ("cpu", "vcpus")
Positions = Mapping[tuple[str, str], Position]


def positions(document: Document) -> Positions:
    """Of each value; of the key itself under its path and a colon (``properties.mac:``); of a node under ''."""
    found: dict[tuple[str, str], Position] = {}
    names = iter([place.name for place in document.tree.places])  # both walks go in the order of the document

    def mapping(name: str, path: str, node: Any) -> None:
        for key, key_node, value in items(node):
            here = f"{path}.{key}" if path else key
            found[name, f"{here}:"] = position(key_node, document.file)
            found[name, here] = position(value, document.file)
            if kind(value) == "mapping" and key != "buses":
                mapping(name, here, value)

    def devices(node: Any) -> None:
        for item in node.value if node is not None else ():
            name = next(names)
            found[name, ""] = position(item, document.file)
            mapping(name, "", item)
            buses(_get(item, "buses"))

    def buses(node: Any) -> None:
        for name, key_node, bus in items(node) if node is not None else ():
            found[name, "bus"] = position(key_node, document.file)
            devices(_get(bus, "devices"))

    buses(_get(document.root, "buses"))
    devices(_get(document.root, "devices"))
    for name, key_node, value in items(document.root):
        found[name, ""] = position(key_node, document.file)
        if kind(value) == "mapping" and name != "buses":
            mapping(name, "", value)
    retired = _get(document.root, "retired")
    for number, item in enumerate(_sequence(retired)):
        found["retired", str(number)] = position(item, document.file)
    return found


def _get(node: Any, key: str) -> Any:
    return next((value for name, _, value in items(node) if name == key), None)


def _sequence(node: Any) -> Iterator[Any]:
    return iter(node.value if node is not None else ())


def place_at(tree: Tree, line: int) -> Place | None:
    """The node that a line of the description (from 1) is in: the last one that starts at or before it."""
    found = [place for place in tree.places if place.node.position is not None and place.node.position.line <= line]
    return max(found, key=lambda place: place.node.position.line if place.node.position else 0, default=None)
