"""libvirt's arrays: it keeps devices by kind, and controllers sorted, and gives addresses out in that order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mdtool.guest.allocation.controllers import index_of, type_of
from mdtool.guest.model import Wanted

Arrays = dict[str, list[int]]


def arrays(wanted: Sequence[Wanted]) -> Arrays:
    """Kind -> positions in ``wanted``, in libvirt's order."""
    found: Arrays = {}
    for position, one in enumerate(wanted):
        found.setdefault(one.kind, []).append(position)
    found["controller"] = controllers_in_order(wanted, found.get("controller", []))
    # An interface that is a device of the host is kept among those, before the others.
    handed = [at for at in found.get("interface", []) if wanted[at].driver == "vfio-pci"]
    if handed:
        found["interface"] = [at for at in found["interface"] if at not in set(handed)]
        found["hostdev"] = handed + found.get("hostdev", [])
    # The primary video card is moved to the front.
    found["video"] = sorted(found.get("video", []), key=lambda at: not wanted[at].facts.get("primary"))
    return found


def controllers_in_order(wanted: Sequence[Wanted], positions: Sequence[int]) -> list[int]:
    """Types in the order of their first controller, each type by index, companions after their master.

    One whose XML has no index stays behind those of its type that were written before it.  Implied ones come last, but
    for the newest libvirt, which sorts them as well.
    """
    groups: dict[str, list[tuple[int, int, bool]]] = {}
    for at in positions:
        one = wanted[at]
        if one.element is None and not one.facts.get("sorted"):
            continue
        unnumbered = one.element is not None and one.element.get("@index") is None
        new = (-1 if unnumbered else index_of(one), at, is_companion(one))
        group = groups.setdefault(type_of(one), [])
        group.insert(_insert_at(group, new), new)
    found = [at for group in groups.values() for _, at, _ in group]
    return found + sorted(set(positions) - set(found))


def _insert_at(group: list[tuple[int, int, bool]], new: tuple[int, int, bool]) -> int:
    index, _, companion = new
    if index == -1 or not group:
        return len(group)
    place = None
    for number in range(len(group) - 1, -1, -1):
        other, _, other_companion = group[number]
        if other > index or (other == index and other_companion and not companion):
            place = number
        elif place is None:
            place = number + 1
            if other != -1 and other != index:
                break  # sorted from here on: nothing before it has a higher index
    return len(group) if place is None else place


def is_companion(wanted: Wanted) -> bool:
    """Whether a USB controller is the companion of another: ``<master startport=.../>``."""
    return wanted.facts.get("master") is not None


def ranked(kinds: Iterable[str], ranks: Sequence[str]) -> list[str]:
    """Kinds in libvirt's order, those that have no rank in it by name at the end.

    >>> ranked(["rng", "pstore", "disk"], ("disk", "rng"))
    ['disk', 'rng', 'pstore']
    """
    return sorted(kinds, key=lambda kind: (ranks.index(kind) if kind in ranks else len(ranks), kind))


def target_of(wanted: Wanted) -> str:
    """The name of a disk's target, ``vdb``; "" for what has none."""
    return str(wanted.facts.get("target", ""))


def wholes(wanted: Sequence[Wanted]) -> dict[int, int]:
    """Position of a part (``sound/codec``) -> position of its device: the last of that kind before it."""
    last: dict[str, int] = {}
    found: dict[int, int] = {}
    for at, one in enumerate(wanted):
        whole, _, part = one.kind.partition("/")
        if part and whole in last:
            found[at] = last[whole]
        last[one.kind] = at
    return found
