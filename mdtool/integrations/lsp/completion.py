"""What fits at a cursor of a description or of guest XML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mdtool.guest.elements import ROWS
from mdtool.guest.spelling import values_at
from mdtool.integrations.lsp.analysis import SourcePair
from mdtool.integrations.lsp.cursor import ITEM, Cursor
from mdtool.machine import facts
from mdtool.machine.buses.kinds import KNOWN_BUSES, homes
from mdtool.machine.roles import role
from mdtool.machine.schema import machine_schema
from mdtool.machine.tree import Bus, Tree
from mdtool.machine.values import natural, plain
from mdtool.machine.writer import scalar
from mdtool.qemu.introspect import Driver
from mdtool.records import dataclass
from mdtool.review.free import free_addresses
from mdtool.text import pattern

MOST = 200  # items of one list


@dataclass(frozen=True, slots=True)
class Completion:
    """One thing to insert: ``detail`` beside it in the list, ``documentation`` below."""

    label: str
    insert: str
    kind: str  # key, value, driver, address, property, bus
    detail: str = ""
    documentation: str = ""


def completions(pair: SourcePair, tree: Tree | None, cursor: Cursor) -> list[Completion]:
    """What can stand at the cursor; ``tree`` is the last one that could be read, since a text being typed often cannot."""
    found = list(_items(pair, tree or Tree(), cursor))
    found = [item for item in found if cursor.word.lower() in item.label.lower()]
    return found[:MOST]


def _items(pair: SourcePair, tree: Tree, cursor: Cursor) -> Iterator[Completion]:
    if cursor.inside == "properties":
        yield from _properties(pair, tree, cursor)
    elif cursor.inside == "" and cursor.key == "driver":
        yield from _drivers(pair, tree, cursor)
    elif cursor.inside == "" and cursor.key == "address":
        for address in free_addresses(tree, cursor.bus or "", (cursor.node or {}).get("driver", "")):
            yield Completion(address, scalar(address), "address", f"free on {cursor.bus}")
    elif cursor.key == "bus":
        yield from _buses(tree)
    else:
        yield from _from_schema(cursor)


def _drivers(pair: SourcePair, tree: Tree, cursor: Cursor) -> Iterator[Completion]:
    bus = tree.all_buses.get(cursor.bus or "")
    known = pair.knowledge.drivers.values() if pair.knowledge is not None else ()
    for driver in sorted(known, key=lambda one: natural(one.name)):
        if driver.creatable and _fits(driver, bus):
            yield Completion(driver.name, driver.name, "driver", driver.bus or "", driver.description or "")


def _fits(driver: Driver, bus: Bus | None) -> bool:
    if bus is None:
        return True
    kinds = facts.buses_for(driver.bus) if driver.bus else homes(driver.name)
    return bus.type in kinds if kinds else bus.type not in KNOWN_BUSES


def _properties(pair: SourcePair, tree: Tree, cursor: Cursor) -> Iterator[Completion]:
    name = (cursor.node or {}).get("driver", "")
    driver = pair.knowledge.driver(name) if pair.knowledge is not None else None
    known = driver.properties if driver is not None and driver.properties is not None else {}
    if cursor.key is not None:
        if cursor.key == "masterbus":
            yield from _buses(tree, "usb-bus")
        elif (one := known.get(cursor.key)) is not None:
            for word in ["true", "false"] if one.type == "bool" else facts.words_of(one):
                yield Completion(word, word if one.type == "bool" else scalar(word), "value", one.type)
        return
    given = cursor.fields[-1]
    for name, one in sorted(known.items(), key=lambda row: natural(row[0])):
        if name not in given and role(driver.name if driver else "", name) != "host":
            default = "" if one.default is None else f", default {plain(one.default)}"
            yield Completion(name, f"{name}: ", "property", f"{one.type}{default}", one.description or "")


def _buses(tree: Tree, type_: str | None = None) -> Iterator[Completion]:
    for bus in sorted(tree.all_buses.values(), key=lambda bus: natural(bus.name)):
        if type_ in (None, bus.type):
            yield Completion(bus.name, scalar(bus.name), "bus", bus.type)


def _from_schema(cursor: Cursor) -> Iterator[Completion]:
    """Keys that the schema knows at a path, or the words of an enumeration."""
    schema = schema_at(cursor.path)
    if cursor.key is None:
        for key, one in schema.get("properties", {}).items():
            if key not in cursor.fields[-1]:
                yield Completion(key, f"{key}: ", "key", str(one.get("type", "")), _resolved(one).get("description", ""))
        return
    one = _resolved(schema.get("properties", {}).get(cursor.key, {}))
    words = one.get("enum", [one["const"]] if "const" in one else ["true", "false"] if one.get("type") == "boolean" else [])
    for word in words:
        yield Completion(str(word), str(word), "value", "", one.get("description", ""))


def schema_at(path: tuple[str, ...]) -> Mapping[str, Any]:
    schema: Any = machine_schema()
    for step in path:
        below = schema.get("items") if step == ITEM else schema.get("properties", {}).get(step)
        schema = _resolved(below if below is not None else schema.get("additionalProperties", {}))
        if not isinstance(schema, Mapping):
            return {}
    return schema if isinstance(schema, Mapping) else {}


def _resolved(schema: Any) -> Any:
    while isinstance(schema, Mapping) and "$ref" in schema:
        schema = machine_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


# --- guest XML -------------------------------------------------------------------------------------------------------

_IN_VALUE = pattern(
    r"<(?P<tag>[\w-]+)(?:\s+[\w:-]+\s*=\s*(?:'[^']*'|\"[^\"]*\"))*\s+(?P<name>[\w:-]+)\s*=\s*['\"](?P<word>[^'\"]*)$"
)
_OPEN = pattern(r"<(/?)([\w:.-]+)(?:\s[^<>]*?)?(/?)>")


def xml_completions(pair: SourcePair, text: str, offset: int) -> list[Completion]:
    """What may stand inside of an attribute's quotes: models of a device, free addresses, libvirt's values."""
    before = text[:offset]
    found = _IN_VALUE.search(before[before.rfind("<") :]) if "<" in before else None
    if found is None:
        return []
    open_tags: list[str] = []
    for end, tag, empty in _OPEN.findall(before[: before.rfind("<")]):
        if end and open_tags and open_tags[-1] == tag:
            open_tags.pop()
        elif not end and not empty:
            open_tags.append(tag)
    words: Iterable[str] = ()
    if found["tag"] == "address" and found["name"] == "slot" and pair.tree is not None:
        root = "pcie.0" if "pcie.0" in pair.tree.all_buses else "pci.0"
        words = [f"0x{address[:2]}" for address in free_addresses(pair.tree, root, "")]
    else:
        words = sorted(models(open_tags[-1] if open_tags else "", found["tag"], found["name"]))
        words = words or values_at([*open_tags[1:], found["tag"]], found["name"])
    return [Completion(word, word, "value") for word in words if found["word"].lower() in word.lower()][:MOST]


def models(parent: str, tag: str, attribute: str) -> Iterator[str]:
    """The words of the attribute that chooses the driver of a device element, where this is it."""
    for element, path in ((tag, f"@{attribute}"), (parent, f"{tag}/@{attribute}")):
        row = ROWS.get(element)
        if row is not None and row.choose == path and isinstance(row.drivers, Mapping):
            yield from (name for name in row.drivers if name)
