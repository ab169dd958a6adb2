"""What differs between two descriptions, by meaning: no formatting, no order of lines, no host side.

Nodes are matched by id, then by the XML element they stand for, then by place and driver.  What one side does not say
at all is not compared: pins, where one of them has none, and built-ins, where one of them has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mdtool.compare import (
    ADDRESS,
    EFFECTIVE,
    GUEST_VISIBLE,
    HOST,
    IDENTITY,
    PROPERTY,
    SECTION_SEVERITY,
    SEVERITIES,
    SEVERITY_OF,
    pci_differences,
)
from mdtool.machine.pci import pci_facts
from mdtool.machine.roles import role
from mdtool.machine.tree import BUILTIN, HAND, SECTIONS, Node, Place, Properties, Tree, Value
from mdtool.machine.values import natural, plain, same
from mdtool.machine.writer import address_key
from mdtool.text import one_line

ADDED, REMOVED, MOVED, REPLACED, RENAMED, CHANGED = "added", "removed", "moved", "replaced", "renamed", "changed"
SYMBOLS = {ADDED: "+", REMOVED: "-", MOVED: ">", REPLACED: "±", RENAMED: "=", CHANGED: "~"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    ``kind``      ``added``, ``removed``, ``moved``, ``replaced`` (another driver), ``renamed`` (another id), ``changed``
    ``node``      the node's name, the old one's where it has two; or a section's (``machine``)
    ``driver``    the new one's; "" for a section
    ``property``  for ``changed``: ``mac``, ``topology.cores``; "" otherwise
    ``old, new``  places, drivers, ids or values; None where that side has none
    """

    kind: str
    node: str
    driver: str
    property: str
    old: Value
    new: Value
    severity: str

    def __str__(self) -> str:
        head = f"{SYMBOLS[self.kind]} {self.node:<16}"
        if self.kind in (ADDED, REMOVED):
            place = self.new if self.kind == ADDED else self.old
            return one_line(f"{head} {self.driver} at {place} [{self.severity}]")
        what = f"{self.property}: " if self.kind == CHANGED else f"{self.kind}: "
        return one_line(f"{head} {what}{_said(self.old)} -> {_said(self.new)} [{self.severity}]")

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}


def _said(value: Value) -> str:
    return "nothing" if value is None else str(plain(value)) if not isinstance(value, str) else value or "''"


@dataclass(frozen=True, slots=True)
class Diff:
    """All of it, the worst first."""

    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def visible(self) -> list[Change]:
        """What a guest sees."""
        return [change for change in self.changes if change.severity in GUEST_VISIBLE]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.changes), self.summary()])

    def summary(self) -> str:
        """``1 added, 2 moved; a guest sees 3 of them``."""
        if not self.changes:
            return "no differences"
        counts = Counter(change.kind for change in self.changes)
        listed = ", ".join(f"{counts[kind]} {kind}" for kind in SYMBOLS if counts[kind])
        return f"{listed}; a guest sees {len(self.visible)} of them"


def diff(old: Tree, new: Tree, *, everything: bool = False) -> Diff:
    """Compare two machines; ``everything`` includes what no guest can see (the host's severity).

    >>> from mdtool.machine.tree import Bus
    >>> one = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="03.0"),)),))
    >>> two = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="04.0"),)),))
    >>> print(diff(one, two).changes[0])
    > net0             moved: pci.0 03.0 -> pci.0 04.0 [address]
    """
    pairs, gone, came = paired(old, new)
    partial = _is_partial(old) != _is_partial(new)
    gone, came = ([p for p in places if not (partial and p.node.origin == BUILTIN)] for places in (gone, came))
    buses = _renamed_buses(pairs)
    changes = [
        *(Change(REMOVED, p.name, p.node.driver, "", where(p), None, IDENTITY) for p in gone),
        *(Change(ADDED, p.name, p.node.driver, "", None, where(p), IDENTITY) for p in came),
    ]
    for before, after in pairs:
        changes += _node(before, after, buses)
    for section in SECTIONS:
        changes += _section(section, "", getattr(old, section), getattr(new, section), partial)
    if old.retired != new.retired:
        was, now = ([f"{r.bus} {r.address} for {r.origin}" for r in tree.retired] or None for tree in (old, new))
        changes.append(Change(CHANGED, "retired", "", "addresses", was, now, HOST))
    told = [change for change in changes if everything or change.severity != HOST]
    return Diff(tuple(sorted(told, key=lambda c: (SEVERITIES.index(c.severity), natural(c.node), c.kind, c.property))))


