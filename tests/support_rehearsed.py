"""Each step of a sequence on a real QEMU, in this process: it starts, it is the described machine, what was there before is
where it was, and where the plan has nothing that the guest sees it takes the state of the machine before.

One QEMU serves several steps where that is sound: the machine that QEMU makes follows from its command line alone, so a
step with the command line of the one before has its machine, and only the comparison with the description is made
anew.  A QEMU stays until the next step has another command line: its state is wanted only then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from support_sequences import World, parsed

from mdtool.compare import comparison, guest_visible
from mdtool.errors import Report
from mdtool.launch.context import LaunchContext
from mdtool.launch.prepare import prepared, wanted_by
from mdtool.launch.rehearse import rehearsal
from mdtool.launch.start import counts
from mdtool.machine.tree import BUILTIN, Bus, Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.migration import load_state, save_state
from mdtool.qemu.dump import as_planned, dump
from mdtool.qemu.process import QemuProcess
from mdtool.reconcile import Result, linked

Path_ = tuple[str, ...]


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
    _last: dict[str, tuple[str, Path_]] = field(default_factory=dict)
    _left: dict[Path_, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._first = self.count["steps"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, world: World, before: Tree, result: Result) -> None:
        guest, tree = parsed(world.xml()), world.document().tree
        made = prepared(guest, tree, wanted_by(guest, tree), via="device", context=LaunchContext(rehearse=True))
        self.count["steps"] += 1
        # A hand's edit of the description is another machine already, before any plan.
        edited = yaml_from_tree(before) != self._text
        if made.words() != self._words:
            same = not result.plan.is_seen and not edited
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
            whole = linked(guest, as_planned(self._dumped, tree, made.substitutes), Report())
            world.text, tree = yaml_from_tree(whole), whole
            world.adopted(guest)
        self._text = yaml_from_tree(tree)
        differences = [one for one in comparison(tree, self._dumped)[0] if counts(one, made)]
        assert not guest_visible(differences), "\n".join(map(str, guest_visible(differences)))
        self._stay(edited, forgot=world.forgot)

    def _stay(self, edited: bool, *, forgot: bool) -> None:
        """What QEMU itself shows: who is still there is where they were, and nobody who is new is where another was.

        It knows nothing of what reconcile thinks that a device is.  ``edited``: a hand moved something.
        """
        now = dict(_told(self._dumped))
        gone = {where: mark for mark, (_, where) in self._last.items() if mark not in now and _is_marked(mark)}
        left = {} if forgot else {**self._left, **gone}
        for mark, (driver, where) in now.items():
            was = self._last.get(mark)
            if was is not None and was[0] == driver and not edited:
                assert was[1] == where, f"on QEMU: {mark} was at {was[1]}, and is at {where}"
            elif was is None and mark not in self._seen and where in left:
                raise AssertionError(f"on QEMU: the new {mark} is at {where}, where {left[where]} was")
        here = {where for _, where in now.values()}
        self._left = {where: mark for where, mark in left.items() if where not in here}
        self._last = now
        self._seen |= now.keys()


_MARKS = ("mac", "serial", "name")


def _is_marked(mark: str) -> bool:
    return mark.partition(" ")[0] in _MARKS


def _told(tree: Tree) -> Iterator[tuple[str, tuple[str, Path_]]]:
    """(what a device is known by, its driver and place where nothing else, (driver, address by address from the root))."""

    def inside(bus: Bus, path: Path_) -> Iterator[tuple[str, tuple[str, Path_]]]:
        for node in bus.devices:
            here = (*path, f"{bus.name if not path else ''}/{node.address}")
            bags = {**node.pins, **node.properties}
            mark = next((f"{name} {bags[name]}" for name in _MARKS if bags.get(name)), f"{node.driver} {'/'.join(here)}")
            if node.origin != BUILTIN:
                yield mark, (node.driver, here)
            for inner in node.buses:
                yield from inside(inner, here)

    for bus in tree.buses:
        yield from inside(bus, ())
