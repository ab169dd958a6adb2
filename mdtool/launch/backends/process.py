"""Options of the QEMU process itself: I/O threads, the main loop, how it ends."""

from __future__ import annotations

from typing import Any

from mdtool.errors import InputError
from mdtool.guest.model import Guest
from mdtool.guest.platform import iothreads
from mdtool.guest.xml import Element
from mdtool.launch.backends.base import option, switch, whole

_RUN_WITH = (8, 1)  # the QEMU that has -run-with; before, the switch is an option of its own


def process_options(guest: Guest, version: tuple[int, ...], *, rehearse: bool) -> tuple[str, ...]:
    """The words; in a rehearsal the threads alone, since devices name them.  Raises InputError where QEMU is too old."""
    words: list[str] = []
    elements = {whole(element, "@id"): element for element in guest.domain.all("iothreadids/iothread")}
    for number in iothreads(guest):
        element = elements.get(number)
        tuning = _thread(element) if element is not None and not rehearse else {}
        words += option("-object", qom_type="iothread", id=f"iothread{number}", **tuning)
    if rehearse:
        return tuple(words)
    main = guest.domain.first("defaultiothread")
    if main is not None and (pool := _pool(main)):
        words += option("-object", qom_type="main-loop", id="main-loop", **pool)
    if switch(guest.domain, "features/async-teardown/@enabled"):
        words += ("-run-with", "async-teardown=on") if version >= _RUN_WITH else ("-async-teardown",)
    return tuple(words)


def _pool(element: Element) -> dict[str, Any]:
    """``{"thread_pool_min": 3, "thread_pool_max": 17}``, each where the XML has it."""
    found = {name: whole(element, f"@{name}") for name in ("thread_pool_min", "thread_pool_max")}
    least, most = found["thread_pool_min"], found["thread_pool_max"]
    if least is not None and most is not None and least > most:
        what = f"<{element.tag}>: thread_pool_min {least} is more than thread_pool_max {most}"
        raise InputError(what, at=element.position, expected=f"0 to {most}", rule="thread-pool")
    return {name: value for name, value in found.items() if value is not None}


def _thread(element: Element) -> dict[str, Any]:
    keys = {"max": "poll_max_ns", "grow": "poll_grow", "shrink": "poll_shrink", "weight": "poll_weight"}
    polling = {name: whole(element, f"poll/@{key}") for key, name in keys.items()}
    return {**_pool(element), **{name: value for name, value in polling.items() if value is not None}}
