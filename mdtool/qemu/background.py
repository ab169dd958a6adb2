"""A launch in the background: the terminal is let go once the guest runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from mdtool.errors import MdtoolError, unexpected


def daemonized(work: Callable[[Callable[[int], None]], int]) -> int:
    """Run ``work(ready)`` in the background; returns the status that ``ready`` is called with, or that of its end.

    The process in the background stays QEMU's parent: it ends the helpers and removes the files when the guest ends.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # An interrupt during the fork would be lost in one of the functions that Python calls after it.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if child := os.fork():
        os.close(writer)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            with os.fdopen(reader, "rb") as pipe:
                said = pipe.read(1)
        except KeyboardInterrupt:  # the terminal's ctrl-C does not reach a session of its own
            os.kill(child, signal.SIGINT)
            os.waitpid(child, 0)
            raise
        return said[0] if said else 2
    os.close(reader)
    os.setsid()

    def ready(status: int = 0) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        os.write(writer, bytes([status & 0xFF]))
        os.close(writer)

    status = 2
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        status = work(ready)
    except (MdtoolError, OSError) as error:
        print(error, file=sys.stderr)
    except Exception as error:
        print(unexpected(error), file=sys.stderr)
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):
            os.write(writer, bytes([status & 0xFF]))
        os._exit(status & 0xFF)
    return status
