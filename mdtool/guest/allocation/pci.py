"""PCI: which slot and function a device gets, and the ports and bridges that it takes.

The rules are libvirt's.  A first pass, on buses that may grow, finds out how many ports and bridges the guest needs;
they become controllers, and a second pass gives out addresses, controllers first.  Devices go where they could be
hot-plugged: never onto pcie.0 but behind a root port, or, where they are conventional PCI, onto a bridge behind one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import count

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import controllers_of, implied, index_of, is_placed, model_of, type_of
from mdtool.guest.allocation.needs import Need, need_of
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.allocation.order import Arrays, arrays, controllers_in_order, ranked
from mdtool.guest.allocation.pci_buses import Buses, Full, out_of_slots
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.machine.buses.pci import EXPANDERS, HOST_BRIDGE
from mdtool.records import replace

#: USB controllers of one slot: model -> function.
USB2 = {"ich9-ehci1": 7, "ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2}


class _Pass:
    """One walk over the devices: the addresses that it gives, by position."""

    def __init__(self, guest: Guest, devices: list[Wanted], occupied: Occupied, *, reuse: bool, grows: bool) -> None:
        self.guest = guest
        self.devices = devices
        self.order: Arrays = arrays(devices)
        self.buses = Buses(devices, occupied, reuse=reuse, grows=grows)
        self.given: dict[int, Address] = {}

    def address(self, at: int) -> Address | None:
        return self.given.get(at) or self.devices[at].address

    def wants(self, at: int) -> Need | None:
        """What the device at a position plugs into, where it is a PCI device that has no place yet."""
        address = self.address(at)
        if address is not None and (address.type != "pci" or is_placed(address)):
            return None
        return self.need(at)

    def need(self, at: int) -> Need | None:
        return self.buses.need(self.devices[at])

    def give(self, at: int, address: Address | None = None, *, function: int = 0) -> None:
        """Put a device at ``address``, or where there is room."""
        need = self.need(at) or Need("pci")
        if address is None:
            try:
                address = self.buses.next(need, function)
            except Full:
                raise out_of_slots(self.devices[at], need, self.buses.buses) from None
        else:
            self.buses.occupy(address, need)
        self.given[at] = address

    def all(self) -> None:
        for at in self.order["controller"]:
            if type_of(self.devices[at]) == "pci" and self.wants(at):
                self.give(at)
        for kind in _BEFORE:
            self._plain(kind)
        for at in self.order["controller"]:
            if type_of(self.devices[at]) != "pci" and self.wants(at):
                self._controller(at)
        for kind in ranked(set(self.order) - {*_BEFORE, "controller", "commandline"}, _AFTER):
            self._plain(kind)

    def _plain(self, kind: str) -> None:
        for at in self.order.get(kind, ()):
            if self.wants(at):
                self.give(at)

    def _controller(self, at: int) -> None:
        one = self.devices[at]
        function = USB2.get(model_of(one))
        if type_of(one) != "usb" or function is None:
            self.give(at)
            return
        slot = self._slot_of_usb2(index_of(one))
        if slot is None:
            self.give(at, function=function)
        else:
            self.give(at, Address("pci", {**slot.numbers, "function": function}))
        address = self.given[at]
        if function == 0:
            self.given[at] = Address("pci", {**address.numbers, "multifunction": True})
        elif "multifunction" in address.numbers:
            self.given[at] = Address("pci", {k: v for k, v in address.numbers.items() if k != "multifunction"})

    def _slot_of_usb2(self, index: int) -> Address | None:
        for at in self._usb2.get(index, ()):
            address = self.address(at)
            if address is not None and address.type == "pci" and (is_placed(address) or at in self.given):
                return address
        return None

    @cached_property
    def _usb2(self) -> Mapping[int, list[int]]:
        found: dict[int, list[int]] = {}
        for at in self.order["controller"]:
            if type_of(self.devices[at]) == "usb" and model_of(self.devices[at]) in USB2:
                found.setdefault(index_of(self.devices[at]), []).append(at)
        return found

    # What a chipset has at places of its own

    def chipset(self) -> None:
        family = self.guest.family
        if not self.buses.buses or family is None:
            return
        for at in self.order["controller"]:
            place = family.controllers.get((type_of(self.devices[at]), model_of(self.devices[at])))
            if place is not None and not index_of(self.devices[at]):
                self._fixed(at, *place)
        for at in self.order["controller"]:
            self._preferred(at, (type_of(self.devices[at]), model_of(self.devices[at])))
        for slot, function in family.slots():
            self._reserve(slot, function)
        if family.video is not None:
            self._video(family.video)
        for at in self.order.get("sound", ()):
            self._preferred(at, ("sound", self.devices[at].driver))

    def _reserve(self, slot: int, function: int) -> None:
        self.buses.occupy(_at(slot, function))

    def _fixed(self, at: int, slot: int, function: int) -> None:
        """The chipset's own controller of a type: index 0 is at its place, whatever else is there."""
        address = self.devices[at].address
        if address is None or (address.type == "pci" and not is_placed(address)):
            self.given[at] = _at(slot, function)
        self._reserve(slot, function)

    def _preferred(self, at: int, what: tuple[str, str]) -> None:
        """Where real hardware has it."""
        row = self.guest.family.preferred.get(what) if self.guest.family is not None else None
        if row is None or not self.wants(at) or (row.bare and self.devices[at].address is not None):
            return
        free = next((_at(slot) for slot in row.slots if not self.buses.in_use(slot)), None)
        if free is not None:
            self.give(at, free)
            if row.multifunction:
                self.given[at] = Address("pci", {**free.numbers, "multifunction": True})

    def _video(self, slot: int) -> None:
        """The primary video card: at its usual slot, or, where that is taken, at the next that is free."""
        videos = [at for at in self.order["video"] if self.devices[at].driver != "ramfb"]
        if not videos or videos[0] != self.order["video"][0] or not self.wants(videos[0]):
            return
        if self.buses.in_use(slot):
            self.give(videos[0])
        else:
            self.give(videos[0], _at(slot))


