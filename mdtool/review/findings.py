"""What a check looks at and what it finds, and the one walk over the nodes of a description."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from mdtool.machine.machines import Family, family_of
from mdtool.machine.tree import BUILTIN, Place, Tree
from mdtool.records import dataclass

if TYPE_CHECKING:
    from mdtool.qemu.introspect import Knowledge

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: at which node (or section) and key of it; ``expected`` and ``remedy`` as in an error."""

    node: str
    key: str
    what: str
    expected: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Subject:
    """A description being checked; ``knowledge`` is None where no binary was asked."""

    tree: Tree
    knowledge: Knowledge | None = None

    @cached_property
    def mine(self) -> tuple[Place, ...]:
        """The nodes that were put there: all but the machine's own."""
        return tuple(place for place in self.tree.places if place.node.origin != BUILTIN)

    @cached_property
    def is_full(self) -> bool:
        """Whether the machine's own devices are listed (a dump) or not (made from XML)."""
        return len(self.mine) < len(self.tree.places)

    @cached_property
    def providers(self) -> Mapping[str, Place]:
        """Bus name -> the node that provides it; a bus at the top has none."""
        return {bus.name: place for place in self.tree.places for bus in place.node.buses}

    @cached_property
    def on(self) -> Mapping[str, list[Place]]:
        """Bus name -> what sits on it."""
        found: dict[str, list[Place]] = defaultdict(list)
        for place in self.tree.places:
            if place.bus is not None:
                found[place.bus.name].append(place)
        return found

    @cached_property
    def machine(self) -> Family | None:
        return family_of(str(self.tree.machine.get("type", "")), str(self.tree.machine.get("arch", "")))


Find = Callable[[Subject], Iterable[Finding]]


def each_node(find: Callable[[Subject, Place], Iterable[Finding]]) -> Find:
    """A check of one node as a check of all but the machine's own."""

    def walk(subject: Subject) -> Iterator[Finding]:
        for place in subject.mine:
            yield from find(subject, place)

    return walk
