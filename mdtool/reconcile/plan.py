"""The plan: what a reconcile does, as data.  An action's value is the symbol that stands for it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from mdtool.errors import Position
from mdtool.reconcile.merge import ABSENT, PropertyChange
from mdtool.records import dataclass


class Action(Enum):
    ADD = "+"
    REMOVE = "-"
    MODIFY = "~"
    REPLACE = "±"
    KEEP = "="


class Reason(Enum):
    """Why a step is taken.  For people and for programs that read a plan; no code decides by it."""

    GONE = "gone"
    REUSED = "reused"
    NEW = "new"
    IMPLIED = "implied"
    MODEL = "model"
    ORDER = "order"
    FOLLOWS = "follows"
    MACHINE = "machine"
    MACHINE_TYPE = "machine-type"


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one node (or one section, ``machine``).

    ``where`` is (bus, address) after the step, or before it for a removal; ``hot`` says whether a running guest can be
    given it without a power cycle (None for a machine that never ran); ``notices`` whether a guest that was not to
    change would notice; ``called`` what a Linux guest calls a NIC or a disk before and after, where that is known;
    ``detail`` what a reason names: the element of a new device, the sections that a built-in one follows from.
    """

    action: Action
    name: str
    driver: str = ""
    where: tuple[str, str] | None = None
    origin: str | None = None
    changes: tuple[PropertyChange, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    at: Position | None = None
    hot: bool | None = None
    notices: bool = False
    called: tuple[str | None, str | None] | None = None

    @property
    def renamed(self) -> bool:
        """Whether the guest calls a device that it keeps otherwise than before."""
        return self.called is not None and None not in self.called and self.called[0] != self.called[1]


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, kept nodes included; ``review.plan`` writes them for people."""

    steps: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def changes(self) -> list[Step]:
        """The steps that change something."""
        return [step for step in self.steps if step.action is not Action.KEEP]

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data; its schema is schemas/plan.schema.json."""
        return json_from_plan(self)

    @property
    def is_seen(self) -> bool:
        """Whether the guest sees any of it: another name of the guest is a change, and nothing to it."""
        return any(step.notices or step.action is not Action.MODIFY for step in self.changes)


def json_from_plan(plan: Plan) -> dict[str, Any]:
    """The plan as plain data; its schema is schemas/plan.schema.json."""

    def value(item: object) -> object:
        return None if item is ABSENT else item

    return {
        "mdtool": "plan/1",
        "changes": bool(plan),
        "steps": [
            {
                "action": step.action.name.lower(),
                "symbol": step.action.value,
                "name": step.name,
                "driver": step.driver,
                "bus": step.where[0] if step.where else None,
                "address": step.where[1] if step.where else None,
                "origin": step.origin,
                "changes": [{"name": c.name, "before": value(c.before), "after": value(c.after)} for c in step.changes],
                "reason": step.reason.value if step.reason else None,
                "detail": step.detail,
                "at": str(step.at) if step.at else None,
                "hotplug": step.hot,
                "guest_notices": step.notices,
                "guest_name": dict(zip(("before", "after"), step.called, strict=True)) if step.called else None,
            }
            for step in plan.steps
        ],
    }
