"""Another machine type, as a decision: what the guest would see, and the matching description.

A versioned machine type stands for defaults of hundreds of properties.  So both machines are rehearsed, and what a guest
sees otherwise is listed; the values that QEMU filled in for the old type give way to those of the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mdtool.errors import InputError
from mdtool.guest.machines import machine_of
from mdtool.guest.model import Guest
from mdtool.machine.document import tree_with
from mdtool.machine.tree import BUILTIN, Node, Tree
from mdtool.reconcile.assemble import assembled, parts_of
from mdtool.reconcile.merge import PropertyChange
from mdtool.reconcile.plan import Action, Reason, Step
from mdtool.records import NamedTuple, replace

if TYPE_CHECKING:
    from mdtool.compare import Difference


class Rebased(NamedTuple):
    """``tree``: the new machine; ``step``: what to say of it; ``differences``: what the guest sees otherwise."""

    tree: Tree
    step: Step
    differences: tuple[Difference, ...]


def bare(guest: Guest, old: Tree, wish: str) -> Tree:
    """The old description with machine type ``wish``, and without what QEMU filled in for the old one.

    Raises InputError where QEMU does not know the type, or where the guest XML names a third one.
    """
    type_ = machine_of(replace(guest, machine=wish)).name
    if machine_of(guest).name != type_ and guest.machine == machine_of(guest).name:
        raise InputError(
            f"the XML says machine type {guest.machine}",
            at=guest.domain.at("os/type"),
            expected=type_,
            remedy="change it there too: the XML is what the machine is launched from",
            rule="machine-type",
        )
    parts = parts_of(old)
    for name, (_, node) in list(parts.nodes.items()):
        if node.origin == BUILTIN and not any(parts.on(bus) for bus in parts.provided(name)):
            parts.remove(name)
    tree = assembled(parts, old)
    tree = tree_with(tree, {place.name: _unpinned(place.node) for place in tree.places})
    applied = {**old.applied, "@machine": {**old.applied.get("@machine", {}), "type": type_}}
    machine = {name: value for name, value in old.machine.items() if name != "qemu"}
    return replace(tree, machine={**machine, "type": type_}, applied=applied, source=(), machine_pins={})


def _unpinned(node: Node) -> dict[str, Any]:
    """A node without what QEMU filled in.  What the XML set is not among that, though a dump has it among the pins."""
    asked = {name: node.pins[name] for name in node.applied if name in node.pins}
    return {"properties": {**asked, **node.properties}, "pins": {}, "effective": {}}


def rebased(guest: Guest, old: Tree, new: Tree) -> Rebased:
    """``new``, reconciled from ``bare``, filled in by QEMU where ``old`` was, and compared with ``old``.

    Both machines have the devices that the XML asks for now, so that what differs is the machine type's doing.  Starts two
    rehearsals (0.3 s each); raises QemuError where QEMU refuses the machine.
    """
    from mdtool.compare import comparison, guest_visible
    from mdtool.launch.rehearse import rehearsed
    from mdtool.qemu.dump import as_planned, dump

    with rehearsed(guest, new) as session:
        machine = as_planned(dump(session), new)
    with rehearsed(replace(guest, machine=str(old.machine["type"])), old) as session:
        before = as_planned(dump(session), old)
    change = PropertyChange("type", old.machine.get("type"), new.machine["type"])
    at, reason = guest.domain.at("os/type"), Reason.MACHINE_TYPE
    step = Step(Action.MODIFY, "machine", changes=(change,), at=at, reason=reason, hot=False, notices=True)
    found = [
        one for one in guest_visible(comparison(before, machine)[0]) if (one.node, one.property) != ("machine", "type")
    ]
    is_full = any(place.node.origin == BUILTIN for place in old.places)
    return Rebased(_filled(new, machine) if is_full else new, step, tuple(found))


def _filled(new: Tree, machine: Tree) -> Tree:
    """The dumped machine, with what was chosen in ``new`` as chosen there."""
    changes = {}
    for place in new.places:
        if place.name in machine.by_name:
            node = machine.by_name[place.name].node
            pins = {k: v for k, v in {**node.properties, **node.pins}.items() if k not in place.node.properties}
            changes[place.name] = {"properties": place.node.properties, "pins": pins, "applied": place.node.applied}
    tree = tree_with(machine, changes)
    return replace(tree, retired=new.retired, applied=new.applied)
