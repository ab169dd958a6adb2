"""What a device, a property or a section is, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.integrations.lsp.analysis import SourcePair
from mdtool.integrations.lsp.completion import schema_at
from mdtool.integrations.lsp.cursor import Cursor
from mdtool.machine import facts
from mdtool.machine.pci import pci_facts
from mdtool.machine.tree import Place, Tree
from mdtool.machine.values import plain
from mdtool.review.diff import diff


def hover(pair: SourcePair, saved: Tree | None, cursor: Cursor, line: int) -> str | None:
    """What is under the cursor; ``saved`` is the tree of the file on disk, ``line`` counts from 1.  None for nothing."""
    place = pair.place_at(line) if cursor.inside is not None else None
    if place is None:
        schema = schema_at(cursor.path)
        known = schema.get("properties", {}).get(cursor.key, schema) if cursor.key else schema
        text = known.get("description")
        return str(text) if text else None
    lines = _property(pair, place, cursor.key) if cursor.inside == "properties" and cursor.key else _node(pair, place)
    changes = _changes(pair, saved, place)
    return "\n\n".join([*lines, *changes])


def _node(pair: SourcePair, place: Place) -> Iterator[str]:
    node = place.node
    driver = pair.knowledge.driver(node.driver) if pair.knowledge is not None else None
    yield f"**{place.name}**: `{node.driver}`" + (f", {driver.description}" if driver and driver.description else "")
    known = pci_facts(node)
    if known:
        sub = f", subsystem `{known['sub']}`" if "sub" in known else ""
        yield f"PCI {known['class']}, id `{known['id']}`{sub}"
    kind = facts.kind_of(node.driver)
    called = pair.called.get(place.name)
    if called:
        yield f"A Linux guest calls it `{called}`"
    elif kind != "other":
        yield kind
    wanted = pair.elements.get(node.origin or "")
    if wanted is not None and wanted.element is not None and pair.xml is not None:
        first, last = wanted.element.span
        text = pair.xml.text.encode(errors="surrogatepass")[first:last].decode(errors="replace")
        yield f"```xml\n{text}\n```"
    elif node.origin:
        yield f"origin: {node.origin}"


def _property(pair: SourcePair, place: Place, name: str) -> Iterator[str]:
    driver = pair.knowledge.driver(place.node.driver) if pair.knowledge is not None else None
    known = (driver.properties or {}).get(name) if driver is not None else None
    yield f"**{name}** of {place.name}" + (f": {known.type}" if known is not None else "")
    if known is not None and known.description:
        yield known.description
    if known is not None and known.default is not None:
        yield f"default: `{plain(known.default)}`"
    if name in place.node.pins:
        yield f"pinned: `{plain(place.node.pins[name])}`; the value here wins"
    if name in place.node.applied:
        yield f"the guest XML last set `{plain(place.node.applied[name])}`"


def _changes(pair: SourcePair, saved: Tree | None, place: Place) -> Iterator[str]:
    """What an existing guest would notice of the edit since the last save."""
    if saved is None or pair.tree is None:
        return
    found = [str(change) for change in diff(saved, pair.tree).changes if change.node == place.name]
    if found:
        yield "since the last save:\n```\n" + "\n".join(found) + "\n```"
