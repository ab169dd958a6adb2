"""A plan carried out on the running guest, as far as QEMU goes: device_add and device_del, and the host side of both.

What needs a power cycle is left, and so is what QEMU or the guest refuses; each says why.  The guest's own part is
waited for: a PCI device is gone when its driver let go of it, which QEMU reports by the event DEVICE_DELETED.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mdtool.commandline.process import arguments_of
from mdtool.errors import ConflictError, InputError, MdtoolError, QemuError
from mdtool.machine.buses.arguments import device_arguments
from mdtool.machine.tree import Node, Place, Tree
from mdtool.reconcile.assemble import assembled, parts_of
from mdtool.reconcile.merge import ABSENT
from mdtool.reconcile.plan import Action, Plan, Step
from mdtool.records import dataclass, field, replace
from mdtool.text import as_command

if TYPE_CHECKING:
    from mdtool.apply.revise import Revision
    from mdtool.launch.backends.base import Backend
    from mdtool.qemu.session import Session

UNPLUG_SECONDS = 20.0  # a guest lets go of a device within a few; one that runs no operating system never does
RELEASE_SECONDS = 2.0  # QEMU says that a PCI disk is gone a moment before it lets go of the drive


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step of the plan: done in the running guest where ``left`` is empty, else why it was left."""

    step: Step
    left: str = ""

    def __str__(self) -> str:
        said = f"left for a power cycle: {self.left}" if self.left else "done in the running guest"
        return f"{self.step.action.value}  {self.step.name:<20} {said}"

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"name": self.step.name, "action": self.step.action.name.lower(), "done": not self.left, "why": self.left}


class Left(Exception):
    """A step that cannot be done now, and why."""


def hot(step: Step) -> None:
    """Raise Left for what a running guest cannot be given."""
    if step.hot is False:
        fixed = "it is no plugged device" if step.driver else "it is fixed when the machine starts"
        raise Left("QEMU has no hot-plug on that bus" if step.where and step.where[0] else fixed)


def in_order(steps: Sequence[Step], old: Tree, new: Tree) -> list[Step]:
    """Removals first; what is on a bus goes before what provides it, and comes after it."""
    from mdtool.launch.argv import ordered

    leaves = {place.name: -number for number, place in enumerate(old.places)}
    roots = {place.name: number for number, place in enumerate(ordered(new))}
    gone = [step for step in steps if step.action is Action.REMOVE]
    rest = [step for step in steps if step.action is not Action.REMOVE]
    return [
        *sorted(gone, key=lambda step: leaves.get(step.name, 0)),
        *sorted(rest, key=lambda step: roots.get(step.name, -1)),
    ]


def check_before(session: Session, old: Tree) -> None:
    """Raise ConflictError where the running machine is not the described one: a plan for another is no plan for it."""
    from mdtool.compare import comparison, guest_visible
    from mdtool.qemu.dump import dump

    if session.source.startswith("libvirt:"):
        raise InputError(
            f"{session.source}: libvirt manages this guest's devices",
            remedy=f"mdtool apply GUEST.xml GUEST.yaml --source {session.source} changes it through libvirt",
            rule="live",
        )
    if found := guest_visible(comparison(old, dump(session))[0]):
        raise ConflictError(
            "the running machine is not the described one: " + "; ".join(str(one) for one in found[:5]),
            remedy="see mdtool verify; describe what runs (mdtool dump --xml), or start the described one (--restart)",
            rule="live",
        )


def carried_out(
    session: Session,
    plan: Plan,
    trees: tuple[Tree, Tree],
    behind: Callable[[Node], Backend],
    *,
    seconds: float = UNPLUG_SECONDS,
) -> list[Outcome]:
    """Do what can be done, removals first; the outcome of every step that is not ``keep``, in the order of the plan.

    ``trees`` are the machine that runs and the one that the plan leads to; ``behind`` gives a new device its host side,
    which no description has.  Nothing half done stays behind: where a device is refused, its backends go again.
    """
    work = _Live(session, *trees, behind, seconds)
    steps = plan.changes
    done = {id(step): Outcome(step, work.attempt(step)) for step in in_order(steps, *trees)}
    return [done[id(step)] for step in steps]


def as_far(old: Tree, new: Tree, outcomes: Sequence[Outcome]) -> Tree:
    """The machine as it runs now: ``new`` where all was done, else ``old`` with the steps that were.

    So the description is what the machine is, and what was left is planned again by the next reconcile.
    """
    if not any(outcome.left for outcome in outcomes):
        return new
    parts = parts_of(old)
    done = {outcome.step.name: outcome.step for outcome in outcomes if not outcome.left}
    for name, step in done.items():
        if step.action in (Action.REMOVE, Action.REPLACE) and name in parts.nodes:
            parts.remove(name)
    for place in new.places:
        if place.name in done and done[place.name].action is not Action.REMOVE:
            parts.put(place.name, place.bus.name if place.bus else None, place.node)
    tree = assembled(parts, old)
    there = {place.node.origin for place in tree.places} | {place.address for place in tree.places}
    kept = [one for one in (*old.retired, *new.retired) if not {one.origin, (one.bus, one.address)} & there]
    return replace(tree, retired=tuple(dict.fromkeys(kept)))


