"""What libvirt refuses of a guest's devices taken together: one name or number for two, a second of an only one.

Places that two devices have are found where all devices have theirs (``reconcile.collisions``), numbers that are no place
where it is known what has how many (``guest.allocation``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mdtool.errors import InputError, Report
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.xml import Element
from mdtool.machine.buses.kinds import KINDS, kind_of_driver

Check = Callable[[Guest, Sequence[Wanted]], Iterator[InputError]]

#: Kinds whose origin names a place that only one can have; the others are numbered.
_UNIQUE = {
    "controller": "two controllers of one type have the same index",
    "disk": "two disks have the same target",
    "memballoon": "a guest has one memory balloon",
    "iommu": "a guest has one IOMMU",
    "vsock": "a guest has one vsock",
    "nvram": "a guest has one NVRAM",
    "pstore": "a guest has one store for what crashed",
}


def _twins(_: Guest, wanted: Sequence[Wanted]) -> Iterator[InputError]:
    """The second one would be another device at every start."""
    for one in wanted:
        origin, twin, _n = one.origin.partition("#")
        if twin and one.kind in _UNIQUE:
            what = f"{one.kind}: {_UNIQUE[one.kind]} ({origin.partition('/')[2] or origin})"
            yield InputError(what, at=one.position, remedy="remove or rename one of them", rule="unique")


#: Kinds of which a guest has only one (True), or one of each model.
_ONE = {"tpm": True, "panic": False}


def _second(_: Guest, wanted: Sequence[Wanted]) -> Iterator[InputError]:
    seen: set[tuple[str, str]] = set()
    for one in wanted:
        if one.kind not in _ONE or one.driver == "spapr-tpm-proxy":
            continue
        model = "" if _ONE[one.kind] else f" {one.facts['choice']}"
        if (one.kind, model) in seen:
            what = f"{one.kind}: a guest has one{model}"
            yield InputError(what, at=one.position, remedy="remove one of them", rule="unique")
        seen.add((one.kind, model))


#: where a number stands that no two elements may have -> what it is, and whose; "" for any element's
_NUMBERS = {"boot/@order": ("boot order", ""), "target/@port": ("port", "serial")}


def _numbers(guest: Guest, _: Sequence[Wanted]) -> Iterator[InputError]:
    seen: dict[tuple[str, str], Element] = {}
    for element in guest.devices:
        for path, (name, tag) in _NUMBERS.items():
            number = element.get(path) if tag in ("", element.tag) else None
            if number is None:
                continue
            if path == "target/@port" and element.get("target/@type") not in (None, "isa-serial"):
                continue  # QEMU numbers those of ISA alone
            if (other := seen.setdefault((path, number), element)) is not element:
                what = f"{element.tag}: {name} {number} is that of {other.position} too"
                yield InputError(what, at=element.at(path), remedy="give each its own", rule="unique")


#: What only the first graphics card can be.
_FIRST = ("vga", "cirrus", "vmvga", "ramfb")


def _cards(_: Guest, wanted: Sequence[Wanted]) -> Iterator[InputError]:
    cards = [one for one in wanted if one.kind == "video"]
    for one in cards:
        model, at = one.facts.get("model"), one.element.at("model") if one.element is not None else None
        if model == "none" and len(cards) > 1:
            what = "video: a card of model none is the only one"
            yield InputError(what, at=at, remedy="remove it, or the others", rule="unique")
        elif model in _FIRST and not one.facts.get("primary"):
            what = f"video: only the first card can be {model}"
            remedy = "make it the primary one, or another model: virtio, qxl, bochs"
            yield InputError(what, at=at, remedy=remedy, rule="unique")


def _isa(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[InputError]:
    """What only a machine with an ISA bus has: a PC, mostly."""
    if guest.has_isa:
        return
    for one in wanted:
        is_isa = bool(one.driver) and (kind_of_driver(one.driver) is KINDS["isa"] or one.driver in _PC_ONLY)
        if one.kind != "commandline" and (is_isa or one.facts.get("bus") in ("ps2", "fdc")):
            what = f"{one.kind}: this machine has no ISA bus, and no {one.driver or one.facts.get('choice')}"
            yield InputError(what, at=one.position, remedy="choose another model or bus, or remove it", rule="machine-has")


#: devices that sit on no ISA bus, and that only PCs have
_PC_ONLY = frozenset({"floppy", "isa-fdc", "tpm-crb", "intel-iommu", "amd-iommu"})

CHECKS: Sequence[Check] = (_twins, _second, _numbers, _cards, _isa)


def check_together(guest: Guest, wanted: Sequence[Wanted], report: Report) -> None:
    """Every fault to ``report``."""
    for check in CHECKS:
        for fault in check(guest, wanted):
            report.error(fault)
