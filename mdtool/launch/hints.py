"""``--via hints``: an opaque file with addresses only, applied over fresh guest XML (Solution 5 of 2009).

    {"mdtool": "hints/1", "machine": {"type": "pc-q35-7.2", "arch": "x86_64"},
     "hints": [{"origin": "interface/52:54:00:11:22:33", "driver": "virtio-net-pci", "id": "net0",
                "bus": "pci.1", "address": "00.0"}, ...]}

For those who make fresh XML without addresses at every start and keep a blob beside it.  There is no configuration in
it: a hint for a device that is gone is ignored, and a device without a hint gets a place that no hint holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mdtool.errors import InputError, Position
from mdtool.reconcile.assemble import bus_of_the_machine
from mdtool.tree import BUILTIN, HAND, Bus, Node, Place, Tree

FORMAT = "hints/1"
_KEYS = frozenset({"origin", "driver", "id", "bus", "address", "buses", "implied"})
_NUMBERS = ("bus_nr", "chassis", "chassis_nr", "multifunction", "port")
IMPLIED = "@implied"  # in a node's applied: no XML element asked for it, so none has to keep it


def hints_from_tree(tree: Tree) -> str:
    """The hints of a description, as the text of their file."""
    rows = [_hint(place) for place in tree.places if place.node.origin not in (None, BUILTIN, HAND)]
    head = json.dumps({key: tree.machine[key] for key in ("type", "arch") if key in tree.machine})
    lines = ",\n ".join(json.dumps(row) for row in rows)
    return f'{{"mdtool": "{FORMAT}", "machine": {head}, "hints": [\n {lines}]}}\n'


def _hint(place: Place) -> dict[str, Any]:
    node = place.node
    row: dict[str, Any] = {"origin": node.origin, "driver": node.driver, "id": node.id}
    row |= {"bus": place.bus.name if place.bus else None, "address": node.address}
    row |= {"buses": {bus.name: bus.type for bus in node.buses}} if node.buses else {}
    if node.applied.get(IMPLIED):
        # A port's numbers are its address in a hotplug slot's terms, and no XML element says them again.
        row |= {"implied": {name: node.properties[name] for name in _NUMBERS if name in node.properties}}
    return {key: value for key, value in row.items() if value is not None}


def tree_from_hints(path: str | Path) -> Tree:
    """A description that knows addresses and nothing else, for ``reconcile`` to fill from the XML.

    Raises InputError where the file is none, or is of a later version.
    """
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        what = f"not a hints file: {getattr(error, 'msg', 'not UTF-8')}"
        raise InputError(what, at=Position(str(path), line, column), rule="hints-syntax") from None
    at = Position(str(path), 1)
    if not isinstance(data, dict) or data.get("mdtool") != FORMAT:
        raise InputError("not a hints file of this version", at=at, expected=f'"mdtool": "{FORMAT}"', rule="hints-syntax")
    rows = data.get("hints")
    machine = data.get("machine", {})
    if not isinstance(rows, list) or not isinstance(machine, dict) or not all(_is_hint(row) for row in rows):
        raise InputError("a hint is malformed", at=at, remedy="export the hints again", rule="hints-syntax")
    return _tree(machine, rows)


def _is_hint(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and row.keys() <= _KEYS
        and {"origin", "driver"} <= row.keys()
        and all(isinstance(value, str) for key, value in row.items() if key not in ("buses", "implied"))
        and all(isinstance(row.get(name, {}), dict) for name in ("buses", "implied"))
    )


def _tree(machine: Mapping[str, Any], rows: list[dict[str, Any]]) -> Tree:
    on: dict[str | None, list[dict[str, Any]]] = {}
    provided = {name for row in rows for name in row.get("buses", {})}
    for row in rows:
        on.setdefault(row.get("bus"), []).append(row)

    def bus(name: str, kind: str) -> Bus:
        return Bus(name, kind, tuple(node(row) for row in on.pop(name, [])))

    def node(row: dict[str, Any]) -> Node:
        numbers = dict(row.get("implied", {}))
        applied = {IMPLIED: True, **numbers} if "implied" in row else {}
        made = Node(row["driver"], row.get("id"), row.get("address"), row["origin"], numbers, applied=applied)
        return replace(made, buses=tuple(bus(name, str(kind)) for name, kind in row.get("buses", {}).items()))

    loose = tuple(node(row) for row in on.pop(None, []))
    tops = [name for name in on if name not in provided and name is not None]
    buses = tuple(replace(bus_of_the_machine(name), devices=bus(name, "").devices) for name in tops)
    return Tree(machine=dict(machine), buses=buses, devices=loose)