def differences(session: Session, new: Tree, outcomes: Iterable[Outcome]) -> list[str]:
    """Where a device that was plugged in is otherwise than described."""
    from mdtool.compare import comparison, guest_visible
    from mdtool.qemu.dump import dump

    plugged = {o.step.name for o in outcomes if not o.left and o.step.action is not Action.REMOVE}
    found = guest_visible(comparison(new, dump(session))[0]) if plugged else []
    return [str(one) for one in found if one.node in plugged]


def plugged(revision: Revision, source: str, seconds: float = UNPLUG_SECONDS) -> tuple[list[Outcome], Tree]:
    """Do in the guest at ``source`` what can be done of a revision's plan: what was done, and the machine that runs then.

    Raises InputError where the guest has no description yet, ConflictError where another machine runs than the described
    one, and QemuError where a device is there and is not as described.
    """
    from mdtool.launch.backends import backends_of
    from mdtool.launch.backends.base import Host
    from mdtool.launch.prepare import free_port, wanted_by
    from mdtool.qemu.runtime import runtime_base
    from mdtool.qemu.session import session_from_source

    guest, old, new = revision.guest, revision.before, revision.tree
    if old is None:
        request = revision.request
        remedy = f"describe it first: {as_command('dump', source, '--xml', request.guest, '-o', request.description)}"
        raise InputError(f"{request.description} is not there, and only a described guest is changed live", remedy=remedy)
    behind = backends_of(wanted_by(guest, new), Host(guest, runtime_base() / guest.key, free_port))
    with session_from_source(source) as session:
        check_before(session, old)
        outcomes = carried_out(session, revision.plan, (old, new), behind, seconds=seconds)
        if found := differences(session, new, outcomes):
            raise QemuError("plugged in, and not as described: " + "; ".join(found))
    return outcomes, as_far(old, new, outcomes)


