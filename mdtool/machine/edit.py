"""Change a description in place: every byte that need not change stays.

People comment, order and quote their descriptions; a rewrite that loses that would not survive its first review.  So the
text is edited by spans: libyaml says where each value starts and ends, and only the lines of what was added, removed or
modified are touched.  The pins document belongs to the machine and is rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mdtool.machine import writer, yaml
from mdtool.machine.document import Document, document_from_text
from mdtool.machine.pci import pci_facts
from mdtool.machine.sizes import in_units
from mdtool.machine.tree import SECTIONS, Bus, Node, Tree, node_name
from mdtool.machine.writer import by_address, data_from_bus, data_from_node, data_from_retired
from mdtool.records import dataclass, field

GONE: Any = object()  # None is a value, YAML's null

_BOM = "\ufeff"


def rewritten(old: Document, tree: Tree) -> str:
    """The text of ``old`` changed so that it says ``tree``; the same text where it says so already.

    A byte order mark and the line ends of other systems stay, though libyaml's offsets do not count the one.
    """
    plain = old.text.removeprefix(_BOM).replace("\r\n", "\n")
    if plain != old.text:
        text = rewritten(document_from_text(plain, old.file), tree)
        if text == plain:
            return old.text
        return _BOM * old.text.startswith(_BOM) + (text.replace("\n", "\r\n") if "\r\n" in old.text else text)
    if tree == old.tree and not old.stray:
        return old.text
    new = writer.canonical(tree)
    text = old.text[: old.end]
    if new != old.tree:
        editor = _Editor(old)
        editor.tree(old.root, old.tree, new)
        text = editor.result()
    is_stale = old.stray or any(place.node.pci and not pci_facts(place.node) for place in old.tree.places)
    if is_stale or _pinned(new) != _pinned(old.tree):
        return text + _with_comments(writer.pins_text(new), old.text[old.end :])
    return text + old.text[old.end :]


def _with_comments(pins: str, old: str) -> str:
    """A pins document with the comment lines of the old one: those before its data in front, the others at its end."""
    first, _, rest = old.partition("\n")
    before, _, after = rest.partition("{")
    above, below = (
        "".join(f"{line}\n" for line in part.splitlines() if line.lstrip().startswith("#")) for part in (before, after)
    )
    line = first if first and "{" not in first else "---"
    return f"{line}\n{above}{pins[4:]}{below}" if pins else above + below


def _pinned(tree: Tree) -> tuple[Any, Any]:
    """What the pins document says: the pins, and of which driver each device is."""
    return writer.pins_from_tree(tree), {name: place.node.driver for name, place in tree.by_name.items() if place.node.pins}


@dataclass
class _Editor:
    old: Document
    edits: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.old.text

    def result(self) -> str:
        """The tree document with the edits applied, from the end, so that offsets stay right.

        Of what is added at one place the deepest comes first: it is a part of what stands above.
        """
        text = self.text[: self.old.end]
        order = sorted(enumerate(self.edits), key=lambda row: (*row[1][:2], -_depth(row[1][2]), row[0]), reverse=True)
        for _, (start, end, new) in order:
            text = text[:start] + new + text[end:]
        return text

    # --- the tree, top down ---

    def tree(self, root: Any, old: Tree, new: Tree) -> None:
        top = _Map(self, root)
        for name in SECTIONS:
            before, after = getattr(old, name), getattr(new, name)
            if before != after:
                self.section(top, name, in_units(name, before), in_units(name, after))
        self.buses(top, "buses", {b.name: b for b in old.buses}, {b.name: b for b in new.buses})
        self.devices(top, None, old.devices, new.devices)
        if old.retired != new.retired:
            top.set("retired", [data_from_retired(r) for r in new.retired] or GONE)

    def section(self, top: _Map, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        value = top.get(name)
        if value is None or not after:
            top.set(name, dict(after) or GONE, before_keys=("buses",))
        else:
            self.mapping(value, before, after)

    def mapping(self, value: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Plain data: only the keys whose values changed."""
        here = _Map(self, value)
        for key, item in _known_first(after, before):
            if key not in before:
                here.set(key, item)
            elif isinstance(item, Mapping) and isinstance(before[key], Mapping) and item and before[key]:
                self.mapping(here.get(key), before[key], item)
            elif before[key] != item or type(before[key]) is not type(item):
                here.set(key, item)
        for key in before:
            if key not in after:
                here.set(key, GONE)
        here.done()

    def buses(self, holder: _Map, key: str, before: Mapping[str, Bus], after: Mapping[str, Bus]) -> None:
        value = holder.get(key)
        if before.keys() - after.keys() or value is None or value.flow_style or not before:
            if before != after:  # a bus came or went together with what provides it
                holder.set(key, {name: data_from_bus(bus) for name, bus in after.items()} or GONE)
            return
        here = _Map(self, value)
        for name, bus in _known_first(after, before):
            if name not in before:
                here.set(name, data_from_bus(bus))
            elif before[name] != bus:
                inside = _Map(self, here.get(name))
                if inside.flow:
                    here.set(name, data_from_bus(bus))
                else:
                    for key in ("type", "host"):
                        was, now = getattr(before[name], key), getattr(bus, key)
                        if was != now:
                            inside.set(key, GONE if now is None else now, before_keys=("devices",))
                    self.devices(inside, bus, before[name].devices, bus.devices)
                    inside.done()
        here.done()

    def devices(self, holder: _Map, bus: Bus | None, before: tuple[Node, ...], after: tuple[Node, ...]) -> None:
        """The list of devices of one bus: survivors are edited, the rest comes and goes at its place by address."""
        if before == after:
            return
        sequence = holder.get("devices")
        if sequence is None or sequence.flow_style or not before or not after:
            holder.set("devices", [data_from_node(node) for node in after] or GONE)
            return
        old = {node_name(node, bus): (node, item) for node, item in zip(before, sequence.value, strict=True)}
        new = {node_name(node, bus): node for node in after}
        indent = _column(self.text, _dash(self.text, sequence.value[0].start_mark.index))
        for name, (_node, item) in old.items():
            if name not in new:
                self.edits.append((*self.lines_of_item(item), ""))
        survivors = [(node, item) for name, (node, item) in old.items() if name in new]
        for name, node in new.items():
            if name in old:
                if old[name][0] != node:
                    self.node(old[name][1], old[name][0], node)
                continue
            text = "".join(line + "\n" for line in writer.device_lines(data_from_node(node), indent))
            follower = next((item for other, item in survivors if by_address(other) > by_address(node)), None)
            if follower is not None:
                offset = self.lines_of_item(follower)[0]
            elif survivors:
                offset = self.end_of_lines(survivors[-1][1])
            else:  # nothing that was here stays: where the list was
                offset = self.lines_of_item(sequence.value[0])[0]
            self.edits.append((offset, offset, text))

    def node(self, item: Any, before: Node, after: Node) -> None:
        here = _Map(self, item)
        if here.flow and (before.buses != after.buses or len(writer.flow(data_from_node(after))) > writer.WIDTH):
            indent = _column(self.text, _dash(self.text, item.start_mark.index))
            lines = writer.device_lines(data_from_node(after), indent)
            self.edits.append((item.start_mark.index, item.end_mark.index, "\n".join(lines)[indent + 2 :]))
            return
        for key, value in data_from_node(after).items():
            if key not in ("properties", "buses") and value != getattr(before, key):
                here.set(key, value, before_keys=("properties", "buses"))
        for key in ("id", "address", "origin"):
            if getattr(before, key) is not None and getattr(after, key) is None:
                here.set(key, GONE)
        if before.properties != after.properties:
            self.properties(here, before, after)
        if before.buses != after.buses:
            self.buses(here, "buses", {b.name: b for b in before.buses}, {b.name: b for b in after.buses})
        here.done()

    def properties(self, here: _Map, before: Node, after: Node) -> None:
        value = here.get("properties")
        if value is None or not after.properties or not before.properties:
            here.set("properties", dict(sorted(after.properties.items())) or GONE, before_keys=("buses",))
        else:
            self.mapping(value, before.properties, after.properties)

    # --- places in the text ---

    def end_of_lines(self, node: Any) -> int:
        """Behind the line (with its comment) on which a node's own text ends."""
        end = self.text.find("\n", _end(node))
        return len(self.text) if end < 0 else end + 1

    def lines_of_item(self, item: Any) -> tuple[int, int]:
        """The lines of one list item, with the comment block that stands directly above it."""
        start = _line_start(self.text, _dash(self.text, item.start_mark.index))
        indent = _column(self.text, _dash(self.text, item.start_mark.index))
        while start > 0:
            above = _line_start(self.text, start - 1)
            if not re.match(rf" {{{indent}}}#", self.text[above:start]):
                break
            start = above
        return start, self.end_of_lines(item)


