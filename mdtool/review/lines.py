"""The steps of a plan as lines: what heads a picture or a page of what a reconcile would change."""

from __future__ import annotations

from mdtool.machine.tree import Tree
from mdtool.machine.values import natural
from mdtool.reconcile.plan import Action, Plan
from mdtool.review.diff import ADDED, CHANGED, REMOVED, REPLACED
from mdtool.review.plan import text_from_step, with_names
from mdtool.review.show import ChangeLine

_MARKS = {Action.ADD: ADDED, Action.REMOVE: REMOVED, Action.MODIFY: CHANGED, Action.REPLACE: REPLACED}


def lines_of_plan(plan: Plan, old: Tree, new: Tree) -> list[ChangeLine]:
    """The steps of a plan, with its reasons and what the guest calls the devices."""
    steps = [step for step in with_names(plan, old, new).steps if step.action is not Action.KEEP or step.renamed]
    order = list(Action)
    steps.sort(key=lambda step: (order.index(step.action), natural(step.name)))
    return [
        ChangeLine(step.name, _MARKS.get(step.action, CHANGED), " ".join(text_from_step(step).split())) for step in steps
    ]
