"""The tree document as composed YAML nodes, checked and made a tree."""

from __future__ import annotations

import re
from typing import Any

from mdtool.errors import InputError, Position
from mdtool.limits import MAX_INDEX, MAX_QUOTED
from mdtool.machine.schema import machine_schema, validate_machine
from mdtool.machine.tree import SECTIONS, Bus, Node, Retired, Tree
from mdtool.machine.values import uuid_from_text
from mdtool.machine.yaml import composed, items, plain_data, position
from mdtool.text import quoted


def tree_from_yaml(text: str, file: str) -> Tree:
    """The tree document alone; raises InputError (or Errors, sorted) with file, line and column."""
    root = composed(text, file)
    if root.id != "mapping" or machine_schema()["properties"].keys().isdisjoint(key for key, _, _ in items(root)):
        what, begins = "this is not a machine description", "a file that begins with mdtool: machine/1"
        raise InputError(what, at=Position(file, 1), expected=begins, rule="file-kind")
    validate_machine(root, file)
    return _tree(root, file)


def _tree(root: Any, file: str) -> Tree:
    found = {key: value for key, _, value in items(root)}
    sections = {name: _strings_kept(name, plain_data(found[name])) for name in SECTIONS if name in found}
    if "uuid" in sections.get("guest", {}):
        sections["guest"]["uuid"] = uuid_from_text(sections["guest"]["uuid"])
    return Tree(
        **sections,
        buses=_buses(found.get("buses"), file),
        devices=tuple(_node(item, file) for item in found["devices"].value) if "devices" in found else (),
        retired=tuple(
            Retired(**{key: str(value.value) for key, _, value in items(item)}) for item in found["retired"].value
        )
        if "retired" in found
        else (),
    )


def _strings_kept(section: str, data: Any) -> Any:
    """Values whose schema says string are text, however they were spelled (``qemu: 7.2`` is a version, not a number)."""
    known = machine_schema()["properties"][section]
    while "$ref" in known:
        known = machine_schema()["$defs"][known["$ref"].rpartition("/")[2]]
    return {
        key: str(value)
        if known.get("properties", {}).get(key, {}).get("type") == "string" and not isinstance(value, (dict, list))
        else value
        for key, value in data.items()
    }


def _buses(node: Any, file: str) -> tuple[Bus, ...]:
    return tuple(_bus(name, value, file) for name, _, value in items(node)) if node is not None else ()


def _bus(name: str, node: Any, file: str) -> Bus:
    found = {key: value for key, _, value in items(node)}
    return Bus(
        name=name,
        type=str(found["type"].value),
        host=str(found["host"].value) if "host" in found else None,
        devices=tuple(_node(item, file) for item in found["devices"].value) if "devices" in found else (),
        position=position(node, file),
    )


def _node(node: Any, file: str) -> Node:
    found = {key: value for key, _, value in items(node)}

    def word(key: str) -> str | None:
        return str(found[key].value) if key in found else None

    if "origin" in found:
        _check_origin(found["origin"], file)
    if len(address := word("address") or "") > MAX_QUOTED:
        what = f"{quoted(address)} is too long for an address"
        raise InputError(what, at=position(found["address"], file), rule="limit-number")
    return Node(
        driver=str(found["driver"].value),
        id=word("id"),
        address=word("address"),
        origin=word("origin"),
        properties=plain_data(found["properties"]) if "properties" in found else {},
        buses=_buses(found.get("buses"), file),
        position=position(node, file),
    )


def _check_origin(node: Any, file: str) -> None:
    """The origin of a controller ends with its index, up to which lists are filled: held against what there can be."""
    origin = str(node.value)
    index = re.match(r"controller/[^/]*/([0-9]{1,9}(?![0-9]))?", origin)
    if index is not None and not 0 <= int(index[1] or -1) <= MAX_INDEX:
        what = f"{quoted(origin)} is the origin of no controller"
        expected = f"controller/TYPE/INDEX, with an index up to {MAX_INDEX}"
        raise InputError(what, at=position(node, file), expected=expected, rule="origin-index")