@dataclass
class _Live:
    session: Session
    old: Tree
    new: Tree
    behind: Callable[[Node], Backend]
    seconds: float
    there: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.there = set(self.old.all_buses)

    def attempt(self, step: Step) -> str:
        """Why a step was left; "" where it was done."""
        try:
            _WAYS[step.action](self, step)
        except Left as why:
            return str(why)
        except MdtoolError as error:
            return error.what
        return ""

    # --- the three kinds ---

    def add(self, step: Step) -> None:
        place = self._place(self.new, step)
        self._bus_of(place)
        hot(step)
        self._plug(place)

    def remove(self, step: Step) -> None:
        hot(step)
        self._unplug(self._place(self.old, step))

    def replace(self, step: Step) -> None:
        hot(step)
        before, after = self._place(self.old, step), self._place(self.new, step)
        self._bus_of(after)
        self._backend(after)
        self._unplug(before)
        self._plug(after)

    def modify(self, step: Step) -> None:
        """The boot order can change while the guest runs; any other property is fixed when the device is made."""
        if any(change.name != "bootindex" for change in step.changes) or not step.driver:
            raise Left("a device's properties are fixed when it is made")
        for change in step.changes:
            value = -1 if change.after is ABSENT else int(change.after)
            path = f"/machine/peripheral/{step.name}"
            self.session.execute("qom-set", {"path": path, "property": change.name, "value": value})

    # --- plugging in ---

    def _plug(self, place: Place) -> None:
        self._bus_of(place)
        made = self._backend(place)
        undo: list[Callable[[], object]] = []
        try:
            for flag, value in zip(made.options[::2], made.options[1::2], strict=True):
                undo.append(self._backend_added(flag, value))
            arguments = device_arguments(place.bus.name if place.bus else None, place.node)
            self.session.execute("device_add", {**arguments, **made.properties})
        except (MdtoolError, Left):
            for back in reversed(undo):
                _try(back)
            raise
        self.there |= {bus.name for bus in place.node.buses}

    def _bus_of(self, place: Place) -> None:
        if place.bus is not None and place.bus.name not in self.there:
            raise Left(f"its bus {place.bus.name} is not there before a power cycle")

    def _backend(self, place: Place) -> Backend:
        made = self.behind(place.node)
        if made.secrets or made.processes or made.machine:
            raise Left("its host side has to be set up before QEMU starts")
        if made.spawns and not self._may_spawn():
            raise Left("QEMU would have to start a program for it, for which its sandbox would end it")
        return made

    def _may_spawn(self) -> bool:
        """Whether QEMU's arguments are known, and its sandbox does not kill it where it starts a program."""
        try:
            return self.session.pid is not None and not any("spawn=deny" in one for one in arguments_of(self.session.pid))
        except OSError:
            return False

    def _backend_added(self, flag: str, value: str) -> Callable[[], object]:
        """Give QEMU one backend; returns how to take it back."""
        if flag == "-chardev":
            if said := self.session.hmp(f"chardev-add {value}").strip():
                raise Left(f"QEMU refused chardev-add: {said}")
            id = re.search(r"(?:^|,)id=([^,]+)", value)
            return lambda: self.session.execute("chardev-remove", {"id": id[1] if id else ""})
        if flag not in _BACKENDS or not value.startswith("{"):
            raise Left(f"QEMU takes {flag} at its start alone")
        add, remove, key = _BACKENDS[flag]
        arguments = json.loads(value)
        self.session.execute(add, arguments)
        name = "node-name" if key == "node-name" else "id"
        return lambda: self.session.execute(remove, {key: arguments[name]})

    # --- unplugging ---

    def _unplug(self, place: Place) -> None:
        id = place.node.id
        if id is None:
            raise Left("it has no id")
        behind = list(self._behind(id))
        self.session.events()
        self.session.execute("device_del", {"id": id})
        self._wait(id)
        for remove in behind:
            _try(remove)
        self.there -= {bus.name for bus in place.node.buses}

    def _wait(self, id: str) -> None:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            for event in self.session.events(timeout=0.1):
                name = event.get("data", {}).get("device")
                if name == id and event["event"] == "DEVICE_DELETED":
                    return
                if name == id and event["event"] in ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"):
                    raise Left("the guest refused to release it")
            if id not in {one["name"] for one in self.session.execute("qom-list", {"path": "/machine/peripheral"})}:
                return
        raise Left(f"the guest did not release it within {self.seconds:g} s; it may still do so")

    def _behind(self, id: str) -> Iterator[Callable[[], object]]:
        """How to remove what stands behind a device, once it is gone."""
        for name, remove in _BEHIND.items():
            try:
                value = str(self.session.execute("qom-get", {"path": f"/machine/peripheral/{id}", "property": name}))
            except MdtoolError:
                continue
            if value:
                yield lambda remove=remove, value=value: remove(self.session, value)  # type: ignore[misc]

    def _place(self, tree: Tree, step: Step) -> Place:
        found = tree.by_name.get(step.name)
        if found is None:
            raise Left("it is known by another id then")
        return found


_WAYS: Mapping[Action, Callable[[_Live, Step], None]] = {
    Action.ADD: _Live.add,
    Action.REMOVE: _Live.remove,
    Action.REPLACE: _Live.replace,
    Action.MODIFY: _Live.modify,
}

#: option -> (the command that adds it, the one that removes it, what that calls it)
_BACKENDS: Mapping[str, tuple[str, str, str]] = {
    "-netdev": ("netdev_add", "netdev_del", "id"),
    "-blockdev": ("blockdev-add", "blockdev-del", "node-name"),
    "-object": ("object-add", "object-del", "id"),
}


def _remove_disk(session: Session, top: str) -> None:
    """The stack of nodes under a drive, from its top, and the limits around it."""
    base = re.escape(top.removesuffix("-throttle"))
    nodes = [one["node-name"] for one in session.execute("query-named-block-nodes", {"flat": True})]
    left = [name for name in nodes if re.fullmatch(rf"{base}(-\d+)?(-file|-throttle|-slice)?", name)]
    end = time.monotonic() + RELEASE_SECONDS
    while left:  # each round removes what nothing stands on any more
        still = [name for name in left if not _try(lambda name=name: session.execute("blockdev-del", {"node-name": name}))]  # type: ignore[misc]
        if len(still) == len(left):
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        left = still
    if top.endswith("-throttle"):
        _try(lambda: session.execute("object-del", {"id": f"{top.removesuffix('-throttle')}-limits"}))


def _remove_object(session: Session, path: str) -> None:
    if path.startswith("/objects/"):
        session.execute("object-del", {"id": path.removeprefix("/objects/")})


#: property of a device -> how what it names is removed
_BEHIND: Mapping[str, Callable[[Session, str], object]] = {
    "netdev": lambda session, name: session.execute("netdev_del", {"id": name}),
    "chardev": lambda session, name: session.execute("chardev-remove", {"id": name}),
    "drive": _remove_disk,
    "rng": _remove_object,
    "memdev": _remove_object,
    "cryptodev": _remove_object,
}


def _try(work: Callable[[], object]) -> bool:
    """Whether QEMU did it; what stays behind a device that is gone does no harm."""
    try:
        work()
    except MdtoolError:
        return False
    return True
