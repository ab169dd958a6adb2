"""The machine description as read: a text to its tree, checked.

Reading composes with libyaml, which gives line and column of every value in a twentieth of the time of a round-trip
load; the pins document is JSON and goes to a JSON parser.  Writing a whole new description is ``machine.writer``; changing
one that people have edited is ``machine.edit``, which leaves every byte alone that need not change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdtool.errors import InputError, Position, Warn
from mdtool.files import text_from_file
from mdtool.limits import MAX_DIGITS, MAX_INDEX
from mdtool.machine.schema import machine_schema, validate_machine, validate_pins
from mdtool.machine.tree import SECTIONS, Bus, Node, Retired, Tree
from mdtool.machine.values import uuid_from_text
from mdtool.machine.writer import BAGS, MACHINE_PINS, PINS_FORMAT, SOURCE
from mdtool.machine.yaml import composed, items, plain_data, position
from mdtool.records import dataclass, replace
from mdtool.text import pattern, quoted

#: what JSON can say in the pins, and no device can have: numbers without end, half characters, NUL
_NOT_PINS = pattern(
    rf"[:\[,]\s*-?(?:[0-9]{{{MAX_DIGITS + 1},}}|[0-9.]+[eE][+-]?[0-9]{{3,}}|NaN|Infinity)"
    r"|(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u)[dD][c-fC-F])"
)


@dataclass(frozen=True)
class Document:
    """A description as read: its tree, and what ``edit`` needs to change the text in place.

    ``root`` is the composed YAML node of the tree document, ``end`` the offset in ``text`` where that document ends.
    ``stray`` warns of pins whose node was renamed or removed by hand: they mean nothing, and the next write drops them.
    """

    tree: Tree
    file: str
    text: str
    root: Any
    end: int
    stray: tuple[Warn, ...] = ()


def document_from_file(path: str | Path) -> Document:
    """Read and check a description; raises InputError (or Errors, sorted) with file, line and column."""
    return document_from_text(text_from_file(path), str(path))


def tree_from_file(path: str | Path) -> Tree:
    return document_from_file(path).tree


def document_from_text(text: str, file: str) -> Document:
    check_kind(text, file)
    end = _end_of_tree_document(text)
    root = composed(text[:end], file)
    if root.id != "mapping":
        what, begins = "this is no machine description", "a file that begins with mdtool: machine/1"
        raise InputError(what, at=Position(file, 1), expected=begins, rule="file-kind")
    validate_machine(root, text[:end], file)
    tree = _tree(root, file)
    pins = _pins(text[end:], text[:end].count("\n"), file)
    stray = tuple(_stray(pins, tree, text, end, file))
    return Document(_with_pins(tree, pins), file, text, root, end, stray)


def is_xml(text: str) -> bool:
    """Whether a text means to be XML: behind a byte order mark and blanks its first character is ``<``."""
    return text.lstrip("\ufeff \t\r\n").startswith("<")


_DESCRIPTION = pattern(r"^mdtool:\s*['\"]?machine/", re.MULTILINE)


def is_description(text: str) -> bool:
    """Whether a text means to be a machine description, well-formed or not."""
    return _DESCRIPTION.search(text) is not None


#: beginning of a file of another kind -> what it is, and what to do with it
_OTHER_KINDS = (
    (r"[\ufeff\s]*<", "XML", "a description is made of it with mdtool reconcile {} GUEST.yaml"),
    (r"#!|(?:\S*/)?qemu-system-", "a script", "a description is made of it with mdtool dump {}, or with mdtool import"),
    (r"\s*\{\s*\"mdtool\":\s*\"plan/", "a saved plan", "carry it out with mdtool apply {} --source SOURCE"),
    (r"\s*\{\s*\"mdtool\":\s*\"fingerprint/", "a fingerprint", "compare it with mdtool fingerprint SOURCE --against {}"),
    (
        r"\s*\{\s*\"mdtool\":\s*\"hints/",
        "a file of hints",
        "apply them with mdtool hints apply GUEST.xml {}",
    ),
)


def kind_in_words(text: str) -> str | None:
    """What a text is that is no XML: ``a machine description``, ``a script``, ...; None where nobody can say."""
    if not text.strip():
        return "an empty file"
    other = (what for begins, what, _ in _OTHER_KINDS[1:] if re.match(begins, text))
    return "a machine description" if is_description(text) else next(other, None)


def check_kind(text: str, file: str) -> None:
    """Raise InputError where the text is another kind of file: its parser's words would explain nothing."""
    for begins, what, remedy in _OTHER_KINDS:
        if re.match(begins, text):
            what, remedy = f"this is {what}, and no machine description", remedy.format(file)
            raise InputError(what, at=Position(file, 1), remedy=remedy, rule="file-kind")


