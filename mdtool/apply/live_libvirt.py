"""A plan carried out in a guest that libvirt runs: ``virsh attach-device`` and ``detach-device --live``.

Devices get the addresses of the plan.  What needs a power cycle is left, and so is what libvirt, QEMU or the guest refuses;
each says why.

pending = pending_of(revision, virsh)     the plan from the machine that runs to the described one
outcomes = carried_out(pending)           what was done of it
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from mdtool.apply.define import xml_to_define
from mdtool.apply.live import UNPLUG_SECONDS, Left, Outcome, differences, hot, in_order
from mdtool.apply.revise import Revision
from mdtool.errors import MdtoolError, QemuError, Report
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest
from mdtool.guest.xml import Element, element_from_bytes
from mdtool.machine.tree import Tree
from mdtool.qemu.dump import dump
from mdtool.qemu.session import session_from_source
from mdtool.qemu.virsh import Virsh
from mdtool.reconcile import linked, reconcile
from mdtool.reconcile.plan import Action, Plan, Step
from mdtool.records import dataclass

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Pending:
    """What a guest that runs has otherwise than described.

    ``plan``     from the machine that runs, ``running``, to the described one, ``tree``
    ``live``     libvirt's XML of the guest that runs; ``next`` of its next start, with every address
    """

    virsh: Virsh
    plan: Plan
    running: Tree
    tree: Tree
    live: Guest
    next: Guest


def pending_of(revision: Revision, virsh: Virsh) -> Pending:
    """Look at the guest; nothing in it changes."""
    name = revision.guest.name
    live = guest_from_bytes(virsh.xml(virsh.named(name)).encode(), f"libvirt:{name}")
    with session_from_source(f"libvirt:{name}", connect=virsh.connect) as session:
        running = linked(live, dump(session), Report())
    made = xml_to_define(revision.guest, revision.tree, live.uuid)
    following = guest_from_bytes(made.encode(), revision.guest.file)
    result = reconcile(following, running)
    return Pending(virsh, result.plan, running, result.tree, live, following)


def carried_out(pending: Pending, *, seconds: float = UNPLUG_SECONDS) -> list[Outcome]:
    """Do what can be done, removals first; the outcome of every step, in the order of the plan.

    Raises QemuError where a device that was plugged in is otherwise than described.
    """
    work = _Work(pending, seconds)
    done = {
        id(step): Outcome(step, work.attempt(step))
        for step in in_order(pending.plan.changes, pending.running, pending.tree)
    }
    outcomes = [done[id(step)] for step in pending.plan.changes]
    source = f"libvirt:{pending.live.name}"
    with session_from_source(source, connect=pending.virsh.connect) as session:
        if found := differences(session, pending.tree, outcomes):
            raise QemuError("plugged in, and not as described: " + "; ".join(found))
    return outcomes


class _Work:
    def __init__(self, pending: Pending, seconds: float) -> None:
        self.pending, self.seconds = pending, seconds
        self.domain = pending.virsh.named(pending.live.name)
        self.there = set(pending.running.all_buses)

    def attempt(self, step: Step) -> str:
        """Why a step was left; "" where it was done."""
        try:
            hot(step)
            if step.action is Action.MODIFY:
                raise Left("a device's properties are fixed when it is made")
            if step.action is not Action.ADD:
                self._detach(step)
            if step.action is not Action.REMOVE:
                self._attach(step)
        except Left as why:
            return str(why)
        except MdtoolError as error:
            return error.what
        return ""

    def _attach(self, step: Step) -> None:
        place = self.pending.tree.by_name[step.name]
        if place.bus is not None and place.bus.name not in self.there:
            raise Left(f"its bus {place.bus.name} is not there before a power cycle")
        text = _element(self.pending.next, step)[1]
        self.pending.virsh("attach-device", self.domain, "/dev/stdin", "--live", text=text)
        self.there |= {bus.name for bus in place.node.buses}

    def _detach(self, step: Step) -> None:
        element, text = _element(self.pending.live, step)
        self.pending.virsh("detach-device", self.domain, "/dev/stdin", "--live", text=text)
        alias, end = element.get("alias/@name"), time.monotonic() + self.seconds
        while alias in self._aliases():
            if time.monotonic() > end:
                raise Left(f"the guest did not release it within {self.seconds:g} s; it may still do so")
            time.sleep(_POLL_SECONDS)

    def _aliases(self) -> Iterator[str | None]:
        for device in element_from_bytes(self.pending.virsh.xml(self.domain).encode(), "libvirt").all("devices"):
            yield from (one.get("alias/@name") for one in device)


def _element(guest: Guest, step: Step) -> tuple[Element, str]:
    """The element of the XML that a step's device stands for, and its text."""
    for one in wanted_from_guest(guest, Report()):
        if one.origin == step.origin and one.element is not None:
            start, end = one.element.span
            return one.element, guest.source[start:end].decode()
    raise Left("libvirt's XML has no element for it")
