"""Which node of a description is which PCI function, by path."""

from __future__ import annotations

from mdtool.machine.tree import Place, Tree
from mdtool.text import pattern

_PCI = pattern(r"([0-9a-f]{2}\.[0-7])$")
_PXB = ("pxb", "pxb-pcie", "pxb-cxl")


def node_names(tree: Tree) -> dict[str, str]:
    """PCI path: node name, for every node with a PCI address: ``{"02.0/00.0": "net0"}``.

    Paths are those of ``mdtool.proof.pci``: what is behind an expander bridge counts from its own root bus.
    """
    provider = {bus.name: place for place in tree.places for bus in place.node.buses}
    found: dict[str, str] = {}
    for place in tree.places:
        path = _path(place, provider)
        if path is not None:
            found[path] = place.name
    return found


def _path(place: Place, provider: dict[str, Place]) -> str | None:
    if place.bus is None or not place.bus.type.upper().startswith(("PCI", "PXB", "CXL")):
        return None
    if place.node.address is None or not _PCI.match(place.node.address):
        return None
    above = provider.get(place.bus.name)
    if above is None:
        return place.node.address
    if above.node.driver in _PXB:
        number = above.node.value("bus_nr", 0)
        return f"bus {number}: {place.node.address}"
    head = _path(above, provider)
    return f"{head}/{place.node.address}" if head is not None else None
