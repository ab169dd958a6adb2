"""What a changed section does to the machine's built-ins: no element stands for them, so QEMU is asked.

``<watchdog model='itco'/>`` clears a bit in the chipset, less memory moves the PCI hole, a CPU more is a built-in more.
Two machines are rehearsed, with the devices that stay, one with the sections as they were and one with the sections as
they are to be.  What differs between the two is the change's doing; what both have otherwise than the description (another
accelerator, another host) is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mdtool.errors import Position
from mdtool.guest.model import Guest
from mdtool.guest.xml import Element
from mdtool.machine.document import tree_with
from mdtool.machine.pci import pci_facts, properties_digest
from mdtool.machine.tree import BUILTIN, MANUAL, Node, Place, Properties, Tree
from mdtool.machine.values import same
from mdtool.reconcile.assemble import assembled, parts_of
from mdtool.reconcile.merge import ABSENT, PropertyChange
from mdtool.reconcile.plan import Action, Plan, Reason, Step
from mdtool.records import NamedTuple, replace

#: sections that show in built-ins, and how an empty one is spelled where a launch would take the XML's instead
_SHOWN: dict[str, dict[str, Any]] = {
    "machine": {},
    "cpu": {},
    "memory": {},
    "objects": {},
    "numa": {},
    "firmware": {},
    "features": {"globals": {}},
    "clock": {"base": "utc"},
}


def are_touched(before: Tree, after: Tree) -> bool:
    """Whether ``after`` may have other built-ins than ``before``, which describes some."""
    changed = any(getattr(before, name) != getattr(after, name) for name in _SHOWN)
    return changed and any(place.node.origin == BUILTIN for place in before.places)


def followed(guest: Guest, before: Tree, after: Tree, plan: Plan) -> tuple[Tree, Plan]:
    """``after`` with its built-ins as its sections make them, and the plan with what that changes.

    Starts two rehearsals (0.3 s each); raises QemuError where QEMU refuses one of the machines.
    """
    both = _without_newcomers(after, before)
    was, was_pins = _rehearsed(_as_before(guest, before), replace(both, **_explicit(before)))
    now, now_pins = _rehearsed(guest, replace(both, **_explicit(after)))
    parts = parts_of(after)
    steps: list[Step] = []
    causes = [step for step in plan.steps if step.name in _SHOWN and step.where is None]
    gone, new = was.keys() - now.keys(), now.keys() - was.keys()
    for name in sorted(gone & parts.nodes.keys()):
        if name in parts.nodes and parts.nodes[name][1].origin == BUILTIN:
            steps += [_step(Action.REMOVE, after.by_name[one], (), causes) for one in parts.remove(name)]
    for name, place in now.items():
        if name in new and name not in parts.nodes and place.node.origin == BUILTIN:
            node = replace(place.node, effective={}) if guest.domain.get("@type") == "kvm" else place.node
            parts.put(name, place.bus.name if place.bus else None, node)
            steps.append(_step(Action.ADD, place, (), causes))
    tree = assembled(parts, after)
    changes = {}
    for name in now.keys() & was.keys() & tree.by_name.keys():
        node = tree.by_name[name].node
        made = _as_made(node, was[name].node, now[name].node)
        if made != node:
            changes[name] = {bag: getattr(made, bag) for bag in ("properties", "pins", "effective", "pci")}
            if seen := tuple(_changes(node, made)):
                steps.append(_step(Action.MODIFY, tree.by_name[name], seen, causes))
    said = {step.name for step in steps}
    kept = [step for step in plan.steps if step.name not in said or step.action is not Action.KEEP]
    tree = replace(tree_with(tree, changes), machine_pins=_followed_pins(tree.machine_pins, was_pins, now_pins))
    return tree, Plan((*kept, *sorted(steps, key=lambda step: step.name)))


def _followed_pins(pins: Properties, was: Properties, now: Properties) -> Properties:
    """The machine's own properties, those that another section changes as it makes them."""
    same_as_before = {name: value for name, value in pins.items() if same(was.get(name, ABSENT), now.get(name, ABSENT))}
    changed = {name: value for name, value in now.items() if pins and name not in same_as_before and name in pins}
    return {**same_as_before, **changed}


def _without_newcomers(tree: Tree, before: Tree) -> Tree:
    """The devices that both have: an NVDIMM needs a machine that is configured for them."""
    known = {place.node.origin for place in before.places} | {BUILTIN, MANUAL}
    parts = parts_of(tree)
    for place in reversed(tree.places):  # from the leaves
        holds = any(parts.on(bus) for bus in parts.provided(place.name))
        if place.node.origin not in known and not holds:
            parts.remove(place.name)
    return assembled(parts, tree)


