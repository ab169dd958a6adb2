"""The one comparison of two machines, which every command asks: a fact is the same, different, or not compared and why.

    compare      what differs, the worst first
    comparison   that, and how much was looked at, view by view, and what could not be compared, with the reason

Of a description and a machine, or of two descriptions.  Nodes are matched by id, then by place, then by driver
(``matching``).  A key that one side lacks is not set where its source could have known it, and not known where it could
not (``knowledge``); built-ins are not compared where the description has none at all, since it is then from XML alone.
PCI as the guest's firmware enumerated it is a view of ``mdtool.proof.enumerated``'s.
"""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.compare.matching import matched, ways
from mdtool.compare.model import (
    ADDRESS,
    EFFECTIVE,
    ENUMERATED,
    FEATURES,
    FIRMWARE,
    GUEST_VISIBLE,
    HOST,
    IDENTITY,
    PCI,
    PROPERTY,
    SECTION_SEVERITY,
    SECTIONS_VIEW,
    SEVERITIES,
    SEVERITY_OF,
    TREE,
    Compared,
    Difference,
    Omitted,
    View,
    cpu_flags,
    guest_visible,
    noticed,
    worst_first,
)
from mdtool.compare.nodes import Tally, node_differences, pci_differences
from mdtool.compare.sections import MachinePair, sections
from mdtool.machine.tree import BUILTIN, Bus, Place, Tree

__all__ = [
    "ADDRESS",
    "EFFECTIVE",
    "ENUMERATED",
    "FEATURES",
    "FIRMWARE",
    "GUEST_VISIBLE",
    "HOST",
    "IDENTITY",
    "PCI",
    "PROPERTY",
    "SECTIONS_VIEW",
    "SECTION_SEVERITY",
    "SEVERITIES",
    "SEVERITY_OF",
    "TREE",
    "Compared",
    "Difference",
    "Omitted",
    "View",
    "compare",
    "comparison",
    "cpu_flags",
    "guest_visible",
    "is_partial",
    "is_pci",
    "matched",
    "noticed",
    "pci_differences",
    "ways",
    "worst_first",
]


def compare(description: Tree, machine: Tree) -> list[Difference]:
    """Everything that the description says and the machine has otherwise; the worst first, then in the order of nodes.

    >>> from mdtool.machine.tree import Bus, Node
    >>> one = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="03.0"),)),))
    >>> two = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="04.0"),)),))
    >>> print(compare(one, two)[0])
    net0: moved: described at pci.0 03.0, is at pci.0 04.0
    """
    return comparison(description, machine)[0]


def comparison(description: Tree, machine: Tree, *, alike: bool = False) -> tuple[list[Difference], Compared]:
    """``compare``, and how much it looked at.

    ``alike``: both are descriptions whose sources knew the same, so that a key that one lacks was taken out or put in.
    """
    pair = MachinePair(description, machine, alike)
    pairs, missing, extra = matched(description, machine)
    providers = {id(want.node): id(have.node) for want, have in pairs}
    tally = Tally()
    found: list[Difference] = []
    for want, have in pairs:
        found += node_differences(want, have, pair, providers, tally)
    # What a device brings with it (a usb-storage its disk) is known once it was dumped, and then it has pins.
    new = {id(have.node) for want, have in pairs if not want.node.pins and want.node.origin != BUILTIN}
    partial = is_partial(description)
    left_out = [place for place in extra if place.node.origin == BUILTIN and (partial or id(place.parent) in new)]
    absent = [place for place in missing if place.node.origin == BUILTIN and is_partial(machine) and not partial]
    gone = [place for place in missing if place not in absent]
    found += [Difference(place.name, "", _at(place), None, IDENTITY, place.node.position) for place in gone]
    found += [Difference(place.name, "", None, _at(place), IDENTITY) for place in extra if place not in left_out]
    facts = 0
    for one in sections(pair):
        if isinstance(one, Difference):
            found.append(one)
        elif one is None:
            facts += 1
        else:
            tally.facts.append(one)
    found += _buses(description, machine)
    looked_at = Compared(
        nodes=len(pairs),
        properties=tally.properties,
        skipped_nodes=len(left_out) + len(absent),
        skipped_properties=tuple(tally.skipped),
        functions=tally.functions,
        unknown=tuple(tally.unknown),
        features=tally.features,
        skipped_features=tuple(tally.unseen),
        unrecorded=tuple(tally.unrecorded),
        unknown_facts=tuple(tally.facts),
        facts=facts,
    )
    return worst_first(found), looked_at


def is_partial(tree: Tree) -> bool:
    """Whether a description is from XML alone, and so without what the machine type brings."""
    return not any(place.node.origin == BUILTIN for place in tree.places)


def _at(place: Place) -> str:
    """``e1000 at pci.0 03.0``."""
    if place.bus is None:
        return place.node.driver
    return f"{place.node.driver} at " + " ".join(filter(None, (place.bus.name, place.node.address)))


def is_pci(bus: Bus) -> bool:
    """Of any kind: conventional, Express, an expander's."""
    return bus.type.upper().startswith(("PCI", "PXB", "CXL"))


def _family(bus: Bus) -> str:
    """Buses that are alike: PCI of any kind, whose own devices say which it is."""
    return "PCI" if is_pci(bus) else bus.type


def _buses(description: Tree, machine: Tree) -> Iterator[Difference]:
    """A bus of another kind under the same name: its addresses would mean something else."""
    for name, bus in description.all_buses.items():
        other = machine.all_buses.get(name)
        if other is not None and _family(bus) != _family(other):
            yield Difference(name, "type", bus.type, other.type, ADDRESS, bus.position)
