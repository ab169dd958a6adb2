"""A running guest shut down in good order, so that it can be launched with its new hardware."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from mdtool.errors import MonitorError, QemuError
from mdtool.qemu.session import Session

POWERDOWN_SECONDS = 120.0  # how long an operating system may take to shut down
_QUIT_SECONDS = 10.0


def shut_down(session: Session, *, seconds: float, may_end: Callable[[str], bool]) -> None:
    """Press the guest's power button and wait until its QEMU has ended.

    A guest that is still there after ``seconds``, or that is paused and cannot hear the button, is ended where
    ``may_end`` (a question, or --force) allows it.  Raises QemuError where it does not: the guest then runs on.
    """
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
        raise QemuError(f"{session.source}: QEMU does not end", remedy="end its process by hand")


def _ended(session: Session, seconds: float) -> bool:
    """Whether QEMU ends in time; one that was told to stay after a shutdown (-no-shutdown) is asked to go."""
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
