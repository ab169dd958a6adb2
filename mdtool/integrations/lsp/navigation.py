"""Definitions, references, renames, outline and folding of a description and its guest XML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from mdtool.errors import InputError, Position
from mdtool.integrations.lsp.analysis import SourcePair
from mdtool.machine.tree import Bus, Node, Place
from mdtool.machine.values import plain
from mdtool.records import NamedTuple, dataclass
from mdtool.text import pattern

_ID = pattern(r"[A-Za-z][A-Za-z0-9_.-]*")


class Span(NamedTuple):
    """``length`` characters from a position."""

    at: Position
    length: int


class Edit(NamedTuple):
    """A span that becomes ``text``."""

    span: Span
    text: str


@dataclass(frozen=True)
class Symbol:
    """A part of the outline: a bus with its devices, a device with its buses, a section; lines count from 1."""

    name: str
    detail: str
    kind: str  # section, bus, device
    first: int
    last: int
    children: tuple[Symbol, ...] = ()


# --- definitions and references --------------------------------------------------------------------------------------


def definition(pair: SourcePair, file: str, line: int, column: int) -> list[Span]:
    """From a node to its XML element; from the element to the node; from a bus or a pinned name to who it belongs to."""
    if pair.xml is not None and file == pair.xml.file:
        wanted = pair.element_at(line, column)
        place = pair.place_of(wanted.origin) if wanted is not None else None
        return [_node(place)] if place is not None else []
    if pair.tree is None or pair.description is None:
        return []
    word = word_at(pair.description.text, line, column)
    in_pins = pair.document is not None and line > pair.document.text[: pair.document.end].count("\n")
    named = pair.tree.by_name.get(word)
    here = pair.place_at(line)
    if named is not None and (in_pins or here is not named):
        return [_node(named)]
    provider = next((p for p in pair.tree.places for bus in p.node.buses if bus.name == word), None)
    if provider is not None and provider is not here:
        return [_node(provider)]
    wanted = pair.elements.get(here.node.origin or "") if here is not None and not in_pins else None
    return [Span(wanted.position, len(wanted.kind) + 1)] if wanted is not None and wanted.position else []


def references(pair: SourcePair, file: str, line: int, column: int) -> list[Span]:
    """The node, its line in the pins, its XML element, and all that name its id or one of its buses."""
    if pair.xml is not None and file == pair.xml.file:
        wanted = pair.element_at(line, column)
        place = pair.place_of(wanted.origin) if wanted is not None else None
    else:
        place = pair.place_at(line)
    if place is None:
        return []
    found = [edit.span for edit in _mentions(pair, place, place.name)]
    wanted = pair.elements.get(place.node.origin or "")
    if wanted is not None and wanted.position is not None:
        found.append(Span(wanted.position, len(wanted.kind) + 1))
    return found or [_node(place)]


def _node(place: Place) -> Span:
    assert place.node.position is not None
    return Span(place.node.position, len(place.node.id or place.node.driver))


def word_at(text: str, line: int, column: int) -> str:
    """The id-like word around a position from 1."""
    row = text.split("\n")[line - 1]
    return next((m[0] for m in re.finditer(r"[\w.@/:-]+", row) if m.start() < column <= m.end() + 1), "").strip(":")


# --- renaming --------------------------------------------------------------------------------------------------------


def renamed(pair: SourcePair, line: int, name: str) -> list[Edit]:
    """The edits that give the node on ``line`` another id, in the tree, the pins and all that name it.

    Raises InputError if QEMU refuses the name, where another node has it, or where the node has no id.
    """
    place = pair.place_at(line)
    if place is None or pair.tree is None or place.node.id is None:
        raise InputError("there is no id here to rename")
    if not _ID.fullmatch(name):
        raise InputError(f"'{name}' is not a valid id", expected="a letter, then letters, digits, '_', '.' and '-'")
    if name in pair.tree.by_name and name != place.name:
        raise InputError(f"the id {name} is taken")
    return list(_mentions(pair, place, name))


def _mentions(pair: SourcePair, place: Place, name: str) -> Iterator[Edit]:
    """Where a node's id stands, as the edits that would replace it by ``name``."""
    assert pair.document is not None and pair.tree is not None
    old = place.node.id
    if old is None:
        yield Edit(_node(place), name)
        return
    at = pair.where.get((place.name, "id"))
    if at is not None:
        yield _scalar(pair.document.text, at, old, name)
    buses = {bus.name: name + bus.name.removeprefix(old) for bus in place.node.buses if bus.name.startswith(old)}
    for bus, other in buses.items():
        where = pair.where.get((bus, "bus"))
        if where is not None:
            yield _scalar(pair.document.text, where, bus, other)
    for one in pair.tree.places:
        for key, value in one.node.properties.items():
            where = pair.where.get((one.name, f"properties.{key}"))
            if where is not None and str(plain(value)) in (old, *buses):
                yield _scalar(pair.document.text, where, str(value), buses.get(str(value), name))
    for number, retired in enumerate(pair.tree.retired):
        where = pair.where.get(("retired", str(number)))
        if where is not None and retired.bus in buses:
            row = pair.document.text.split("\n")[where.line - 1]
            column = row.find(retired.bus, where.column - 1)
            if column >= 0:
                yield Edit(Span(where._replace(column=column + 1), len(retired.bus)), buses[retired.bus])
    yield from _in_pins(pair, old, name)


