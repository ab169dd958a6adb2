"""A tree taken apart into buses and nodes by name, changed, and put together again."""

from __future__ import annotations

from collections.abc import Iterable

from mdtool.machine.buses.kinds import bus_of_the_machine
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.records import dataclass, field, replace


@dataclass
class Parts:
    """The parts of a tree.  ``nodes`` maps a node's name to (bus name or None, node without what is below it);

    ``buses`` maps a bus's name to the empty bus, ``owners`` to the name of the node that provides it (None: at the top).
    """

    nodes: dict[str, tuple[str | None, Node]] = field(default_factory=dict)
    buses: dict[str, Bus] = field(default_factory=dict)
    owners: dict[str, str | None] = field(default_factory=dict)

    def put(self, name: str, bus: str | None, node: Node) -> None:
        """Add or replace a node; the buses that it provides come with it and keep what sits on them."""
        if name in self.nodes:
            for provided in self.provided(name):
                del self.owners[provided], self.buses[provided]
        for provided_bus in node.buses:
            self.buses[provided_bus.name] = replace(provided_bus, devices=()) if provided_bus.devices else provided_bus
            self.owners[provided_bus.name] = name
        if bus is not None and bus not in self.buses:
            self.buses[bus] = bus_of_the_machine(bus)
            self.owners[bus] = None
        self.nodes[name] = (bus, replace(node, buses=()) if node.buses else node)

    def remove(self, name: str) -> list[str]:
        """Take a node away with everything on its buses; the names of all that went."""
        went = [name]
        for bus in self.provided(name):
            for inner in self.on(bus):
                went += self.remove(inner)
            self.owners.pop(bus, None)
            self.buses.pop(bus, None)
        del self.nodes[name]
        return went

    def on(self, bus: str) -> list[str]:
        """The names of the nodes that sit on a bus."""
        return [name for name, (where, _) in self.nodes.items() if where == bus]

    def provided(self, name: str) -> list[str]:
        """The names of the buses that a node provides."""
        return [bus for bus, owner in self.owners.items() if owner == name]


def parts_of(tree: Tree) -> Parts:
    parts = Parts()
    for bus in tree.buses:
        parts.buses[bus.name] = replace(bus, devices=())
        parts.owners[bus.name] = None
    for place in tree.places:
        parts.put(place.name, place.bus.name if place.bus else None, place.node)
    return parts


def assembled(parts: Parts, tree: Tree) -> Tree:
    """``tree`` with its buses and devices replaced by what ``parts`` holds, in the order of ``parts``."""
    on: dict[str | None, list[str]] = {}
    for name, (bus, _) in parts.nodes.items():
        on.setdefault(bus, []).append(name)
    owned: dict[str | None, list[str]] = {}
    for bus, owner in parts.owners.items():
        owned.setdefault(owner, []).append(bus)

    def bus_with(name: str) -> Bus:
        return replace(parts.buses[name], devices=tuple(nodes_with(on.get(name, ()))))

    def nodes_with(names: Iterable[str]) -> Iterable[Node]:
        for name in names:
            node = parts.nodes[name][1]
            yield replace(node, buses=tuple(map(bus_with, owned[name]))) if name in owned else node

    return replace(
        tree,
        buses=tuple(bus_with(name) for name in owned.get(None, ())),
        devices=tuple(nodes_with(on.get(None, ()))),
    )
