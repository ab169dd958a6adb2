"""What is set at one point of a script, and what is where several ways of it meet."""

from __future__ import annotations

from collections.abc import Sequence

from mdtool.commandline.alternatives import Unclear, Value, either
from mdtool.commandline.syntax import Node
from mdtool.records import dataclass, field


@dataclass
class State:
    """What is set at one point of a script.

    ``positional``  what $1, $2, ... are; None for the arguments of the script itself, a string if unknown
    ``sourced``     a file or a text that may have set any variable
    ``started``     whether a QEMU is started by now; None if only a run can decide it
    """

    variables: dict[str, Value | Unclear]
    folder: str | None
    positional: list[str] | str | None = None
    sourced: str = ""
    started: bool | None = False
    functions: dict[str, Node | None] = field(default_factory=dict)

    def copy(self) -> State:
        return State(dict(self.variables), self.folder, self.positional, self.sourced, self.started, dict(self.functions))


def conditional(name: str) -> str:
    return f"${name} is set under a condition, or in a loop"


def merged(states: Sequence[State]) -> State:
    """What is set where only a run can decide which branch was taken: what they agree on."""
    first, *others = states
    found = first.copy()
    for other in others:
        for name in found.variables.keys() | other.variables.keys():
            mine, its = found.variables.get(name), other.variables.get(name)
            if mine != its or (mine is not None and list(mine) != list(its or ())):
                found.variables[name] = either(conditional(name), mine, its)
        for name in found.functions.keys() | other.functions.keys():
            if found.functions.get(name) != other.functions.get(name):
                found.functions[name] = None
        if found.positional != other.positional:
            found.positional = "$@ is set under a condition, or in a loop"
        found.folder = found.folder if found.folder == other.folder else None
        found.sourced = found.sourced or other.sourced
        found.started = found.started if found.started == other.started else None
    return found
