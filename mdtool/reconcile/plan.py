"""The plan: what a reconcile does, as data.  An action's value is its printed symbol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mdtool.errors import Position
from mdtool.machine.values import natural
from mdtool.reconcile.merge import ABSENT, Change


class Action(Enum):
    ADD = "+"
    REMOVE = "-"
    MODIFY = "~"
    REPLACE = "±"
    KEEP = "="


_WORDS = {
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
_COLOURS = {Action.ADD: "green", Action.REMOVE: "red", Action.MODIFY: "yellow", Action.REPLACE: "yellow"}


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one node (or one section, ``machine``).

    ``where`` is (bus, address) after the step, or before it for a removal; ``hot`` says whether a running guest can be
    given it without a power cycle (None for a machine that never ran); ``notices`` whether a guest that nobody wanted to
    change would notice (``!``); ``called`` what a Linux guest calls a NIC or a disk before and after, where that is known.
    """

    action: Action
    name: str
    driver: str = ""
    where: tuple[str, str] | None = None
    origin: str | None = None
    changes: tuple[Change, ...] = ()
    reason: str = ""
    at: Position | None = None
    hot: bool | None = None
    notices: bool = False
    called: tuple[str | None, str | None] | None = None

    @property
    def renamed(self) -> bool:
        """Whether the guest calls a device that it keeps otherwise than before."""
        return self.called is not None and None not in self.called and self.called[0] != self.called[1]

    def __str__(self) -> str:
        bus, address = self.where or ("", "")
        mark = "!" if self.notices else " "
        line = f"{self.action.value}{mark} {self.name:<20} {self.driver:<22} {f'{bus} {address}'.strip():<14}"
        said = [str(self.at)] if self.at else []
        said += [str(change) for change in self.changes]
        said += [self.reason] if self.reason else []
        said += (
            [f"the guest calls it {self.called[1]}, and no longer {self.called[0]}"] if self.called and self.renamed else []
        )
        if self.action is not Action.KEEP and self.hot is not None:
            said.append(_HOT[self.action] if self.hot else "needs a power cycle")
        return f"{line} {'; '.join(said)}".rstrip()


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, kept nodes included; ``str(plan)`` is what a person reads."""

    steps: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return any(step.action is not Action.KEEP for step in self.steps)

    @property
    def is_seen(self) -> bool:
        """Whether the guest sees any of it: another name of the guest is a change, and nothing to it."""
        changes = [step for step in self.steps if step.action is not Action.KEEP]
        return any(step.notices or step.action is not Action.MODIFY for step in changes)

    def summary(self) -> str:
        count = Counter(step.action for step in self.steps)
        if not self:
            return f"no changes, {count[Action.KEEP]} kept"
        return ", ".join(f"{count[action]} {word}" for action, word in _WORDS.items() if count[action])

    def text(self, coloured: Callable[[str, str], str] = lambda text, _colour: text, *, kept: bool = False) -> str:
        lines = [
            coloured(str(step), _COLOURS.get(step.action, "dim"))
            for step in sorted(self.steps, key=lambda s: (list(Action).index(s.action), natural(s.name)))
            if kept or step.action is not Action.KEEP or step.renamed
        ]
        return "\n".join([*lines, self.summary()])

    def __str__(self) -> str:
        return self.text()


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
                "reason": step.reason,
                "at": str(step.at) if step.at else None,
                "hotplug": step.hot,
                "guest_notices": step.notices,
                "guest_name": dict(zip(("before", "after"), step.called, strict=True)) if step.called else None,
            }
            for step in plan.steps
        ],
    }
