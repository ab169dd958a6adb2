"""Work on many things at once: one process a core."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Sequence[T], lost: Callable[[T], R], *, one_by_one: bool = False) -> Iterator[R]:
    """``work`` of every item, in their order, in as many processes as there are cores.

    The first item is worked on here: what it imports is there for the processes, which are forked after it.  ``work``
    raises nothing; ``lost`` stands for the result of an item that ended its process (by want of memory, say).
    """
    jobs = 1 if one_by_one else min(len(os.sched_getaffinity(0)), len(items) - 1)
    here = len(items) if jobs < 2 else 1
    yield from map(work, items[:here])
    gc.freeze()
    left = items[here:]
    while left:
        done = 0
        for result in _pooled(work, left, jobs):
            yield result
            done += 1
        left = left[done:]
        if left:  # a process ended: by this one, or by another one that was worked on at the same time
            yield next(_pooled(work, left[:1], 1), None) or lost(left[0])
            left = left[1:]


def _pooled(work: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[R]:
    """Results in order, up to the first one that is lost with its process."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    from mdtool.lifetime import die_with

    pool = ProcessPoolExecutor(jobs, get_context("fork"), _ready, (partial(die_with, os.getpid(), signal.SIGTERM),))
    try:
        yield from pool.map(work, items, chunksize=max(1, min(8, len(items) // (jobs * 4))))
    except BrokenProcessPool:
        return
    finally:
        pool.shutdown(cancel_futures=True)


def _ready(end_with_parent: Callable[[], None]) -> None:
    """In a new process, which ends with its parent: an interrupt is its parent's, and so is standard input."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin = open(os.devnull)  # noqa: SIM115 (for as long as the process lives)
    gc.set_threshold(50_000)
