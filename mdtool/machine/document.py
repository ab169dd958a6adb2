"""The machine description: YAML to tree and back.

Reading composes with libyaml, which gives line and column of every value in a twentieth of the time of a round-trip
load; the pins document is JSON and goes to a JSON parser.  Writing a whole new description is ``yaml_from_tree``; changing
one that people have edited is ``mdtool.machine.edit``, which leaves every byte alone that need not change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mdtool.errors import InputError, Position, Report
from mdtool.files import text_from_file
from mdtool.machine.pci import pci_facts
from mdtool.machine.tree import SECTIONS, Bus, Node, Retired, Tree
from mdtool.machine.values import natural
from mdtool.resources import resource

MACHINE_FORMAT = "machine/1"
PINS_FORMAT = "pins/1"
SCHEMA_LINE = "# yaml-language-server: $schema=machine.schema.json"
#: keys of the pins document that are no node's name (':' is in no QEMU id), and the bag of a node that each one holds
BAGS = {"mdtool:applied": "applied", "mdtool:effective": "effective", "mdtool:pci": "pci"}
WIDTH = 110  # where a flow mapping is broken into lines


@dataclass(frozen=True)
class Document:
    """A description as read: its tree, and what ``edit`` needs to change the text in place.

    ``root`` is the composed YAML node of the tree document, ``end`` the offset in ``text`` where that document ends.
    """

    tree: Tree
    file: str
    text: str
    root: Any
    end: int


# --- reading -----------------------------------------------------------------------------------------------------


def document_from_file(path: str | Path) -> Document:
    """Read and check a description; raises InputError (or Errors, sorted) with file, line and column."""
    return document_from_text(text_from_file(path), str(path))


def tree_from_file(path: str | Path) -> Tree:
    return document_from_file(path).tree


def document_from_text(text: str, file: str) -> Document:
    end = _end_of_tree_document(text)
    root = _composed(text[:end], file)
    report = Report()
    _check(root, machine_schema(), machine_schema(), file, report)
    report.done()
    tree = _tree(root, file)
    pins = _pins(text[end:], text[:end].count("\n"), file)
    return Document(_with_pins(tree, pins, file, text[:end].count("\n") + 1), file, text, root, end)


def _end_of_tree_document(text: str) -> int:
    """The offset of the ``---`` line that starts the pins document; the length of the text where there is none."""
    for match in re.finditer(r"^---(?=\s|$)", text, re.MULTILINE):
        if text[: match.start()].strip() and not all(
            line.startswith(("#", "%")) or not line.strip() for line in text[: match.start()].splitlines()
        ):
            return match.start()
    return len(text)


def _composed(text: str, file: str) -> Any:
    """The root node, from libyaml; where that refuses, from ruamel's own parser, which has the last word.

    ruamel brings libyaml 0.1, which does not read an unquoted MAC inside braces; YAML 1.2 does.
    """
    from ruamel.yaml import YAML  # 40 ms: only where a description is read
    from ruamel.yaml.cyaml import CSafeLoader
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        try:
            root = CSafeLoader(text).get_single_node()
        except YAMLError:
            root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1)
        raise InputError(f"not YAML: {error.problem or error.context}", at=where, rule="yaml-syntax") from None
    except YAMLError as error:
        raise InputError(f"not YAML: {str(error).splitlines()[0]}", at=Position(file, 1), rule="yaml-syntax") from None
    if root is None:
        raise InputError("the description is empty", at=Position(file, 1), expected=f"'mdtool: {MACHINE_FORMAT}'")
    return root


def position(node: Any, file: str) -> Position:
    return Position(file, node.start_mark.line + 1, node.start_mark.column + 1)


def kind(node: Any) -> str:
    """``mapping``, ``sequence`` or ``scalar``."""
    return str(node.id)


def items(node: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, key node, value node) of a composed mapping."""
    for key, value in node.value:
        yield str(key.value), key, value


@lru_cache(maxsize=1)
def machine_schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(resource("schemas", "machine.schema.json").read_text())
    return loaded