def _end_of_tree_document(text: str) -> int:
    """The offset of the ``---`` line that starts the pins document; the length of the text where there is none."""
    for match in re.finditer(r"^---(?=\s|$)", text, re.MULTILINE):
        if text[: match.start()].strip() and not all(
            line.startswith(("#", "%")) or not line.strip() for line in text[: match.start()].splitlines()
        ):
            return match.start()
    return len(text)


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


def _pins(text: str, lines_before: int, file: str) -> dict[str, Any]:
    if not text:
        return {}
    body = text[3:]  # the '---'
    if bad := _NOT_PINS.search(body):
        before = body[: bad.start()]
        where = Position(file, lines_before + 1 + before.count("\n"), len(before) - before.rfind("\n"))
        raise InputError(f"{quoted(bad[0].lstrip(':[, '))} is no value", at=where, rule="limit-number")
    try:
        pins = json.loads(body)
    except RecursionError:
        raise InputError("pins are nested too deep", at=Position(file, lines_before + 1), rule="limit-depth") from None
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        where = Position(file, lines_before + line, column + (3 if line == 1 else 0))
        remedy = "restore it from git, or dump the machine again; pins are changed under 'properties' in the tree"
        what = f"the pins document is not JSON: {getattr(error, 'msg', error)}"
        raise InputError(what, at=where, remedy=remedy, rule="pins-syntax") from None
    if not isinstance(pins, dict) or pins.pop("mdtool", None) != PINS_FORMAT:
        where = Position(file, lines_before + 1)
        raise InputError("the second document is no pins document", at=where, expected=f'"mdtool": "{PINS_FORMAT}"')
    validate_pins({"mdtool": PINS_FORMAT, **pins}, body, file, lines_before + 1)
    return pins


def _stray(pins: Mapping[str, Any], tree: Tree, text: str, end: int, file: str) -> Iterator[Warn]:
    """A warning for each node that the pins document names and the tree does not have, at its line there."""
    bags = [bag for key in BAGS if isinstance(bag := pins.get(key), Mapping)]
    nodes = [name for name in pins if not name.startswith("mdtool:")]
    named = dict.fromkeys([*nodes, *(name for bag in bags for name in bag)])
    for name in named:
        if name in tree.by_name or name.startswith("@"):
            continue
        at = text.find(f"{json.dumps(name)}:", end)
        at = at if at >= 0 else text.find(f"{json.dumps(name, ensure_ascii=False)}:", end)
        before = text[: max(at, end)]
        where = Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        what = f"pins for '{name}', which is not in the tree; the next write drops them"
        yield Warn(what, at=where, remedy="nothing need be done where the node was renamed or removed", rule="pins-node")


def _with_pins(tree: Tree, pins: dict[str, Any]) -> Tree:
    bags = {bag: pins.pop(key, {}) for key, bag in BAGS.items()}
    applied = bags["applied"]
    tree = replace(tree, source=tuple(pins.pop(SOURCE, ())), machine_pins=pins.pop(MACHINE_PINS, {}))
    tree = replace(tree, applied={key: applied.pop(key) for key in list(applied) if key.startswith("@")})
    bags["pins"] = pins
    if not any(bags.values()):
        return tree
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