def _explicit(tree: Tree) -> dict[str, Any]:
    """Its sections, an absent one as one that says nothing."""
    return {name: getattr(tree, name) or empty for name, empty in _SHOWN.items()}


def _as_before(guest: Guest, tree: Tree) -> Guest:
    """The guest with what a launch takes from the XML alone as the description has it: the kind of firmware, no NUMA."""
    kind, system = tree.firmware.get("kind"), guest.domain.first("os")
    children = [
        _without(child, "numa") if child.tag == "cpu" and not tree.numa else child
        for child in guest.domain
        if child is not system
    ]
    if system is not None and (kind == "pflash") != _is_flash(system):
        firmware = {"firmware": "efi"} if kind == "pflash" else {}
        attributes = {name: value for name, value in system.attributes.items() if name != "firmware"}
        system = replace(_without(system, "loader", "nvram", "firmware"), attributes={**attributes, **firmware})
    return replace(guest, domain=replace(guest.domain, children=[*children, *([system] if system is not None else [])]))


def _without(element: Element, *tags: str) -> Element:
    return replace(element, children=[child for child in element if child.tag not in tags])


def _is_flash(system: Element) -> bool:
    return system.get("@firmware") == "efi" or system.get("loader/@type") == "pflash"


class _Rehearsed(NamedTuple):
    """A machine as QEMU makes it: its nodes by name, and its own properties."""

    places: dict[str, Place]
    pins: Properties


def _rehearsed(guest: Guest, tree: Tree) -> _Rehearsed:
    from mdtool.launch.context import LaunchContext
    from mdtool.launch.prepare import prepared, wanted_by
    from mdtool.launch.rehearse import rehearsal
    from mdtool.qemu.dump import dump

    there = {place.node.origin for place in tree.places}
    asked = wanted_by(guest, tree)
    wanted = [one for one in asked if one.origin in there or not one.driver]
    new = {id(one.element) for one in asked if one.driver and one.origin not in there}
    children = [
        replace(child, children=[one for one in child if id(one) not in new]) if child.tag == "devices" else child
        for child in guest.domain
    ]
    guest = replace(guest, domain=replace(guest.domain, children=children))
    plan = prepared(guest, tree, wanted, context=LaunchContext(rehearse=True))
    with rehearsal(plan) as qemu:
        found = dump(qemu.session)
    places = {name: place for name, place in found.by_name.items() if name not in plan.substitutes}
    return _Rehearsed(places, found.machine_pins)


def _as_made(node: Node, was: Node, now: Node) -> Node:
    """A described node with what is otherwise in ``now`` than in ``was``."""
    old, new = {**was.pins, **was.properties}, {**now.pins, **now.properties}
    other = {name for name in old.keys() | new.keys() if not same(old.get(name, ABSENT), new.get(name, ABSENT))}

    def with_new(have: Any, made: Any) -> dict[str, Any]:
        kept = {name: value for name, value in have.items() if name not in other}
        return {**kept, **{name: value for name, value in made.items() if name in other}}

    made = replace(node, properties=with_new(node.properties, now.properties), pins=with_new(node.pins, now.pins))
    if was.effective != now.effective:  # what another host would make of it is unknown
        made = replace(made, effective=now.effective if node.effective == was.effective else {})
    facts = pci_facts(now) if pci_facts(was) != pci_facts(now) else pci_facts(node)
    return replace(made, pci={**facts, "of": properties_digest(made)}) if facts else made


def _changes(node: Node, made: Node) -> Iterator[PropertyChange]:
    """What a guest sees of it."""
    old, new = {**node.pins, **node.properties}, {**made.pins, **made.properties}
    for name in sorted(old.keys() | new.keys()):
        have, wants = old.get(name, ABSENT), new.get(name, ABSENT)
        if not same(have, wants):
            yield PropertyChange(name, have, wants)


def _step(action: Action, place: Place, changes: Sequence[PropertyChange], causes: Sequence[Step]) -> Step:
    named = {f"globals.{place.node.driver}.{change.name}" for change in changes}
    own = [cause for cause in causes if named & {change.name for change in cause.changes}] or causes
    at: Position | None = own[0].at if len({cause.at for cause in own}) == 1 else None
    reason, detail = (Reason.FOLLOWS, ", ".join(cause.name for cause in own)) if own else (Reason.MACHINE, "")
    where = place.address or (place.bus.name if place.bus else "", "")
    return Step(
        action, place.name, place.node.driver, where, BUILTIN, tuple(changes), reason, detail, at, hot=False, notices=True
    )
