"""Ids, as libvirt names devices: by kind and position, drives by address, controllers by index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from mdtool.guest.allocation.controllers import controllers_of, index_of, model_of, type_of
from mdtool.guest.allocation.order import arrays, target_of, wholes
from mdtool.guest.disk_buses import disk_number
from mdtool.guest.model import Wanted
from mdtool.machine.values import small_number
from mdtool.records import replace

USER = "ua-"  # how an alias begins that a user chose; libvirt takes no other from an inactive guest

#: SCSI controllers on whose drives libvirt writes no target: a unit is all that a drive has there.
_NARROW = ("lsilogic",)

#: Devices that libvirt gives no id at all.
ANONYMOUS = frozenset(
    {
        "isa-fdc", "ich9-usb-uhci1", "ich9-usb-uhci2", "ich9-usb-uhci3", "pvpanic", "pvpanic-pci", "vmcoreinfo",
        "uefi-vars-x64", "uefi-vars-sysbus",
    }
)  # fmt: skip


def with_ids(wanted: Sequence[Wanted], taken: Collection[str] = ()) -> list[Wanted]:
    """Fill in every id: ``net0``, ``virtio-disk0``, ``sata0-0-1``, ``pci.1``; an id that is filled stays.

    ``wanted`` is what ``allocate`` gives: drives are named after their place.  ``taken`` are the ids of what is no wanted
    device; no new device gets one.  A device whose number is taken gets the next one after all of its kind.
    Where two devices come with the same id (libvirt's own aliases in an edited XML), the second one is renamed, unless
    a user chose both: that is left for QEMU to refuse.
    """
    names = _Names(taken)
    given = sorted((at for at, one in enumerate(wanted) if one.id is not None), key=lambda at: _is_hint(wanted[at]))
    kept = {at for at in given if names.keep(str(wanted[at].id)) or user_alias(wanted[at].id)}
    ids: dict[int, str | None] = {at: wanted[at].id for at in kept}
    order = arrays(wanted)
    narrow = {index for index, one in controllers_of(wanted, "scsi").items() if model_of(one) in _NARROW}
    for kind, positions in order.items():
        counted = [at for at in positions if not (kind in _UNCOUNTED and user_alias(wanted[at].id))]
        for number, at in enumerate(counted):
            one = wanted[at]
            if at not in kept and one.driver not in ANONYMOUS and "/" not in one.kind and one.kind != "commandline":
                prefix, wish = _name(one, kind, number, narrow)
                ids[at] = names.give(prefix, wish)
    for at, whole in wholes(wanted).items():
        if at not in kept:  # ``sound0-codec1``
            number = wanted[at].facts.get("number", 0)
            part = wanted[at].kind.partition("/")[2]
            ids[at] = names.give(f"{ids.get(whole)}-{part}", number if isinstance(number, int) else None)
    return [one if one.id == ids.get(at) else replace(one, id=ids.get(at)) for at, one in enumerate(wanted)]


#: Kinds where a device with a user's alias takes no number: the NIC after ``ua-net`` is ``net0``.
_UNCOUNTED = frozenset({"interface", "filesystem", "rng"})


def user_alias(name: str | None) -> str | None:
    """The alias where a user chose it, None where libvirt did.

    >>> user_alias("ua-data"), user_alias("net0")
    ('ua-data', None)
    """
    return name if name and name.startswith(USER) else None


def _is_hint(one: Wanted) -> bool:
    """Whether an id is only what the XML says of libvirt's own naming, and not the id of a node."""
    return one.element is not None and one.element.get("alias/@name") == one.id and user_alias(one.id) is None


def _name(one: Wanted, kind: str, number: int, narrow: Collection[int]) -> tuple[str, int | None]:
    """(prefix, number) of the id that libvirt would give; None for a name without a number."""
    named = _BY_KIND.get(kind)
    if named is not None:
        return named(one, narrow) if kind == "disk" else named(one, ())
    return one.alias or kind, number


def _controller(one: Wanted, _: Collection[int]) -> tuple[str, int | None]:
    type_, index = type_of(one), index_of(one)
    if type_ == "pci":
        return ("pcie." if model_of(one) == "pcie-root" else "pci."), index
    if index == 0 and (type_ == "usb" or (type_ in ("ide", "sata") and not one.driver)):
        return ("usb" if type_ == "usb" else "ide"), None
    return type_, index


def _disk(one: Wanted, narrow: Collection[int]) -> tuple[str, int | None]:
    bus, address = str(one.facts.get("bus", "")), one.address
    if address is None or address.type != "drive":
        return f"{bus}-disk", max(disk_number(target_of(one)), 0)
    controller = address.get("controller", 0)
    target = f"{address.get('target', 0)}-" if bus == "scsi" and controller not in narrow else ""
    return f"{bus}{controller}-{address.get('bus', 0)}-{target}", address.get("unit", 0)


def _memory(one: Wanted, _: Collection[int]) -> tuple[str, int | None]:
    slot = one.address.get("slot") if one.address is not None and one.address.type == "dimm" else None
    return one.alias or "dimm", slot if slot is not None else 0


_BY_KIND: Mapping[str, Callable[[Wanted, Collection[int]], tuple[str, int | None]]] = {
    "controller": _controller,
    "disk": _disk,
    "memory": _memory,
    "zpci": lambda one, _: ("zpci", one.address["uid"] if one.address is not None else 0),
}


def is_counted(one: Wanted) -> bool:
    """Whether an id ends in the device's position among its kind, ``net0``, and not in its place."""
    return one.kind not in _BY_KIND and "/" not in one.kind


class _Names:
    """The ids in use, and for each prefix the number from which on all are free."""

    def __init__(self, taken: Collection[str]) -> None:
        self.used = set(taken)
        self.next: dict[str, int] = {}

    def keep(self, name: str) -> bool:
        """Note an id that a device came with; False where it is another's."""
        free = name not in self.used
        self.used.add(name)
        return free

    def give(self, prefix: str, wish: int | None) -> str:
        name = prefix if wish is None else f"{prefix}{wish}"
        if name in self.used:
            if prefix not in self.next:
                rests = (name[len(prefix) :] for name in self.used if name.startswith(prefix))
                self.next[prefix] = max([0, *(small_number(rest) for rest in rests)])
            self.next[prefix] += 1
            name = f"{prefix}{self.next[prefix]}"
            while name in self.used:
                self.next[prefix] += 1
                name = f"{prefix}{self.next[prefix]}"
        self.used.add(name)
        return name
