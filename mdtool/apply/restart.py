"""A running guest shut down in good order, so that it can be launched with its new hardware."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from mdtool.errors import ConflictError, MonitorError, QemuError
from mdtool.qemu.session import Session

POWERDOWN_SECONDS = 120.0  # how long an operating system may take to shut down
_QUIT_SECONDS = 10.0


#: QEMU's states in which the guest's memory is on its way from or to somewhere else
_MOVING = frozenset({"inmigrate", "postmigrate", "finish-migrate", "save-vm", "restore-vm", "colo"})
#: states of a migration that is not under way
_SETTLED = frozenset({"none", "completed", "cancelled", "failed"})


def check_may_end(session: Session) -> None:
    """Raise ConflictError where the end of this QEMU would lose more than the guest's memory: a migration, a block job."""
    status = str(session.execute("query-status")["status"])
    migration = str((session.execute("query-migrate") or {}).get("status", "none"))
    if status in _MOVING or migration not in _SETTLED:
        raise ConflictError(
            f"{session.source}: a migration is under way or has just ended ({status}, migration: {migration}):"
            " the guest's memory would be lost, or the guest would run twice",
            remedy="let it end, or cancel it (migrate_cancel; virsh domjobabort), and resume or end the guest",
            rule="migration",
        )
    jobs = [f"{job['device']} ({job['type']}, {job['status']})" for job in session.execute("query-block-jobs")]
    if jobs:
        raise ConflictError(
            f"{session.source}: a block job is under way: {', '.join(jobs)}",
            remedy="let it end, or cancel it (block-job-cancel; virsh blockjob --abort)",
            rule="block-job",
        )


def shut_down(session: Session, *, seconds: float, may_end: Callable[[str], bool]) -> None:
    """Press the guest's power button and wait until its QEMU has ended.

    A guest that is still there after ``seconds``, or that is paused and cannot hear the button, is ended where
    ``may_end`` (a question, or --force) allows it.  Raises QemuError where it does not: the guest then runs on.
    """
    check_may_end(session)
    status = str(session.execute("query-status")["status"])
    if status == "running":
        session.execute("system_powerdown")
        if _ended(session, seconds):
            return
        why = f"the guest did not power down within {seconds:g} s"
    else:
        why = f"the guest is not running but {status}, and cannot power down"
    if status != "shutdown" and not may_end(why):
        raise QemuError(
            why,
            remedy="--force ends it all the same, as pulling the plug would; nothing was changed",
            rule="powerdown",
        )
    _quit(session)
    if not _ended(session, _QUIT_SECONDS):
        raise QemuError(f"{session.source}: QEMU does not end", remedy="end its process yourself (kill -9)")


def _ended(session: Session, seconds: float) -> bool:
    """Whether QEMU ends in time; one that stays after a shutdown (-no-shutdown) is asked to quit."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        session.events(timeout=0.1)
        try:
            if session.execute("query-status")["status"] == "shutdown":
                _quit(session)
        except MonitorError:
            return True
    return False


def _quit(session: Session) -> None:
    with suppress(MonitorError):  # it may go before it answers
        session.execute("quit")
