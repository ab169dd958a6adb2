"""Three ways to one value: what the XML last set, what it says now, and what the description has.

As ``kubectl apply`` does it.  "No longer in the XML" and "never was in the XML" differ, and only the record of what was
``applied`` distinguishes them:

    applied   now    description        result
    -         v      absent or pinned   v           the XML sets it now (on adoption of a dump: silently where absent)
    -         v      w                  v           on adoption (nothing was ever applied); else both changed: a conflict
    a         a      w                  w           a manual change: the XML did not change
    a         v      a                  v           the XML changed
    a         v      w                  conflict    both changed
    a         -      a                  gone        dropped from the XML
    a         -      w                  w           a manual value
    -         -      w                  w           a manual value, or the dump's
"""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.machine.tree import Properties, Value
from mdtool.machine.values import same
from mdtool.records import NamedTuple

ABSENT = object()


class PropertyChange(NamedTuple):
    """One property that changes; ``before`` or ``after`` is ABSENT where it comes or goes."""

    name: str
    before: Value
    after: Value

    def __str__(self) -> str:
        def says(value: Value) -> str:
            return "-" if value is ABSENT else str(value).lower() if isinstance(value, bool) else str(value)

        return f"{self.name}: {says(self.before)} -> {says(self.after)}"


class MergedProperties(NamedTuple):
    """``properties`` for the tree, the ``changes`` a guest would notice, the names that are in ``conflict``."""

    properties: Properties
    changes: tuple[PropertyChange, ...]
    conflicts: tuple[PropertyChange, ...]


class Before(NamedTuple):
    """What is recorded of a survivor: what the XML last set, what the description has, what QEMU filled in."""

    applied: Properties
    described: Properties
    pins: Properties


def merged(
    now: Properties,
    before: Before,
    *,
    weak: frozenset[str] = frozenset(),
    prefer: str | None = None,
    adopting: bool | None = None,
) -> MergedProperties:
    """Merge the properties of one survivor.

    ``weak`` names values of ``now`` that the allocator computed and no person wrote (a port number, a chassis): they
    fill what is absent and never change what the description has.  ``prefer`` (``xml`` or ``description``) settles
    conflicts.  ``adopting`` says whether no XML was ever applied; without it, whether none of these properties was.

    >>> merged({"bootindex": 2}, Before({"bootindex": 1}, {"bootindex": 1}, {})).changes
    (PropertyChange(name='bootindex', before=1, after=2),)
    """
    applied, described, pins = before
    result: dict[str, Value] = dict(described)
    changes: list[PropertyChange] = []
    conflicts: list[PropertyChange] = []
    adopting = not applied if adopting is None else adopting
    for name, value in now.items():
        have = described.get(name, pins.get(name, ABSENT))
        if have is not ABSENT and same(have, value):
            result[name] = described.get(name, value)
        elif name in weak and (have is not ABSENT or not adopting):
            continue
        elif name in applied and same(applied[name], value):
            continue  # the XML did not change: what the description has, or lacks, is a manual change
        elif have is ABSENT and adopting and pins:
            result[name] = value  # QEMU shows no such property of its own (an alias of a part): nothing to compare with
        elif have is ABSENT or name not in described or adopting or (name in applied and same(applied[name], have)):
            result[name] = value
            changes.append(PropertyChange(name, have, value))
        elif prefer == "description":
            continue
        elif prefer == "xml":
            result[name] = value
            changes.append(PropertyChange(name, have, value))
        else:
            conflicts.append(PropertyChange(name, have, value))
    for name, value in applied.items():
        if not name.startswith("@") and name not in now and name in described and same(described[name], value):
            del result[name]
            changes.append(PropertyChange(name, value, ABSENT))
    return MergedProperties(result, tuple(changes), tuple(conflicts))


#: QEMU's defaults of properties that newer libvirts write out
DEFAULTS: Mapping[str, Value] = {
    **dict.fromkeys(("iommu_platform", "ats", "packed", "page-per-vq", "multifunction", "removable", "share-rw"), False),
    **dict.fromkeys(("deflate-on-oom", "free-page-reporting"), False),
    **dict.fromkeys(("event_idx", "mrg_rxbuf", "csum", "gso", "hotplug"), True),
    **dict.fromkeys([f"{side}_{what}" for side in ("host", "guest") for what in ("tso4", "tso6", "ecn", "ufo")], True),
    "guest_csum": True,
    "rx_queue_size": 256,
    "tx_queue_size": 256,
    "rombar": 1,
}


#: what libvirt says only while the guest runs: where memory is that has a slot alone
_WHILE_IT_RUNS = ("addr",)


def without_defaults(
    now: Properties, applied: Properties, have: Properties, defaults: Properties = DEFAULTS
) -> dict[str, Value]:
    """What the XML says now, with as many of QEMU's defaults as it gave before: giving one or not is the same machine.

    ``have`` is what the description says, values that QEMU filled in included.

    >>> without_defaults({"mac": "52:54:00:11:22:33", "ats": False}, {"packed": False}, {"packed": False})
    {'mac': '52:54:00:11:22:33', 'packed': False}
    """
    found = {**{name: applied[name] for name in _WHILE_IT_RUNS if name in applied and name in have}, **now}
    if defaults.keys().isdisjoint(now) and defaults.keys().isdisjoint(applied):
        return found
    for name, value in defaults.items():
        if name in now and name not in have and same(now[name], value):
            del found[name]
        elif name not in now and name in applied and name in have and same(have[name], value):
            found[name] = applied[name]
    return found


def record(now: Properties, facts: Mapping[str, Value]) -> Properties:
    """What to keep as applied: the properties, and facts under names that no property has."""
    return {**now, **{f"@{name}": value for name, value in facts.items() if value is not None}}
