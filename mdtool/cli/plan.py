"""What a plan means to the guest: what Linux calls each NIC and disk before and after.

A device that stays where it is can be called otherwise all the same: a new port is a new PCI bus, and the buses behind it
are counted on.
"""

from __future__ import annotations

from dataclasses import replace

from mdtool.machine.tree import Tree
from mdtool.reconcile.plan import Action, Plan, Step
from mdtool.review.names import names


def with_names(plan: Plan, old: Tree | None, new: Tree) -> Plan:
    """The plan with what the guest calls each device; a step whose device is called otherwise is one that it notices."""
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
