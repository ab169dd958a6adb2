"""Writing properties into a description: the tree, and the text with a comment at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mdtool.errors import InputError
from mdtool.machine.document import Document, document_from_text
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Bus, Node, Properties, Tree, node_name
from mdtool.records import replace


def with_properties(tree: Tree, name: str, properties: Properties) -> Tree:
    """``tree`` with ``properties`` set at the node called ``name``; InputError where it has no such node."""
    return _edited(tree, name, lambda node: replace(node, properties={**node.properties, **properties}))


def without_property(tree: Tree, name: str, property: str) -> Tree:
    """``tree`` with nothing said of ``property`` at the node called ``name``."""

    def drop(node: Node) -> Node:
        return replace(node, properties={key: value for key, value in node.properties.items() if key != property})

    return _edited(tree, name, drop)


def _edited(tree: Tree, name: str, edit: Callable[[Node], Node]) -> Tree:
    if name not in tree.by_name:
        raise InputError(f"the description has no node {name}")

    def changed(node: Node, bus: Bus | None) -> Node:
        if node_name(node, bus) == name:
            node = edit(node)
        return replace(node, buses=tuple(below(inner) for inner in node.buses))

    def below(bus: Bus) -> Bus:
        return replace(bus, devices=tuple(changed(node, bus) for node in bus.devices))

    buses = tuple(below(bus) for bus in tree.buses)
    return replace(tree, buses=buses, devices=tuple(changed(node, None) for node in tree.devices))


def commented(document: Document, tree: Tree, comments: Iterable[tuple[str, str, str]]) -> str:
    """The text of ``document`` changed to say ``tree``, with a comment at each (node name or section, key, comment).

    The comment stands at the end of the line that says the key; a line that has one keeps its own.
    """
    text = rewritten(document, tree)
    for where, key, comment in comments:
        text = _with_comment(text, document.file, where, key, comment)
    return text


def _with_comment(text: str, file: str, where: str, key: str, comment: str) -> str:
    lines = text.split("\n")
    place = document_from_text(text, file).tree.by_name.get(where)
    first = place.node.position.line - 1 if place is not None and place.node.position is not None else 0
    spelled = (f"{key}:", f"'{key}':", f'"{key}":')
    for at in range(first, len(lines)):
        if any(word in lines[at] for word in spelled):
            if "  # " not in lines[at]:
                lines[at] += f"  # {comment}"
            break
    return "\n".join(lines)
