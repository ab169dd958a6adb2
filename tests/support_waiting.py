"""Waiting in tests: for a condition, never for a time.

What has to happen is waited for as long as it takes; the one limit here is only there so that a test run with a hanging
process ends at last.  That something takes no longer than it should is shown by holding up what it must not wait for.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Protocol

PATIENCE = 600.0  # seconds


class _Process(Protocol):
    def poll(self) -> int | None: ...


def until(holds: Callable[[], object], *, of: _Process | None = None, told: Callable[[], object] = lambda: "") -> None:
    """Wait until it holds; an AssertionError with what is ``told`` where the process ``of`` which it is ends before."""
    end = time.monotonic() + PATIENCE
    while not holds():
        ended = of is not None and of.poll() is not None
        if ended and holds():
            return
        assert not ended, f"ended before: {told()}"
        assert time.monotonic() < end, f"still not after {PATIENCE:g} s: {told()}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody has waited for does not."""
    return not _exits(pid, 0)


def gone(pid: int) -> bool:
    """Wait for the end of a process."""
    return _exits(pid, PATIENCE)


def _exits(pid: int, seconds: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(descriptor, "rb") as process:
        return bool(select.select([process], [], [], seconds)[0])
