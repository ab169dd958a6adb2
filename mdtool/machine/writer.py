"""A tree as a machine description: plain data, and YAML with every value written in its one way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mdtool.machine.pci import pci_facts
from mdtool.machine.pins import row, shared
from mdtool.machine.sizes import in_units
from mdtool.machine.tree import SECTIONS, Bus, Node, Retired, Tree
from mdtool.machine.values import natural
from mdtool.records import replace
from mdtool.text import pattern

MACHINE_FORMAT = "machine/1"
PINS_FORMAT = "pins/1"
SCHEMA_LINE = "# yaml-language-server: $schema=machine.schema.json"
#: keys of the pins document that are no node's name (':' is in no QEMU id), and the bag of a node that each one holds
BAGS = {"mdtool:applied": "applied", "mdtool:effective": "effective", "mdtool:pci": "pci"}
#: keys of the pins document that are about the whole machine: who was asked, and the machine's own properties
SOURCE, MACHINE_PINS = "mdtool:source", "mdtool:machine"
#: the key under which stands, by driver, what most devices of it have
DRIVER_PINS = "mdtool:drivers"
WIDTH = 110  # where a flow mapping is broken into lines


def canonical(tree: Tree) -> Tree:
    """Buses by name and their devices by address, as every new description is written."""

    def ordered(bus: Bus) -> Bus:
        return replace(bus, devices=tuple(sorted((inner(node) for node in bus.devices), key=by_address)))

    def inner(node: Node) -> Node:
        if not node.buses:
            return node
        return replace(node, buses=tuple(sorted((ordered(bus) for bus in node.buses), key=lambda b: natural(b.name))))

    buses = tuple(sorted((ordered(bus) for bus in tree.buses), key=lambda b: natural(b.name)))
    return replace(
        tree,
        buses=buses,
        devices=tuple(sorted((inner(node) for node in tree.devices), key=lambda n: (n.driver, by_address(n)))),
        retired=tuple(sorted(tree.retired, key=lambda r: (natural(r.bus), address_key(r.address), r.origin))),
    )


def address_key(address: str | None) -> tuple[Any, ...]:
    """Orders addresses of one bus: by number, hexadecimal where the notation is (``0a.0`` after ``09.0``)."""
    if address is None:
        return ((0,),)
    parts = re.split(r"[.:]", address)
    try:
        return tuple((1, int(part, 16), "") for part in parts)
    except ValueError:
        return tuple((2, 0, part) for part in parts)


def by_address(node: Node) -> tuple[Any, ...]:
    return address_key(node.address), natural(node.id or ""), node.driver


def machine_from_tree(tree: Tree) -> dict[str, Any]:
    """The tree document as plain data, in the order in which it is written."""
    data: dict[str, Any] = {"mdtool": MACHINE_FORMAT}
    for name in SECTIONS:
        if section := getattr(tree, name):
            data[name] = dict(section)
    data["buses"] = {bus.name: data_from_bus(bus) for bus in tree.buses}
    if tree.devices:
        data["devices"] = [data_from_node(node) for node in tree.devices]
    if tree.retired:
        data["retired"] = [data_from_retired(retired) for retired in tree.retired]
    return data


def data_from_bus(bus: Bus) -> dict[str, Any]:
    data: dict[str, Any] = {"type": bus.type}
    if bus.host is not None:
        data["host"] = bus.host
    if bus.devices:
        data["devices"] = [data_from_node(node) for node in bus.devices]
    return data


def data_from_node(node: Node) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if node.id is not None:
        data["id"] = node.id
    data["driver"] = node.driver
    if node.address is not None:
        data["address"] = node.address
    if node.origin is not None:
        data["origin"] = node.origin
    if node.properties:
        data["properties"] = dict(sorted(node.properties.items()))
    if node.buses:
        data["buses"] = {bus.name: data_from_bus(bus) for bus in node.buses}
    return data


def data_from_retired(retired: Retired) -> dict[str, Any]:
    data = {"origin": retired.origin, "bus": retired.bus, "address": retired.address}
    return {**data, "id": retired.id} if retired.id is not None else data


def pins_from_tree(tree: Tree) -> dict[str, Any]:
    """The pins document as plain data: what QEMU filled in, and the three bags of ``BAGS``.

    PCI facts of properties that a device no longer has are left out.
    """

    def bags(bag: str, names: Iterable[str]) -> dict[str, Any]:
        found = {name: getattr(tree.by_name[name].node, bag) for name in names}
        return {name: dict(sorted(value.items())) for name, value in found.items() if value}

    names = sorted(tree.by_name, key=natural)
    data: dict[str, Any] = {"mdtool": PINS_FORMAT}
    if tree.source:
        data[SOURCE] = list(tree.source)
    if tree.machine_pins:
        data[MACHINE_PINS] = dict(sorted(tree.machine_pins.items()))
    data |= bags("pins", names)
    for key, bag in BAGS.items():
        found = bags(bag, [name for name in names if bag != "pci" or pci_facts(tree.by_name[name].node)])
        if bag == "applied":
            found = {**dict(sorted(tree.applied.items())), **found}
        if found:
            data[key] = found
    return data


def json_from_tree(tree: Tree) -> dict[str, Any]:
    """``{"machine": ..., "pins": ...}``, for ``--json``."""
    tree = canonical(tree)
    return {"machine": machine_from_tree(tree), "pins": pins_from_tree(tree)}


def yaml_from_tree(tree: Tree) -> str:
    """A new description: both documents, canonical."""
    tree = canonical(tree)
    data = {key: in_units(key, value) for key, value in machine_from_tree(tree).items()}
    lines = [SCHEMA_LINE, *_block(data, 0)]
    return "\n".join(lines) + "\n" + pins_text(tree)


def pins_text(tree: Tree) -> str:
    """The pins document with its ``---``, a row a driver and a short one a device; '' if there is nothing to pin."""
    data = pins_from_tree(tree)
    if len(data) == 1:
        return ""
    nodes = {name: place.node for name, place in tree.by_name.items() if name in data}
    drivers, own = shared({name: (nodes[name].driver, data.pop(name)) for name in [*data] if name in nodes})
    bags = {key: data.pop(key) for key in BAGS if key in data}
    rows = [row(key, value, 1, WIDTH) for key, value in data.items()]
    if drivers:
        rows.append(_rows(DRIVER_PINS, drivers))
    rows += [row(name, bag, 1, WIDTH) for name, bag in own.items()]
    rows += [_rows(key, bag) for key, bag in bags.items()]
    return "---\n{" + ",\n ".join(rows) + "}\n"


def _rows(key: str, bags: Mapping[str, Any]) -> str:
    inner = ",\n  ".join(row(name, bag, 2, WIDTH) for name, bag in bags.items())
    return f"{json.dumps(key)}: {{\n  {inner}}}"


_SAFE = pattern(r"[A-Za-z_][A-Za-z0-9_./+@:-]*|[0-9]+[KMGT]|[0-9]+(\.[0-9]+){2,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: words that some YAML reader takes for a boolean or null
_NOT_STRINGS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def scalar(value: Any, *, in_flow: bool = False) -> str:
    """One scalar as YAML, quoted where any YAML reader would take it for something else (libyaml a ':' in a flow).

    >>> scalar("05.0"), scalar("off"), scalar(True), scalar("net0"), scalar("52:54:00:11:22:33")
    ("'05.0'", "'off'", 'true', 'net0', "'52:54:00:11:22:33'")
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value)
    if (
        _SAFE.fullmatch(text)
        and text.lower() not in _NOT_STRINGS
        and not text.endswith(":")
        and not (in_flow and ":" in text)
    ):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def flow(value: Any) -> str:
    """A value on one line: ``{chassis: 1, multifunction: true}``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key, in_flow=True)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value, in_flow=True)


def _block(data: Mapping[str, Any], indent: int) -> list[str]:
    """A mapping as block lines; what is small goes on one line."""
    lines: list[str] = []
    for key, value in data.items():
        lines += entry(key, value, indent)
    return lines


def entry(key: str, value: Any, indent: int) -> list[str]:
    """``key: value`` as lines at ``indent``.  Buses and devices are always blocks; the rest is a line where it fits."""
    pad = " " * indent
    if key == "devices" and isinstance(value, list):
        return [f"{pad}devices:", *(line for item in value for line in device_lines(item, indent))]
    if key == "buses":
        if not value:
            return [f"{pad}buses: {{}}"]
        lines = [f"{pad}buses:"]
        for name, bus in value.items():
            lines += [f"{pad}  {scalar(name)}:", *_block(bus, indent + 4)]
        return lines
    if not isinstance(value, (Mapping, list, tuple)):
        return [f"{pad}{scalar(key)}: {scalar(value)}"]
    one = f"{pad}{scalar(key)}: {flow(value)}"
    if not value or (len(one) <= WIDTH and key != "retired"):
        return [one]
    if isinstance(value, Mapping):
        return [f"{pad}{scalar(key)}:", *_block(value, indent + 2)]
    return [f"{pad}{scalar(key)}:", *(f"{pad}- {flow(item)}" for item in value)]


def device_lines(data: Mapping[str, Any], indent: int) -> list[str]:
    """One device of a list, its ``- `` at ``indent``: one line where it has neither id nor properties nor buses."""
    pad = " " * indent
    if not {"id", "properties", "buses"} & data.keys():
        return [f"{pad}- {flow(data)}"]
    lines = _block(data, indent + 2)
    return [f"{pad}- {lines[0].lstrip()}", *lines[1:]]
