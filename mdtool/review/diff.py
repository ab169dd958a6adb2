"""What differs between two descriptions, by meaning: no formatting, no order of lines, no host side.

It is the comparison of ``mdtool.compare``, in the words of a change from one to the other.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from mdtool.compare import GUEST_VISIBLE, HOST, SEVERITIES, Difference, Omitted, comparison, is_partial, matched
from mdtool.machine.tree import Place, Tree, Value
from mdtool.machine.values import natural, plain
from mdtool.records import dataclass
from mdtool.text import one_line

ADDED, REMOVED, MOVED, REPLACED, RENAMED, CHANGED = "added", "removed", "moved", "replaced", "renamed", "changed"
SYMBOLS = {ADDED: "+", REMOVED: "-", MOVED: ">", REPLACED: "±", RENAMED: "=", CHANGED: "~"}


@dataclass(frozen=True, slots=True)
class NodeChange:
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
    """All changes, the worst first, and what could not be compared, with the reason."""

    changes: tuple[NodeChange, ...]
    not_compared: tuple[Omitted, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def visible(self) -> list[NodeChange]:
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

    >>> from mdtool.machine.tree import Bus, Node
    >>> one = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="03.0"),)),))
    >>> two = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="04.0"),)),))
    >>> print(diff(one, two).changes[0])
    > net0             moved: pci.0 03.0 -> pci.0 04.0 [address]
    """
    alike = _are_alike(old, new)
    found, compared = comparison(old, new, alike=alike)
    changes = [_change(one, old, new) for one in found]
    if old.retired != new.retired:
        was, now = ([f"{r.bus} {r.address} for {r.origin}" for r in tree.retired] or None for tree in (old, new))
        changes.append(NodeChange(CHANGED, "retired", "", "addresses", was, now, HOST))
    renamed = {RENAMED} if alike else set()  # no guest sees it, but a reader of the description does
    shown = [change for change in changes if everything or change.severity != HOST or change.kind in renamed]
    shown.sort(key=lambda c: (SEVERITIES.index(c.severity), natural(c.node), c.kind, c.property))
    return Diff(tuple(shown), compared.not_compared)


def _are_alike(old: Tree, new: Tree) -> bool:
    """Whether both are descriptions, before and after an edit, and neither is a machine that was just asked."""
    written = all(not tree.source or any(place.node.position for place in tree.places) for tree in (old, new))
    return written and old.source == new.source and is_partial(old) == is_partial(new)


def _change(one: Difference, old: Tree, new: Tree) -> NodeChange:
    """A difference in the words of a diff."""
    if one.property == "":
        kind, place = (ADDED, new.by_name[one.node]) if one.want is None else (REMOVED, old.by_name[one.node])
        was, now = (None, where(place)) if kind == ADDED else (where(place), None)
        return NodeChange(kind, one.node, place.node.driver, "", was, now, one.severity)
    driver = old.by_name[one.node].node.driver if one.node in old.by_name else ""
    kind = {"address": MOVED, "driver": REPLACED, "id": RENAMED}.get(one.property, CHANGED)
    if one.node not in old.by_name:
        kind = CHANGED
    return NodeChange(kind, one.node, driver, one.property if kind == CHANGED else "", one.want, one.have, one.severity)


def where(place: Place) -> str:
    """``pci.1 00.0``; ``no bus`` for a device on none."""
    return " ".join(filter(None, (place.bus.name, place.node.address))) if place.bus is not None else "no bus"


def paired(old: Tree, new: Tree) -> tuple[list[tuple[Place, Place]], list[Place], list[Place]]:
    """(pairs of the same device, what is gone, what came)."""
    return matched(old, new)
