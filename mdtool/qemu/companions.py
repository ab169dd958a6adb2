"""Companion processes for as long as a block runs."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mdtool.commandline.companion import Process
from mdtool.errors import QemuError

SECONDS = 5.0


@contextmanager
def running(processes: Sequence[Process]) -> Iterator[None]:
    """Start them, each until it listens, and end them with the block.  Raises QemuError for one that does not."""
    started: list[subprocess.Popen[bytes]] = []
    quiet = subprocess.DEVNULL
    try:
        for process in processes:
            started.append(subprocess.Popen(process.argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True))
            deadline = time.monotonic() + SECONDS
            while process.ready is not None and not process.ready.exists():
                if started[-1].poll() is not None or time.monotonic() > deadline:
                    raise QemuError(f"{process.argv[0]} does not listen on {process.ready}", rule="helper")
                time.sleep(0.01)
        yield
    finally:
        for one in started:
            one.send_signal(signal.SIGTERM)
        for one in started:
            one.wait()
