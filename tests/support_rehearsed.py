"""Each step of a sequence on a real QEMU, in this process: it starts, it is the described machine, and where the plan
is empty it takes the state of the machine before.

One QEMU serves several steps where that is sound: the machine that QEMU makes follows from its command line alone, so a
step with the command line of the one before has its machine, and only the comparison with the description is made
anew.  A QEMU stays until the next step has another command line: its state is wanted only then.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from support_sequences import World, parsed

from mdtool.document import yaml_from_tree
from mdtool.errors import Report
from mdtool.launch.process import QemuProcess
from mdtool.launch.rehearse import rehearsal
from mdtool.launch.run import counts, prepared, wanted_by
from mdtool.proof.migration import load_state, save_state
from mdtool.proof.verify import comparison, guest_visible
from mdtool.qemu.dump import as_planned, dump
from mdtool.reconcile import Result, linked
from mdtool.tree import Tree


@dataclass
class OnQemu:
    """To be called after each step; ``count`` says how many steps, QEMUs and states there were.

    ``full`` puts a dump in the place of the first description: built-ins and pins are in it then.
    """

    folder: Path
    count: Counter[str] = field(default_factory=Counter)
    full: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)
    _qemu: QemuProcess | None = None
    _dumped: Tree = field(default_factory=Tree)
    _words: list[str] = field(default_factory=list)
    _text: str = ""
    _first: int = 0

    def __enter__(self) -> Self:
        self._first = self.count["steps"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, world: World, before: Tree, result: Result) -> None:
        guest, tree = parsed(world.xml()), world.document().tree
        made = prepared(guest, tree, wanted_by(guest, tree), via="device", rehearse=True)
        self.count["steps"] += 1
        if made.words() != self._words:
            # A hand's edit of the description is another machine already, before any plan.
            same = not result.plan and yaml_from_tree(before) == self._text
            state = self.folder / "state"
            if same and self._qemu is not None:
                save_state(self._qemu.session, state)
            self._stack.close()
            more = ["-incoming", "defer"] if same else []
            self._qemu = self._stack.enter_context(rehearsal(made, more=more))
            self._dumped, self._words = dump(self._qemu.session), made.words()
            self.count["machines"] += 1
            if same:
                load_state(self._qemu, state)
                self.count["states"] += 1
        if self.full and self.count["steps"] - self._first == 1:
            # From here on the description is a dump, with built-ins and pins, as of a guest that was adopted.
            whole = linked(guest, as_planned(self._dumped, tree, made.stands_in), Report())
            world.text, tree = yaml_from_tree(whole), whole
            world.adopted(guest)
        self._text = yaml_from_tree(tree)
        differences = [one for one in comparison(tree, self._dumped)[0] if counts(one, made)]
        assert not guest_visible(differences), "\n".join(map(str, guest_visible(differences)))
