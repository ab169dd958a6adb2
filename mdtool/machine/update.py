"""A description brought up to date with a dump: the machine as it is now, and all that only the description knows.

A dump knows the tree, the addresses and every value.  It does not know which values were chosen, what the XML last
set, which addresses are kept for removed devices, nor how a person writes a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdtool.machine.document import tree_with
from mdtool.machine.drivers import same_driver
from mdtool.machine.tree import BUILTIN, MANUAL, SECTIONS, Node, Place, Properties, Retired, Tree, Value
from mdtool.machine.values import same
from mdtool.records import replace


def updated(old: Tree, dumped: Tree) -> Tree:
    """``dumped``, with what ``old`` has of it: origins, what was chosen and applied, retired addresses, spellings.

    What ``old`` says and no dump reports (a section's key, say) stays.  A device of an XML element that is gone leaves its
    address retired, as a reconcile does.
    """
    known = _matched(old, dumped)
    tree = tree_with(dumped, {name: _node(place.node, dumped.by_name[name].node) for name, place in known.items()})
    sections: dict[str, Any] = {
        name: _section(getattr(old, name), getattr(dumped, name)) for name in SECTIONS if name != "objects"
    }  # objects are reported completely
    went = [place for place in old.places if place.name not in {was.name for was in known.values()}]
    return replace(tree, **sections, applied=old.applied, retired=_retired(old, tree, went))


def _matched(old: Tree, dumped: Tree) -> dict[str, Place]:
    """Name in ``dumped`` -> the same device in ``old``: by its id, XML element, place and driver, or bus and driver."""
    left = dict(old.by_name)
    found: dict[str, Place] = {}
    keys: tuple[Callable[[Place], Any], ...] = (
        lambda place: place.node.id,
        lambda place: place.node.origin if place.node.origin not in (BUILTIN, MANUAL) else None,
        lambda place: (place.address, place.node.driver) if place.address else None,
        lambda place: place.name,
    )
    for of_old, of_dumped in (*((key, key) for key in keys), (_left_to_qemu, _on_bus)):
        there = {value: name for name, place in left.items() if (value := of_old(place)) is not None}
        for name, place in dumped.by_name.items():
            value = of_dumped(place)
            if name in found or value is None or (was := there.get(value)) is None or was not in left:
                continue
            if same_driver(left[was].node.driver, place.node.driver):
                found[name] = left.pop(was)
    return found


def _on_bus(place: Place) -> tuple[str, str] | None:
    """Bus and driver of a device without an id."""
    return None if place.node.id is not None or place.bus is None else (place.bus.name, place.node.driver)


def _left_to_qemu(place: Place) -> tuple[str, str] | None:
    """``_on_bus`` of a device whose address, which a dump reports, a description left to QEMU."""
    return _on_bus(place) if place.node.address is None else None


def _node(old: Node, new: Node) -> dict[str, Any]:
    """The fields of a node that ``old`` knows better."""
    values = {**new.pins, **new.properties}
    chosen = {name: _spelled(value, values.get(name, value)) for name, value in old.properties.items()}
    chosen |= {name: value for name, value in new.properties.items() if name not in chosen and name not in old.pins}
    return {
        "driver": old.driver,
        "origin": new.origin if new.origin not in (None, MANUAL) else old.origin or new.origin,
        "properties": chosen,
        "pins": {name: _spelled(old.pins.get(name), value) for name, value in values.items() if name not in chosen},
        "applied": old.applied,
        "effective": new.effective or old.effective,
        "pci": new.pci or old.pci,
    }


def _section(old: Properties, new: Properties) -> Properties:
    """The keys of ``old`` in their order and spelling, with the values of ``new``."""
    both = {name: _value(value, new[name]) if name in new else value for name, value in old.items()}
    return {**both, **{name: value for name, value in new.items() if name not in both}}


def _value(old: Value, new: Value) -> Value:
    return _section(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else _spelled(old, new)


def _spelled(old: Value, new: Value) -> Value:
    """``new`` as ``old`` is written, where they mean the same."""
    return old if same(old, new) else new


def _retired(old: Tree, tree: Tree, went: list[Place]) -> tuple[Retired, ...]:
    held = {place.node.origin for place in tree.places} | {place.address for place in tree.places}
    new = [
        Retired(origin, *place.address, id=place.node.id)
        for place in went
        if (origin := place.node.origin) not in (None, BUILTIN, MANUAL) and place.address is not None
    ]
    return tuple(one for one in (*old.retired, *new) if not {one.origin, (one.bus, one.address)} & held)
