"""A process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int, number: int) -> None:
    """In the new process: have the kernel send ``number`` when mdtool dies, however it dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it died between fork and prctl
        os._exit(1)
