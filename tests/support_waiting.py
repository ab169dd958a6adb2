"""Waiting in tests: for a condition, never for a time.

What has to happen is waited for as long as it takes; the one limit here is only there so that a test run with a hanging
process ends at last.  That something takes no longer than it should is shown by holding up what it must not wait for.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
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


def children(pid: int | str = "self") -> set[int]:
    """The processes that one started and that are still there; a thread that ends meanwhile started none of them."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found |= set(map(int, path.read_text().split()))
    return found


def child_called(name: str, of: int) -> int:
    """The child of a process whose program's name begins so; others may end while they are looked at."""
    for pid in children(of):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith(name[:15]):
                return pid
    raise AssertionError(f"process {of} has no child {name}")


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """TCP ports that nobody else is given meanwhile: bound here, and a QEMU may listen on them all the same."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]