def _at(slot: int, function: int = 0) -> Address:
    return Address("pci", {"domain": 0, "bus": 0, "slot": slot, "function": function})


#: Kinds in the order in which they get their places; controllers come between.
_BEFORE = ("filesystem", "interface", "sound")
_AFTER = (
    "disk", "hostdev", "memballoon", "rng", "watchdog", "video", "shmem", "input", "serial", "vsock", "memory", "crypto",
    "pstore", "iommu", "panic", "tpm", "console", "channel", "parallel",
)  # fmt: skip


def with_pci_places(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every PCI device with its place; new ports and bridges at the end.  Raises InputError out of slots.

    On ARM's boards without PCI, and on a machine that no row knows and whose XML names no root, nothing is placed: QEMU
    has the last word on what it finds there.
    """
    open_ = guest.family is None or guest.is_arm
    if open_ and not any(type_of(one) == "pci" for one in wanted):
        return list(wanted)
    try:
        return _attempt(guest, list(wanted), occupied, reuse=False)
    except InputError:
        if not any(address.type == "pci" for address in occupied.retired):
            raise
        return _attempt(guest, list(wanted), occupied, reuse=True)


def _attempt(guest: Guest, devices: list[Wanted], occupied: Occupied, *, reuse: bool) -> list[Wanted]:
    devices += _new_buses(guest, devices, occupied, reuse)
    walk = _Pass(guest, devices, occupied, reuse=reuse, grows=False)
    walk.chipset()
    walk.all()
    placed = [replace(one, address=walk.given[at]) if at in walk.given else one for at, one in enumerate(devices)]
    _refuse_rings(placed)
    return _numbered(_multifunction(placed))


def _refuse_rings(devices: Sequence[Wanted]) -> None:
    """A port that hangs, over others or at once, on its own bus: libvirt lets some pass, and QEMU cannot start them."""
    ports = {index: one for index, one in controllers_of(devices, "pci").items() if one.address is not None}
    rooted: set[int] = set()
    for index in ports:
        path: list[int] = []
        while index in ports and index not in rooted:
            if index in path:
                ring = sorted(path[path.index(index) :])
                one = min((ports[at] for at in ring), key=lambda one: one.element is None)
                raise InputError(
                    f"PCI controllers {', '.join(map(str, ring))} would hang on each other, none on a root bus",
                    at=one.position,
                    remedy="put them in the order in which they hang: a port before what is plugged into it",
                    rule="pci-ring",
                )
            path.append(index)
            index = int((ports[index].address or Address("pci")).get("bus", 0))
        rooted |= set(path)


def _new_buses(guest: Guest, devices: list[Wanted], occupied: Occupied, reuse: bool) -> list[Wanted]:
    """The controllers that a first pass finds missing."""
    known = controllers_of(devices, "pci")
    if not known:
        return []
    walk = _Pass(guest, devices, occupied, reuse=reuse, grows=True)
    buses = walk.buses
    walk.chipset()
    if not buses.pcie and not reuse and any(bus.free() for bus in buses.buses):
        _try_next(buses, Need("pci"))  # room for a bridge, should one be needed
    walk.all()
    if known.keys() == {0} and len(buses.buses) > 1 and buses.pcie:
        _try_next(buses, Need("pcie"))  # one port that is free, for a device to be hot-plugged
    found: list[Wanted] = []
    index = 0
    while index < len(buses.buses):  # placing a new bridge may take a further one
        if index not in known and buses.buses[index].name:
            one = implied(guest, "pci", buses.buses[index].name, index)
            found.append(one)
            if need := need_of(one):
                try:
                    buses.next(need)
                except Full:
                    first = _first_beyond(walk, index) or one
                    raise out_of_slots(first, buses.need(first) or need, buses.buses[:index]) from None
        index += 1
    return found


def _first_beyond(walk: _Pass, index: int) -> Wanted | None:
    """The first device that the first pass could put only on a bus that there is no room for."""
    beyond = (at for at, address in walk.given.items() if address["bus"] >= index)
    return next((walk.devices[at] for at in beyond), None)


def _try_next(buses: Buses, need: Need) -> None:
    try:
        buses.next(need)
    except Full:
        return


def _multifunction(devices: Sequence[Wanted]) -> list[Wanted]:
    """Function 0 of a slot with further functions says so."""
    slots = [_slot(one) for one in devices]
    used = Counter(slots)
    return [
        replace(one, address=Address("pci", {**one.address.numbers, "multifunction": True}))
        if slot is not None
        and one.address is not None
        and used[slot] > 1
        and not one.address.get("function")
        and "multifunction" not in one.address.numbers
        and one.driver
        else one
        for one, slot in zip(devices, slots, strict=True)
    ]


def _slot(one: Wanted) -> tuple[int, int, int] | None:
    if one.address is None or one.address.type != "pci" or not is_placed(one.address):
        return None
    given = one.address.numbers.get
    return given("domain", 0), given("bus", 0), given("slot", 0)


def _numbered(devices: Sequence[Wanted]) -> list[Wanted]:
    """Expander buses with their bus numbers: two below the lowest so far, from 256 down; host bridges from 1 up."""
    numbered = list(devices)
    bridges = [at for at, one in enumerate(devices) if one.driver == HOST_BRIDGE]
    given = {int(devices[at].facts["targetIndex"]) for at in bridges if devices[at].facts.get("targetIndex") is not None}
    free = (number for number in count(1) if number not in given)
    for at in controllers_in_order(devices, bridges):
        if devices[at].facts.get("targetIndex") is None:
            numbered[at] = replace(devices[at], facts={**devices[at].facts, "targetIndex": next(free)})
    lowest = min((int(one.facts["busNr"]) for one in devices if one.facts.get("busNr") is not None), default=256)
    for at in controllers_in_order(devices, [at for at, one in enumerate(devices) if model_of(one) in EXPANDERS]):
        if devices[at].facts.get("busNr") is None:
            lowest -= 2
            numbered[at] = replace(devices[at], facts={**devices[at].facts, "busNr": lowest})
    return numbered