_JSON_TYPES = {"object": "mapping", "array": "sequence"}


def _check(node: Any, schema: Mapping[str, Any], whole: Mapping[str, Any], file: str, report: Report) -> None:
    """Hold a composed node against the part of JSON Schema that the machine schema uses.

    jsonschema knows no positions of YAML and takes longer to import than a reconcile; a test holds the two against each
    other over good and bad descriptions.
    """
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    here = position(node, file)
    if "anyOf" in schema:
        attempts = []
        for choice in schema["anyOf"]:
            attempt = Report()
            _check(node, choice, whole, file, attempt)
            if not attempt.errors:
                return
            attempts.append(attempt)
        for error in min(attempts, key=lambda a: len(a.errors)).errors:
            report.error(error)
        return
    expected = schema.get("type")
    types = [expected] if isinstance(expected, str) else expected or []
    if types and not any(_is_type(node, t) for t in types):
        report.error(InputError(f"{_says(node)} is no {' or '.join(types)}", at=here, rule="schema-type"))
        return
    if "const" in schema and node.value != schema["const"]:
        what = f"{_says(node)} is not understood"
        report.error(InputError(what, at=here, expected=repr(schema["const"]), rule="schema-const"))
    if "enum" in schema and node.value not in schema["enum"]:
        expect = "one of " + ", ".join(schema["enum"])
        report.error(InputError(f"unknown value {_says(node)}", at=here, expected=expect, rule="schema-enum"))
    if "pattern" in schema and kind(node) == "scalar" and not re.search(schema["pattern"], node.value):
        expect = schema.get("description", schema["pattern"])
        report.error(InputError(f"malformed value {_says(node)}", at=here, expected=expect, rule="schema-pattern"))
    if kind(node) == "mapping":
        _check_mapping(node, schema, whole, file, report)
    elif kind(node) == "sequence" and "items" in schema:
        for item in node.value:
            _check(item, schema["items"], whole, file, report)


