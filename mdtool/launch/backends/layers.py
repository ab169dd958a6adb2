"""What lies over the image of a disk: limits, and the overlay of a <transient/> one.

vda-throttle    limits: the device goes through them; vda-throttle-2 and so on where <throttlefilters> has several
vda-transient   no node but a -drive: what is written goes to a file without a name that QEMU makes (in TMPDIR, or
                /var/tmp) and that is removed with it; everything below is read only
"""

from __future__ import annotations

from typing import Any

from mdtool.errors import InputError, choices
from mdtool.guest.xml import Element
from mdtool.launch.backends.base import NOTHING, Backend, Host, given, listed, option, refused, whole

#: libvirt's words of <iotune> -> the limits of a throttle group
_LIMITS = {
    f"{amount}_{unit}_sec{part}": f"{'bps' if unit == 'bytes' else 'iops'}-{amount}{tail}"
    for amount in ("total", "read", "write")
    for unit in ("bytes", "iops")
    for part, tail in (("", ""), ("_max", "-max"), ("_max_length", "-max-length"))
}
_LIMITS["size_iops_sec"] = "iops-size"
#: names of elements that are read and stand nowhere in this text
READS = frozenset(_LIMITS)


def _throttle(name: str, number: int) -> str:
    return f"{name}-throttle" if number == 1 else f"{name}-throttle-{number}"


def is_transient(element: Element) -> bool:
    return element.first("transient") is not None


def top_layer(element: Element, name: str) -> str:
    """The name that the device refers to, "" if nothing lies over the image."""
    if is_transient(element):
        return f"{name}-transient"
    filters = list(element.all("throttlefilters/throttlefilter"))
    return _throttle(name, max(len(filters), 1)) if filters or element.first("iotune") is not None else ""


def layers_over(element: Element, name: str, below: str, host: Host) -> Backend:
    """What is put over the node ``below`` of a disk whose nodes are named after ``name``."""
    made = NOTHING
    groups = _groups(element, name, host)
    if is_transient(element):
        return _transient(element, name, below, groups)
    for number, (group, limits) in enumerate(groups.items(), start=1):
        node = _throttle(name, number)
        made += Backend(option("-object", qom_type="throttle-group", id=group, limits=limits))
        made += Backend(option("-blockdev", driver="throttle", node_name=node, throttle_group=group, file=below))
        below = node
    return made


Limits = dict[str, int | None]


def _groups(element: Element, name: str, host: Host) -> dict[str, Limits]:
    """The throttle groups that a disk is under, the lowest first: group -> its limits."""
    tune = element.first("iotune")
    if tune is not None:
        return {tune.get("group_name") or f"{name}-limits": _limits(tune)}
    known = {group.get("group_name"): group for group in host.guest.domain.all("throttlegroups/throttlegroup")}
    found: dict[str, Limits] = {}
    for wish in element.all("throttlefilters/throttlefilter"):
        group = given(wish, "@group")
        if group not in known:
            what, have = f"<throttlefilter>: there is no group {group!r}", choices(str(one) for one in known)
            raise InputError(what, at=wish.position, expected=have or "a <throttlegroup>", rule="throttle-group")
        found[f"throttle-{group}"] = _limits(known[group])
    return found


def _limits(holder: Element) -> Limits:
    return {_LIMITS[child.tag]: whole(holder, child.tag) for child in holder if child.tag in _LIMITS}


def _transient(element: Element, name: str, below: str, groups: dict[str, Limits]) -> Backend:
    """QEMU's own overlay over everything that is below, with the limits on top of it."""
    if len(groups) > 1 or element.get("driver/@copy_on_read") == "on":
        raise refused(element, "<transient/> with several filters, or with copy_on_read", path="transient")
    if element.get("@device") == "lun" or element.get("transient/@shareBacking") == "yes":
        raise refused(element, "<transient/> of a LUN, or of an image that guests share", path="transient")
    throttling: dict[str, Any] = {
        f"throttling.{limit}": value for limits in groups.values() for limit, value in limits.items() if value is not None
    }
    if throttling:
        throttling["throttling.group"] = next(iter(groups))
    words = listed(
        "-drive",
        **{"if": "none", "id": f"{name}-transient", "snapshot": True},
        driver="raw",
        **{"file.driver": "raw", "file.file": below},
        **throttling,
    )
    return Backend(words)
