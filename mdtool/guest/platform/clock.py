"""<clock>: ``-rtc``.

The section, absent keys being the default:

    clock: {base: utc, offset: 3600, timers: {rtc: {tickpolicy: catchup}}}

``base`` is utc, localtime, or seconds since the epoch at which the guest's clock starts; ``offset`` is seconds ahead of
``base``.  The timers that are CPU features or machine switches (kvmclock, hypervclock, tsc, hpet) are there and not
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mdtool.errors import InputError, Report, choices
from mdtool.guest.model import Guest
from mdtool.guest.platform.units import number
from mdtool.guest.xml import Element

if TYPE_CHECKING:
    from datetime import datetime

Section = dict[str, Any]

_EPOCH_END = 253402300800  # the year 10000, which -rtc cannot spell
_OFFSETS = ("utc", "localtime", "timezone", "variable", "absolute")
_TRACKS = {"boot": None, "guest": "vm", "wall": "host", "realtime": "rt"}
_TIMERS = frozenset({"platform", "hpet", "kvmclock", "pit", "rtc", "tsc", "hypervclock", "armvtimer"})


def clock_section(guest: Guest, report: Report) -> Section:
    """The ``clock`` section."""
    clock = guest.domain.first("clock")
    if clock is None:
        return {"base": "utc"}
    section: Section = {}
    with report.step():
        section.update(_base(clock))
    timers: Section = {}
    for timer in clock.all("timer"):
        with report.step():
            facts = _timer(timer)
            if facts:
                timers[timer.get("@name") or ""] = facts
    if timers:
        section["timers"] = timers
    return section


def clock_options(section: Mapping[str, Any], now: datetime | None) -> list[str]:
    """``-rtc``; ``now`` (in UTC, None for the host's clock) matters only where the clock has an offset."""
    base, offset = section.get("base", "utc"), section.get("offset", 0)
    if isinstance(base, int):
        from datetime import UTC, datetime

        text = datetime.fromtimestamp(base, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    elif offset:
        from datetime import UTC, datetime, timedelta

        now = now or datetime.now(UTC)
        start = (now.astimezone() if base == "localtime" else now) + timedelta(seconds=offset)
        text = start.strftime("%Y-%m-%dT%H:%M:%S")
    else:
        text = base
    rtc = section.get("timers", {}).get("rtc", {})
    track = _TRACKS.get(rtc.get("track", ""))
    return [
        "-rtc",
        ",".join(
            [
                f"base={text}",
                *([f"clock={track}"] if track else []),
                *(["driftfix=slew"] if rtc.get("tickpolicy") == "catchup" else []),
            ]
        ),
    ]


def _base(clock: Element) -> Section:
    kind = clock.get("@offset") or "utc"
    if kind not in _OFFSETS:
        raise InputError(f"unknown clock offset {kind!r}", at=clock.position, expected=choices(_OFFSETS), rule="clock")
    if kind == "absolute":
        start = number(clock, "@start")
        if start is None or not 0 <= start < _EPOCH_END:
            raise InputError("<clock offset='absolute'> without start", at=clock.position, expected="start=", rule="clock")
        return {"base": start}
    if kind == "timezone":
        return {"base": "localtime"}  # of which zone is QEMU's environment
    basis = (clock.get("@basis") or "utc") if kind == "variable" else kind
    adjustment = clock.get("@adjustment")
    offset = number(clock, "@adjustment") if adjustment not in (None, "reset") else None
    if abs(offset or 0) >= _EPOCH_END // 10:
        raise InputError("the offset is too large", at=clock.position, expected="seconds", rule="clock")
    return {"base": basis, **({"offset": offset} if offset else {})}


def _timer(timer: Element) -> Section:
    name = timer.get("@name")
    if name not in _TIMERS:
        raise InputError(f"unknown timer {name!r}", at=timer.position, expected=choices(_TIMERS), rule="timer")
    if name != "rtc":
        return {}
    facts = {"track": timer.get("@track"), "tickpolicy": timer.get("@tickpolicy")}
    if facts["track"] is not None and facts["track"] not in _TRACKS:
        raise InputError(
            f"rtc: unknown track {facts['track']!r}", at=timer.position, expected=choices(_TRACKS), rule="timer"
        )
    return {key: value for key, value in facts.items() if value is not None}