def _check_mapping(node: Any, schema: Mapping[str, Any], whole: Mapping[str, Any], file: str, report: Report) -> None:
    known: Mapping[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    seen: set[str] = set()
    for key, key_node, value in items(node):
        if kind(key_node) != "scalar":
            report.error(InputError("a key must be a plain word", at=position(key_node, file), rule="schema-key"))
            continue
        if key in seen:
            report.error(InputError(f"duplicate key '{key}'", at=position(key_node, file), rule="duplicate-key"))
        seen.add(key)
        if key in known:
            _check(value, known[key], whole, file, report)
        elif others is False:
            valid = ", ".join(known)
            what = f"unknown key '{key}'; valid keys are {valid}"
            report.error(InputError(what, at=position(key_node, file), rule="unknown-key"))
        elif isinstance(others, Mapping):
            _check(value, others, whole, file, report)
    for key in schema.get("required", ()):
        if key not in seen:
            report.error(InputError(f"missing key '{key}'", at=position(node, file), rule="missing-key"))


def _says(node: Any) -> str:
    return f"'{node.value}'" if kind(node) == "scalar" else f"a {kind(node)}"


def _is_type(node: Any, name: str) -> bool:
    if name in _JSON_TYPES or kind(node) != "scalar":
        return bool(_JSON_TYPES.get(name) == kind(node))
    # The type of the key decides and not the spelling: any scalar will do for a string.
    value = _value(node)
    if name == "string":
        return not (value is None and not node.style)
    return {
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "null": value is None,
    }[name]


_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def _value(node: Any) -> Any:
    """A composed node as plain data, by YAML 1.2's rules (so ``off`` is a string and ``1:30`` is no number)."""
    if kind(node) == "mapping":
        return {key: _value(value) for key, _, value in items(node)}
    if kind(node) == "sequence":
        return [_value(item) for item in node.value]
    text = node.value
    if node.style:  # quoted
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _tree(root: Any, file: str) -> Tree:
    found = {key: value for key, _, value in items(root)}
    sections = {name: _strings_kept(name, _value(found[name])) for name in SECTIONS if name in found}
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

    return Node(
        driver=str(found["driver"].value),
        id=word("id"),
        address=word("address"),
        origin=word("origin"),
        properties=_value(found["properties"]) if "properties" in found else {},
        buses=_buses(found.get("buses"), file),
        position=position(node, file),
    )


def _pins(text: str, lines_before: int, file: str) -> dict[str, Any]:
    if not text:
        return {}
    body = text[3:]  # the '---'
    try:
        pins = json.loads(body)
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        where = Position(file, lines_before + line, column + (3 if line == 1 else 0))
        remedy = "restore it from git, or dump the machine again; pins are changed under 'properties' in the tree"
        what = f"the pins document is not JSON: {getattr(error, 'msg', error)}"
        raise InputError(what, at=where, remedy=remedy, rule="pins-syntax") from None
    if not isinstance(pins, dict) or pins.pop("mdtool", None) != PINS_FORMAT:
        where = Position(file, lines_before + 1)
        raise InputError("the second document is no pins document", at=where, expected=f'"mdtool": "{PINS_FORMAT}"')
    return pins


def _with_pins(tree: Tree, pins: dict[str, Any], file: str, line: int) -> Tree:
    bags = {bag: pins.pop(key, {}) for key, bag in BAGS.items()}
    applied = bags["applied"]
    tree = replace(tree, applied={key: applied.pop(key) for key in list(applied) if key.startswith("@")})
    bags["pins"] = pins
    if not any(bags.values()):
        return tree
    unknown = [name for name in pins if name not in tree.by_name]
    report = Report()
    for name in unknown:
        what = f"pins for '{name}', which is not in the tree"
        remedy = "a node was renamed or removed by hand: rename or remove its line in the pins document as well"
        report.error(InputError(what, at=Position(file, line), remedy=remedy, rule="pins-node"))
    report.done()
    return tree_with(
        tree,
        {name: {bag: found.get(name, {}) for bag, found in bags.items()} for name in tree.by_name},
    )


def tree_with(tree: Tree, changes: Mapping[str, Mapping[str, Any]]) -> Tree:
    """The tree with fields of some nodes replaced: ``tree_with(tree, {"net0": {"pins": {...}}})``."""
    names = iter([place.name for place in tree.places])

    def rebuilt(node: Node) -> Node:
        change = changes.get(next(names))
        buses = tuple(replace(bus, devices=tuple(rebuilt(inner) for inner in bus.devices)) for bus in node.buses)
        return replace(node, **{"buses": buses, **(change or {})})

    buses = tuple(replace(bus, devices=tuple(rebuilt(node) for node in bus.devices)) for bus in tree.buses)
    return replace(tree, buses=buses, devices=tuple(rebuilt(node) for node in tree.devices))


# --- writing -----------------------------------------------------------------------------------------------------


def canonical(tree: Tree) -> Tree:
    """Buses by name and their devices by address, as every new description is written."""

    def ordered(bus: Bus) -> Bus:
        return replace(bus, devices=tuple(sorted((inner(node) for node in bus.devices), key=by_address)))

    def inner(node: Node) -> Node:
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
    data: dict[str, Any] = {"mdtool": PINS_FORMAT, **bags("pins", names)}
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
    lines = [SCHEMA_LINE, *_block(machine_from_tree(tree), 0)]
    return "\n".join(lines) + "\n" + pins_text(tree)


def pins_text(tree: Tree) -> str:
    """The pins document with its ``---``, one JSON line a device; '' where there is nothing to pin."""
    data = pins_from_tree(tree)
    if len(data) == 1:
        return ""
    rows: list[str] = []
    for key, value in data.items():
        if key in BAGS:
            inner = ",\n  ".join(f"{json.dumps(name)}: {_json(bag)}" for name, bag in value.items())
            rows.append(f"{json.dumps(key)}: {{\n  {inner}}}")
        else:
            rows.append(f"{json.dumps(key)}: {_json(value)}")
    return "---\n{" + ",\n ".join(rows) + "}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_./+@:-]*|[0-9]+(\.[0-9]+){2,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