def where(place: Place) -> str:
    """``pci.1 00.0``; ``no bus`` for a device on none."""
    return " ".join(filter(None, (place.bus.name, place.node.address))) if place.bus is not None else "no bus"


def _is_partial(tree: Tree) -> bool:
    return not any(place.node.origin == BUILTIN for place in tree.places)


def paired(old: Tree, new: Tree) -> tuple[list[tuple[Place, Place]], list[Place], list[Place]]:
    """(pairs of the same device, what is gone, what came)."""
    left, right = dict(old.by_name), dict(new.by_name)
    pairs: list[tuple[Place, Place]] = []
    keys: tuple[Callable[[Place], Any], ...] = (
        lambda p: p.node.id,
        lambda p: p.node.origin if p.node.origin not in (BUILTIN, HAND) else None,
        lambda p: (p.address, p.node.driver) if p.address is not None else None,
        lambda p: (p.bus.name if p.bus else "", p.node.driver) if p.node.id is None else None,
        lambda p: p.node.driver if p.node.id is None else None,
    )
    for key in keys:
        there: dict[Any, list[str]] = {}
        for name, place in right.items():
            there.setdefault(key(place), []).append(name)
        for name, place in list(left.items()):
            value = key(place)
            if value is not None and (candidates := there.get(value)):
                pairs.append((left.pop(name), right.pop(candidates.pop(0))))
    return pairs, list(left.values()), list(right.values())


def _renamed_buses(pairs: Iterable[tuple[Place, Place]]) -> Mapping[str, str]:
    """Old name -> new name of the buses whose provider has another id now: what sits there did not move."""
    return {
        one.name: two.name
        for before, after in pairs
        for one, two in zip(before.node.buses, after.node.buses, strict=False)
        if one.name != two.name
    }


def _node(before: Place, after: Place, buses: Mapping[str, str]) -> Iterator[Change]:
    old, new, name, driver = before.node, after.node, before.name, after.node.driver
    if old.driver != new.driver:
        yield Change(REPLACED, name, driver, "", old.driver, new.driver, IDENTITY)
    if old.id != new.id:
        severity = PROPERTY if old.id and new.id else HOST
        yield Change(RENAMED, name, driver, "", old.id, new.id, severity)
    if _moved(before, after, buses):
        yield Change(MOVED, name, driver, "", where(before), where(after), ADDRESS)
    for prop, was, now in _properties(old, new):
        severity = HOST if role(driver, prop) == "host" else SEVERITY_OF.get(prop, PROPERTY)
        yield Change(CHANGED, name, driver, prop, was, now, severity)
    if facts := pci_facts(new):
        for seen in pci_differences(name, old, facts):
            yield Change(CHANGED, name, driver, seen.property, seen.want, seen.have, seen.severity)
    for prop, was in old.effective.items():
        now = new.effective.get(prop, was)
        if not same(was, now):
            yield Change(CHANGED, name, driver, prop, was, now, EFFECTIVE)


def _moved(before: Place, after: Place, buses: Mapping[str, str]) -> bool:
    old_bus, new_bus = (place.bus.name if place.bus else None for place in (before, after))
    if buses.get(old_bus or "", old_bus) != new_bus:
        return True
    old, new = before.node.address, after.node.address
    return old is not None and new is not None and address_key(old) != address_key(new)


def _properties(old: Node, new: Node) -> Iterator[tuple[str, Value, Value]]:
    """(name, old, new) of what differs: chosen on one side, or pinned on both."""
    one, two = {**old.pins, **old.properties}, {**new.pins, **new.properties}
    for name in {**one, **two}:
        chosen = name in old.properties or name in new.properties
        if not chosen and not (old.pins and new.pins):
            continue
        was, now = one.get(name), two.get(name)
        if not same(was, now):
            yield name, was, now


def _section(section: str, path: str, old: Properties, new: Properties, partial: bool) -> Iterator[Change]:
    for key in {**old, **new}:
        name = f"{path}.{key}" if path else key
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _section(section, name, was, now, partial)
        elif not same(was, now) and not (partial and (key not in old or key not in new)):
            severity = SECTION_SEVERITY.get((section, name)) or SECTION_SEVERITY.get((section, ""), PROPERTY)
            yield Change(CHANGED, section, "", name, was, now, severity)