@dataclass
class _Map:
    """One YAML mapping being edited, in block or in flow style."""

    editor: _Editor
    node: Any
    added: list[tuple[str, Any]] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    @property
    def flow(self) -> bool:
        return bool(self.node.flow_style)

    def get(self, key: str) -> Any:
        """The composed value of a key, None where absent."""
        return next((value for name, _, value in yaml.items(self.node) if name == key), None)

    def set(self, key: str, value: Any, before_keys: tuple[str, ...] = ()) -> None:
        """Give ``key`` a value; GONE takes it away.  A new key goes before the first of ``before_keys`` there is."""
        old = self.get(key)
        if self.flow:
            if value is GONE:
                self.dropped.add(key)
            elif old is None:
                self.added.append((key, value))
            else:
                self.editor.edits.append((old.start_mark.index, _end(old), writer.flow(value)))
            return
        text = self.editor.text
        if old is None:
            if value is not GONE:
                self._insert(writer.entry(key, value, self._indent()), before_keys)
            return
        key_node = next(k for name, k, _ in yaml.items(self.node) if name == key)
        if value is not GONE and not isinstance(value, (Mapping, list)) and yaml.kind(old) == "scalar":
            self.editor.edits.append((old.start_mark.index, old.end_mark.index, writer.scalar(value)))
            return
        lines = writer.entry(key, value, self._indent()) if value is not GONE else []
        start, end = key_node.start_mark.index, self.editor.end_of_lines(old)
        if lines:
            self.editor.edits.append((start, end, "\n".join(lines).lstrip(" ") + "\n"))
        else:
            self.editor.edits.append((_line_start(text, start), end, ""))

    def done(self) -> None:
        """Write what was added to and dropped from a flow mapping."""
        if not self.added and not self.dropped:
            return
        text = self.editor.text
        kept = [(k, v) for name, k, v in yaml.items(self.node) if name not in self.dropped]
        new = [f"{writer.scalar(key, in_flow=True)}: {writer.flow(value)}" for key, value in self.added]
        self.added.clear()
        if self.dropped:
            # Write the rest again from their own spans; edits inside them are overtaken by their new text.
            spans = [(k.start_mark.index, _end(v)) for k, v in kept]
            parts = [self.editor_text(*span) for span in spans]
            start, end = self.node.start_mark.index, self.node.end_mark.index
            self.editor.edits = [e for e in self.editor.edits if not (start <= e[0] and e[1] <= end)]
            self.editor.edits.append((start, end, "{" + ", ".join(parts + new) + "}"))
            self.dropped.clear()
            return
        if kept:
            at = _end(kept[-1][1])
            self.editor.edits.append((at, at, "".join(f", {item}" for item in new)))
        else:
            at = text.index("{", self.node.start_mark.index) + 1
            self.editor.edits.append((at, at, ", ".join(new)))

    def editor_text(self, start: int, end: int) -> str:
        """A span of the text with the edits made inside it so far."""
        text = self.editor.text[start:end]
        for s, e, new in sorted(self.editor.edits, reverse=True):
            if start <= s and e <= end:
                text = text[: s - start] + new + text[e - start :]
        return text

    def _indent(self) -> int:
        return int(self.node.start_mark.column)

    def _insert(self, lines: list[str], before_keys: tuple[str, ...]) -> None:
        text = self.editor.text
        entries = list(yaml.items(self.node))
        follower = next((k for name, k, _ in entries if name in before_keys), None)
        first = entries[0][1]
        if follower is not None and follower is not first:
            at = _line_start(text, follower.start_mark.index)
        else:
            at = self.editor.end_of_lines(entries[-1][2])
        missing_newline = "" if at == 0 or text[at - 1] == "\n" else "\n"
        self.editor.edits.append((at, at, missing_newline + "\n".join(lines) + "\n"))


def _known_first(after: Mapping[str, Any], before: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """What is new comes last: it goes behind what is added to the last of those that were there."""
    return sorted(after.items(), key=lambda item: item[0] not in before)


def _end(node: Any) -> int:
    """Where a node's own text ends: libyaml's end mark of a block collection lies behind the comments that follow it."""
    if yaml.kind(node) == "scalar" or node.flow_style:
        return int(node.end_mark.index)
    if not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if yaml.kind(node) == "mapping" else last)


def _depth(added: str) -> int:
    """By how many columns the first line is indented."""
    line = added.lstrip("\n")
    return len(line) - len(line.lstrip(" "))


def _line_start(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1


def _column(text: str, offset: int) -> int:
    return offset - _line_start(text, offset)


def _dash(text: str, offset: int) -> int:
    """Where the ``-`` of a list item is whose value starts at ``offset``."""
    return text.rindex("-", 0, offset)
