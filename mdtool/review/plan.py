"""A plan for people: its text, and what Linux calls each NIC and disk before and after.

A device that stays where it is can be called otherwise all the same: a new port is a new PCI bus, and the buses behind it
are counted on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mdtool.machine.tree import Tree
from mdtool.machine.values import natural
from mdtool.reconcile.plan import Action, Plan, Reason, Step
from mdtool.records import replace
from mdtool.text import one_line

_SUMS = {
    Action.ADD: "to add",
    Action.REMOVE: "to remove",
    Action.MODIFY: "to modify",
    Action.REPLACE: "to replace",
    Action.KEEP: "kept",
}
_HOT = {
    Action.ADD: "can be hot-plugged",
    Action.REMOVE: "can be hot-unplugged",
    Action.MODIFY: "can be unplugged and plugged in again",
    Action.REPLACE: "can be unplugged and plugged in again",
}
_REASONS = {
    Reason.GONE: "no longer in the XML",
    Reason.REUSED: "at the place of {}, for which a guest will take it",
    Reason.NEW: "new in the XML: {}",
    Reason.IMPLIED: "needed by what the XML asks for",
    Reason.MODEL: "another model",
    Reason.ORDER: "matched by its order among devices of its kind",
    Reason.FOLLOWS: "follows from {}",
    Reason.MACHINE: "the machine has it so",
    Reason.MACHINE_TYPE: "another machine type is other hardware",
}
_COLOURS = {Action.ADD: "green", Action.REMOVE: "red", Action.MODIFY: "yellow", Action.REPLACE: "yellow"}


def text_from_plan(
    plan: Plan, coloured: Callable[[str, str], str] = lambda text, _colour: text, *, kept: bool = False
) -> str:
    """A line a step and a summary; with ``kept`` all that is kept, too."""
    lines = [coloured(text_from_step(step), _COLOURS.get(step.action, "dim")) for step in listed(plan, kept=kept)]
    return "\n".join([*lines, summary(plan)])


def listed(plan: Plan, *, kept: bool = False) -> list[Step]:
    """What a reader is shown, by action and name: the changes, and what is kept where the guest calls it otherwise."""
    steps = (step for step in plan.steps if kept or step.action is not Action.KEEP or step.renamed)
    return sorted(steps, key=lambda step: (list(Action).index(step.action), natural(step.name)))


def text_from_step(step: Step) -> str:
    """``+  net0   virtio-net-pci   pci.2 00.0   web01.xml:26:5; new in the XML: <interface>; can be hot-plugged``"""
    bus, address = step.where or ("", "")
    mark = "!" if step.notices else " "
    line = f"{step.action.value}{mark} {step.name:<20} {step.driver:<22} {f'{bus} {address}'.strip():<14}"
    parts = [str(step.at)] if step.at else []
    parts += [str(change) for change in step.changes]
    parts += [_REASONS[step.reason].format(step.detail)] if step.reason else []
    if step.called and step.renamed:
        parts.append(f"the guest calls it {step.called[1]}, and no longer {step.called[0]}")
    if step.action is not Action.KEEP and step.hot is not None:
        parts.append(_HOT[step.action] if step.hot else "needs a power cycle")
    return one_line(f"{line} {'; '.join(parts)}".rstrip())


def summary(plan: Plan) -> str:
    """``1 to add, 2 to remove, 31 kept``"""
    count = Counter(step.action for step in plan.steps)
    if not plan:
        return f"no changes, {count[Action.KEEP]} kept"
    return ", ".join(f"{count[action]} {words}" for action, words in _SUMS.items() if count[action])


def with_names(plan: Plan, old: Tree | None, new: Tree) -> Plan:
    """The plan with what the guest calls each device; a step whose device is called otherwise is one that it notices."""
    from mdtool.review.names import names

    before = {named.node: named.name for named in names(old)} if old is not None else {}
    after = {named.node: named.name for named in names(new)}
    now = {place.node.origin: place.name for place in new.places if place.node.origin is not None}

    def named(step: Step) -> Step:
        was = before.get(step.name) if step.action is not Action.ADD else None
        called = after.get(now.get(step.origin or "", step.name)) if step.action is not Action.REMOVE else None
        if was is None and called is None:
            return step
        other = was is not None and called is not None and was != called
        return replace(step, called=(was, called), notices=step.notices or other)

    return Plan(tuple(named(step) for step in plan.steps))
