"""What applying a revision would do to a guest: found out before anything is done, for a person to agree to.

proposal = proposed(revision, source)     looks at the guest; None where everything is as it should be
proposal.define(say)                      libvirt's definition of the guest, then what can be done live
"""

from __future__ import annotations

from mdtool.apply.define import check, define, differences, not_running, undefined
from mdtool.apply.live import UNPLUG_SECONDS, Outcome, check_before
from mdtool.apply.live_libvirt import Pending, carried_out, pending_of
from mdtool.apply.revise import Revision, revised, write
from mdtool.apply.saved import as_shown
from mdtool.compare import comparison, guest_visible
from mdtool.errors import ConflictError
from mdtool.files import locked
from mdtool.launch.start import Say
from mdtool.qemu.dump import dump
from mdtool.qemu.session import Session, session_from_source
from mdtool.qemu.virsh import RUNS, Virsh
from mdtool.reconcile.plan import Action, Plan
from mdtool.records import NamedTuple, dataclass


@dataclass(frozen=True)
class Proposal:
    """What would be done.

    ``revision``   the described machine, and the files that it is written to
    ``restart``    whether the guest gets its hardware by a power cycle
    ``virsh``      the libvirt that has the guest; None for a QEMU behind a monitor
    ``state``      libvirt's state of the guest, ``running``; None where libvirt does not have it yet
    ``pending``    what the machine that libvirt runs has otherwise; None where it runs none
    ``xml_paths``  where the XML changes, without its values: the host side, too
    """

    revision: Revision
    restart: bool
    virsh: Virsh | None = None
    state: str | None = "running"
    pending: Pending | None = None
    xml_paths: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        """The changes of the machine that runs, where libvirt runs one; else those of the description."""
        return self.pending.plan if self.pending is not None and self.pending.plan else self.revision.plan

    @property
    def noticed(self) -> list[str]:
        """The names of the nodes whose change the guest sees."""
        return [step.name for step in self.plan.changes if step.notices or step.action is not Action.MODIFY]

    @property
    def defines(self) -> bool:
        """Whether the guest is defined with libvirt, and not started with its new hardware at once."""
        return self.virsh is not None and not (self.restart and self.pending is not None)

    def define(self, say: Say, seconds: float | None = None) -> Defined:
        """Define the guest with libvirt, which may refuse; write the files; then do what can be done live.

        ``seconds`` is how long the guest has to release a device.  Raises ConflictError where the guest or its files
        changed since the proposal was made, and what ``define`` and ``carried_out`` raise.
        """
        assert self.virsh is not None
        request = self.revision.request
        with locked(request.target):
            revision = revised(request)
            as_shown(self.revision)(revision)
            self._check_same_guest(self.virsh, revision)
            texts = revision.texts(define(revision, self.virsh, say))
            kept = write(texts, request)
            say(f"defined {revision.guest.name}")
            done = carried_out(self.pending, seconds=seconds or UNPLUG_SECONDS) if self.pending is not None else []
        return Defined(sorted(texts), kept, done)

    def _check_same_guest(self, virsh: Virsh, revision: Revision) -> None:
        name = revision.guest.name
        now = check(virsh, name)
        if now != self.state or not (self.pending is None or _is_same(self.pending, revision, virsh)):
            was = f"was {self.state or 'not there'} with other hardware when the plan was shown"
            what = f"libvirt's '{name}' is {now or 'gone'}, and {was}"
            raise ConflictError(what, remedy="review the plan again", rule="plan-stale")


def _is_same(pending: Pending, revision: Revision, virsh: Virsh) -> bool:
    """Whether the guest that runs is as it was: where libvirt's XML of it is, its QEMU need not be asked again."""
    xml = virsh.xml(virsh.named(revision.guest.name))
    return xml.encode() == pending.live.source or pending_of(revision, virsh).plan == pending.plan


class Defined(NamedTuple):
    """What ``Proposal.define`` did: the files ``written``, old files ``kept`` beside them, and each step in the guest."""

    written: list[str]
    kept: list[str]
    outcomes: list[Outcome]


def proposed(revision: Revision, source: str, *, restart: bool = False, connect: str | None = None) -> Proposal | None:
    """Look at the guest at ``source``, in which nothing changes; None where there is nothing to do.

    Raises ConflictError where libvirt's guest is another one, or has a managed save; MonitorError where no guest runs
    behind a monitor.
    """
    if source.startswith("libvirt:"):
        return _proposed_for_libvirt(revision, source.partition(":")[2], restart, Virsh(connect))
    with session_from_source(source) as session:  # there is a guest, before a person is asked about it
        if not revision.plan and not revision.texts() and not _differs(session, revision, restart):
            return None
    return Proposal(revision, restart)


def _differs(session: Session, revision: Revision, restart: bool) -> bool:
    """Whether the machine that runs is not the described one, though nothing is to be reconciled: an edit came before.

    Raises ConflictError for one that must not be restarted.
    """
    if restart:
        return bool(guest_visible(comparison(revision.tree, dump(session))[0]))
    check_before(session, revision.tree)
    return False


def _proposed_for_libvirt(revision: Revision, name: str, restart: bool, virsh: Virsh) -> Proposal | None:
    if name != revision.guest.name:
        raise ConflictError(f"libvirt:{name} is another guest than '{revision.guest.name}'", rule="other-guest")
    state = check(virsh, name)
    if state is None:
        return Proposal(revision, restart, virsh, None)
    pending = pending_of(revision, virsh) if state in RUNS else None
    domain = virsh.named(name)
    kept = virsh.public_xml(domain)
    xml_paths = {*undefined(revision.guest, revision.tree, kept)}
    if pending is not None and restart:
        xml_paths |= {*not_running(kept, virsh("dumpxml", domain))}
    machine = revision.plan or differences(kept, revision.tree) or (pending is not None and pending.plan)
    if not machine and not xml_paths and not revision.texts():
        return None
    return Proposal(revision, restart, virsh, state, pending, tuple(sorted(xml_paths)))