def _scalar(text: str, at: Position, old: str, new: str) -> Edit:
    """A plain or quoted scalar; the quotes stay."""
    row = text.split("\n")[at.line - 1]
    quoted = row[at.column - 1 : at.column] in ("'", '"')
    return Edit(Span(at._replace(column=at.column + quoted), len(old)), new)


def _in_pins(pair: SourcePair, old: str, new: str) -> Iterator[Edit]:
    assert pair.document is not None
    text, end = pair.document.text, pair.document.end
    for found in re.finditer(rf"(?<=[{{,\s]){re.escape(json.dumps(old))}(?=: )", text[end:]):
        before = text[: end + found.start()]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        yield Edit(Span(Position(pair.document.file, line, column + 1), len(old)), new)


# --- outline ---------------------------------------------------------------------------------------------------------


def outline(pair: SourcePair) -> list[Symbol]:
    """Sections, then buses with their devices; the pins as one symbol."""
    document, tree = pair.document, pair.tree
    if document is None or tree is None:
        return []
    last = document.text[: document.end].count("\n")
    found = [(key_node.start_mark.line + 1, str(key_node.value), value) for key_node, value in document.root.value]
    ends = _ends([start for start, _, _ in found], last)
    symbols: list[Symbol] = []
    for (start, name, _), end in zip(found, ends, strict=True):
        children = tuple(_buses(pair, tree.buses, end)) if name == "buses" else ()
        if name == "devices":
            children = tuple(_devices(pair, tree.devices, end))
        symbols.append(Symbol(name, "", "section", start, max(start, end), children))
    if document.text[document.end :].strip():
        symbols.append(Symbol("pins", "", "section", last + 1, document.text.rstrip("\n").count("\n") + 1))
    return symbols


def _ends(starts: Sequence[int], last: int) -> list[int]:
    """The last line of each of some parts that follow each other."""
    return [*(start - 1 for start in starts[1:]), last][: len(starts)]


def _buses(pair: SourcePair, buses: tuple[Bus, ...], end: int) -> Iterator[Symbol]:
    starts = [at.line if (at := pair.where.get((bus.name, "bus"))) is not None else end for bus in buses]
    for bus, start, last in zip(buses, starts, _ends(starts, end), strict=True):
        yield Symbol(bus.name, bus.type, "bus", start, max(start, last), tuple(_devices(pair, bus.devices, last)))


def _devices(pair: SourcePair, devices: tuple[Node, ...], end: int) -> Iterator[Symbol]:
    starts = [node.position.line if node.position is not None else end for node in devices]
    for node, start, last in zip(devices, starts, _ends(starts, end), strict=True):
        detail = " ".join(part for part in (node.driver if node.id else "", node.address or "") if part)
        inner = tuple(_buses(pair, node.buses, last))
        yield Symbol(node.id or node.driver, detail, "device", start, max(start, last), inner)


def foldings(symbols: list[Symbol]) -> Iterator[tuple[int, int]]:
    """(first line, last line) from 1 of everything that has more than one line."""
    for symbol in symbols:
        if symbol.last > symbol.first:
            yield symbol.first, symbol.last
        yield from foldings(list(symbol.children))
