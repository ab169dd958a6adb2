"""PCI: which slot and function a device gets, and the ports and bridges that it takes.

The rules are libvirt's.  A first pass, on buses that may grow, finds out how many ports and bridges the guest needs;
they become controllers, and a second pass gives out addresses, controllers first.  Devices go where they could be
hot-plugged: never onto pcie.0 but behind a root port, or, where they are conventional PCI, onto a bridge behind one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import NamedTuple

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import implied, index_of, is_placed, model_of, type_of
from mdtool.guest.allocation.occupied import NOTHING, Occupied
from mdtool.guest.allocation.order import Arrays, arrays, controllers_in_order
from mdtool.guest.model import Guest, Spot, Wanted
from mdtool.machine.buses.pci import EXPANDERS, HOST_BRIDGE, PCI_MODELS, ROOTS, PciModel


class Need(NamedTuple):
    """What a device plugs into: ``pci``, ``pcie``, ``integrated`` (the root bus alone), or a PCI controller's model.

    ``below`` is a bridge's own index: it sits on a bus with a lower one.
    """

    kind: str
    below: int | None = None

    @property
    def shares(self) -> bool:
        """Whether it takes single functions of a slot whose other functions are of its kind."""
        return self.kind == "pcie-root-port"


_NOBODYS = PciModel((), "", frozenset(), last=0)  # a bus that belongs to no wanted controller: nothing new goes there

#: Endpoints that are PCI Express devices; virtio is one where its driver is not transitional.
_EXPRESS = frozenset({
    "e1000e", "igb", "nec-usb-xhci", "qemu-xhci", "vfio-pci", "vfio-pci-nohotplug", "nvme", "bochs-display",
})  # fmt: skip

#: Controllers that are PCI devices, beside those of type ``pci``.
_CONTROLLERS = frozenset({"usb", "scsi", "virtio-serial", "sata", "ide", "nvme"})

#: Conventional PCI devices by driver, for the kinds whose other drivers sit elsewhere.
_CONVENTIONAL = frozenset({
    "ES1370", "AC97", "intel-hda", "ich9-intel-hda", "i6300esb", "pci-serial", "ivshmem-plain", "ivshmem-doorbell",
    "VGA", "cirrus-vga", "vmware-svga", "qxl", "qxl-vga", "secondary-vga", "ati-vga", "acpi-erst",
})  # fmt: skip

#: Network devices that libvirt knows as conventional PCI ones; one that it does not know at all it takes for Express.
_CONVENTIONAL_NICS = frozenset({"e1000", "rtl8139", "vmxnet3", "lan9118"})

#: Network devices that are no PCI devices.
_NO_PCI_NICS = frozenset({"usb-net", "ne2k_isa", "spapr-vlan", ""})

#: Kinds in the order in which libvirt notes the addresses that the XML gives.
KINDS = (
    "disk", "interface", "sound", "hostdev", "video", "controller", "serial", "input", "filesystem", "watchdog",
    "memballoon", "rng", "shmem", "panic", "memory", "iommu", "vsock", "crypto", "pstore",
)  # fmt: skip
_COLLECTED = {kind: number for number, kind in enumerate(KINDS)}
_MAX_BUSES = 256

#: USB controllers of one slot: model -> function.
USB2 = {"ich9-ehci1": 7, "ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2}


def need_of(wanted: Wanted) -> Need | None:
    """What a device plugs into, or None where it is no PCI device (or the root of all)."""
    type_ = type_of(wanted)
    if type_ == "pci":
        model = model_of(wanted)
        if model in ROOTS or model not in PCI_MODELS:
            return None
        return Need(model, index_of(wanted)) if model == "pci-bridge" else Need(model)
    driver = wanted.driver
    if wanted.origin == "iommu/amd/pci":
        return Need("integrated")
    if not driver and type_ not in ("sata", "ide"):
        return None
    if driver.startswith(("virtio-", "vhost-")) and (wanted.kind != "interface" or "transport" in wanted.facts):
        if driver.endswith("-pci-transitional"):
            return Need("pci")
        if wanted.kind == "crypto" and "-pci" in driver:
            return Need("pci")  # libvirt 11 takes it for a conventional device
        if driver in ("virtio-iommu", "virtio-iommu-pci"):
            return Need("integrated")
        return Need("pcie") if "-pci" in driver or driver.startswith(("virtio-vga", "vhost-user-vga")) else None
    if driver == "pvpanic-pci":
        return Need("integrated")
    if driver in _EXPRESS:
        return Need("pcie")
    if wanted.kind == "interface" and driver not in _NO_PCI_NICS:
        return Need("pci" if driver in _CONVENTIONAL_NICS else "pcie")
    conventional = driver in _CONVENTIONAL or (type_ in _CONTROLLERS and driver != "spapr-vscsi")
    return Need("pci") if conventional else None


@dataclass(slots=True)
class _Bus:
    """A bus being filled: slot -> bits of its functions in use; the slots whose functions may be shared."""

    model: PciModel
    name: str
    used: dict[int, int] = field(default_factory=dict)
    retired: dict[int, int] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)

    def takes(self, need: Need) -> bool:
        return need.kind in self.model.takes

    def slots(self) -> range:
        return range(self.model.first, self.model.last + 1)

    def taken(self, slot: int, *, never: bool = True) -> int:
        """The functions in use; with ``never`` those that ever were."""
        return self.used.get(slot, 0) | (self.retired.get(slot, 0) if never else 0)

    def free(self) -> int:
        return sum(not self.used.get(slot) for slot in self.slots())


class _Full(Exception):
    """No place for a need, and no bus to be had."""

    def __init__(self, need: Need) -> None:
        super().__init__(need.kind)
        self.need = need


class _Buses:
    """All PCI buses of a guest while addresses are given out; ``grows`` in the first pass, which adds buses at its end."""

    def __init__(self, guest: Guest, devices: Sequence[Wanted], occupied: Occupied, *, reuse: bool, grows: bool) -> None:
        self.grows = grows
        self.reuse = reuse
        self.pcie = False
        self.buses: list[_Bus] = []
        self._cursor: dict[Need, int] = {}
        controllers = {index_of(one): one for one in devices if type_of(one) == "pci"}
        if not controllers:
            return
        root = model_of(controllers[0]) if 0 in controllers else "pci-root"
        self.pcie = root == "pcie-root"
        default = "pcie-root-port" if self.pcie else "pci-bridge"
        self._marks = _by_bus(occupied)
        self._others = (frozenset(occupied.indices) | {bus for bus, mark in self._marks.items() if mark.spots}) - set(
            controllers
        )
        for index in range(max(controllers) + 1):
            if index not in self._others:
                one = controllers.get(index)
                self._add(model_of(one) if one else default)
        there = [one for one in devices if one.spot is not None and one.spot.type == "pci" and is_placed(one.spot)]
        for one in sorted(there, key=lambda one: _COLLECTED.get(one.kind, len(_COLLECTED))):
            if (need := self.need(one)) and one.spot is not None:
                if self.grows:
                    self._grow_to(int(one.spot.get("bus", 0)), need)
                self.occupy(one.spot, need)

    def _add(self, model: str) -> None:
        """Add a bus, past those that belong to others, with what is taken on it already."""
        while len(self.buses) in self._others:
            self.buses.append(_Bus(_NOBODYS, ""))
        marks = self._marks.get(len(self.buses), NOTHING)
        self.buses.append(_Bus(PCI_MODELS.get(model, PCI_MODELS["pci-bridge"]), model))
        for spot in marks.spots:
            self.occupy(spot)
        for spot in marks.retired:
            _mark(self.buses[-1].retired, spot.get("slot", 0), spot.get("function", 0))

    def occupy(self, spot: Spot, need: Need | None = None) -> None:
        """Mark a place as taken by a device that has it already."""
        number, slot, function = spot.get("bus", 0), spot.get("slot", 0), spot.get("function", 0)
        if spot.type != "pci" or spot.get("domain", 0) or number >= len(self.buses):
            return
        bus = self.buses[number]
        first = not bus.used.get(slot)
        _mark(bus.used, slot, function)
        # A function 0 that says it stands alone stays alone: making it one of many is a change that its guest sees.
        if function == 0 and (spot.get("alone") or spot.get("multifunction") is False):
            bus.shared.discard(slot)
        elif need and need.shares and (first or slot in bus.shared):
            bus.shared.add(slot)

    def in_use(self, slot: int) -> bool:
        """Whether a slot of the root bus is, or ever was, anybody's."""
        return bool(self.buses and self.buses[0].taken(slot))

    def next(self, need: Need, function: int = 0) -> Spot:
        """The first free place for a need, taken; grows the buses where that is allowed.  Raises _Full."""
        if self.grows:  # what matters is how much room is needed; the second pass starts with the bridges
            need = Need(need.kind)
        place = self._find(need, function, never=True)
        if place is None and self.reuse:
            place = self._find(need, function, never=False)
        if place is None and self.grows and self._grow(need):
            place = self._find(need, function, never=True)
        if place is None:
            raise _Full(need)
        number, slot, free = place
        spot = Spot("pci", {"domain": 0, "bus": number, "slot": slot, "function": free})
        self.occupy(spot, need)
        return spot

    def _find(self, need: Need, function: int, *, never: bool) -> tuple[int, int, int] | None:
        last = len(self.buses) if need.below is None else min(need.below, len(self.buses))
        for number in range(self._cursor.get(need, 0) if never else 0, last):
            bus = self.buses[number]
            if not bus.takes(need):
                continue
            for slot in bus.slots():
                taken = bus.taken(slot, never=never)
                if not taken:
                    return self._found(need, number, never, (number, slot, function))
                if need.shares and slot in bus.shared and taken != 0xFF:
                    free = next(bit for bit in range(8) if not taken >> bit & 1)
                    return self._found(need, number, never, (number, slot, free))
        if never:
            self._cursor[need] = len(self.buses)
        return None

    def _found(self, need: Need, number: int, never: bool, place: tuple[int, int, int]) -> tuple[int, int, int]:
        if never:  # places are only ever taken, so a bus once full stays full
            self._cursor[need] = number
        return place

    def need(self, one: Wanted) -> Need | None:
        """``need_of``; where the root is conventional, every endpoint is a conventional PCI device."""
        need = need_of(one)
        return Need("pci") if need is not None and need.kind == "pcie" and not self.pcie else need

    def _grow_to(self, number: int, need: Need) -> None:
        """Add the buses that an address in the XML takes for granted."""
        while len(self.buses) <= number < _MAX_BUSES and self._grow(need):
            pass

    def _grow(self, need: Need) -> bool:
        """Add the buses that bring a place for ``need``; False where no bus would."""
        models = self._growth(need)
        for model in models:
            self._add(model)
        return bool(models)

    def _growth(self, need: Need) -> tuple[str, ...]:
        if need.kind in ("pci", "pci-bridge"):
            if not self.pcie or any("pci-bridge" in bus.model.takes for bus in self.buses):
                return ("pci-bridge",)
            return ("pcie-root-port", "pcie-to-pci-bridge")
        ports = ("pcie", "pcie-switch-upstream-port", "pcie-to-pci-bridge")
        return ("pcie-root-port",) if self.pcie and need.kind in ports else ()


def _by_bus(occupied: Occupied) -> dict[int, Occupied]:
    """What is taken on PCI buses, by the index of the bus."""
    found: dict[int, tuple[list[Spot], list[Spot]]] = {}
    for number, spots in enumerate((occupied.spots, occupied.retired)):
        for spot in spots:
            if spot.type == "pci" and not spot.get("domain"):
                found.setdefault(int(spot.get("bus", 0)), ([], []))[number].append(spot)
    return {bus: Occupied(spots, retired) for bus, (spots, retired) in found.items()}


def _mark(functions: dict[int, int], slot: int, function: int) -> None:
    functions[slot] = functions.get(slot, 0) | 1 << function


class _Pass:
    """One walk over the devices: the addresses that it gives, by position."""

    def __init__(self, guest: Guest, devices: list[Wanted], occupied: Occupied, *, reuse: bool, grows: bool) -> None:
        self.guest = guest
        self.devices = devices
        self.order: Arrays = arrays(devices)
        self.buses = _Buses(guest, devices, occupied, reuse=reuse, grows=grows)
        self.given: dict[int, Spot] = {}

    def spot(self, at: int) -> Spot | None:
        return self.given.get(at) or self.devices[at].spot

    def wants(self, at: int) -> Need | None:
        """What the device at a position plugs into, where it is a PCI device that has no place yet."""
        spot = self.spot(at)
        if spot is not None and (spot.type != "pci" or is_placed(spot)):
            return None
        return self.need(at)

    def need(self, at: int) -> Need | None:
        return self.buses.need(self.devices[at])

    def give(self, at: int, spot: Spot | None = None, *, function: int = 0) -> None:
        """Put a device at ``spot``, or where there is room."""
        need = self.need(at) or Need("pci")
        if spot is None:
            try:
                spot = self.buses.next(need, function)
            except _Full:
                raise out_of_slots(self.devices[at], need, self.buses.buses) from None
        else:
            self.buses.occupy(spot, need)
        self.given[at] = spot

    def all(self) -> None:
        for at in self.order["controller"]:
            if type_of(self.devices[at]) == "pci" and self.wants(at):
                self.give(at)
        for kind in _BEFORE:
            self._plain(kind)
        for at in self.order["controller"]:
            if type_of(self.devices[at]) != "pci" and self.wants(at):
                self._controller(at)
        for kind in _AFTER:
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
            self.give(at, Spot("pci", {**slot.numbers, "function": function}))
        spot = self.given[at]
        if function == 0:
            self.given[at] = Spot("pci", {**spot.numbers, "multifunction": True})
        elif "multifunction" in spot.numbers:
            self.given[at] = Spot("pci", {k: v for k, v in spot.numbers.items() if k != "multifunction"})

    def _slot_of_usb2(self, index: int) -> Spot | None:
        for at in self._usb2.get(index, ()):
            spot = self.spot(at)
            if spot is not None and spot.type == "pci" and (is_placed(spot) or at in self.given):
                return spot
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
        if not self.buses.buses:
            return
        if self.guest.is_i440fx:
            self._fixed("ide", 1, 1)
            self._fixed("usb", 1, 2)
            for function in (0, 1, 3):
                self._reserve(1, function)
            self._video(2)
        elif self.guest.is_q35:
            self._fixed("sata", 0x1F, 2)
            for at in self.order["controller"]:
                self._preferred(at)
            for function in (0, 2, 3):
                self._reserve(0x1F, function)
            self._video(1)
            for at in self.order.get("sound", ()):
                if self.devices[at].driver == "ich9-intel-hda" and self.wants(at) and not self.buses.in_use(0x1B):
                    self.give(at, _at(0x1B))

    def _reserve(self, slot: int, function: int) -> None:
        self.buses.occupy(_at(slot, function))

    def _fixed(self, type_: str, slot: int, function: int) -> None:
        """The chipset's own controller of a type: index 0 is at its place, whatever else is there."""
        for at in self.order["controller"]:
            one = self.devices[at]
            if type_of(one) == type_ and index_of(one) == 0 and (type_ != "usb" or model_of(one) == "piix3-uhci"):
                if not is_placed(one.spot) and (one.spot is None or one.spot.type == "pci"):
                    self.given[at] = _at(slot, function)
                self._reserve(slot, function)

    def _preferred(self, at: int) -> None:
        """Where real hardware has it: the first two UHCI at 1d and 1a, the DMI bridge at 1e."""
        one = self.devices[at]
        slots = {("usb", "ich9-uhci1"): (0x1D, 0x1A), ("pci", "dmi-to-pci-bridge"): (0x1E,)}
        if not self.wants(at):
            return
        for slot in slots.get((type_of(one), model_of(one)), ()):
            if not self.buses.in_use(slot):
                self.give(at, _at(slot))
                if model_of(one) == "ich9-uhci1":
                    self.given[at] = Spot("pci", {**_at(slot).numbers, "multifunction": True})
                return

    def _video(self, slot: int) -> None:
        """The primary video card: at its usual slot, or, where that is taken, at the next that is free."""
        videos = [at for at in self.order["video"] if self.devices[at].driver != "ramfb"]
        if not videos or videos[0] != self.order["video"][0] or not self.wants(videos[0]):
            return
        if self.buses.in_use(slot):
            self.give(videos[0])
        else:
            self.give(videos[0], _at(slot))


def _at(slot: int, function: int = 0) -> Spot:
    return Spot("pci", {"domain": 0, "bus": 0, "slot": slot, "function": function})


#: Kinds in the order in which they get their places; controllers come between.
_BEFORE = ("filesystem", "interface", "sound")
_AFTER = (
    "disk", "hostdev", "memballoon", "rng", "watchdog", "video", "shmem", "input", "serial", "vsock", "memory", "crypto",
    "pstore", "iommu", "panic", "tpm", "console", "channel", "parallel",
)  # fmt: skip


def with_pci_places(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every PCI device with its place; new ports and bridges at the end.  Raises InputError out of slots.

    On ARM's boards without PCI nothing is placed: QEMU has the last word on what it finds there.
    """
    if guest.arch.startswith(("arm", "aarch64")) and not any(type_of(one) == "pci" for one in wanted):
        return list(wanted)
    try:
        return _attempt(guest, list(wanted), occupied, reuse=False)
    except InputError:
        if not any(spot.type == "pci" for spot in occupied.retired):
            raise
        return _attempt(guest, list(wanted), occupied, reuse=True)


def _attempt(guest: Guest, devices: list[Wanted], occupied: Occupied, *, reuse: bool) -> list[Wanted]:
    devices += _new_buses(guest, devices, occupied, reuse)
    walk = _Pass(guest, devices, occupied, reuse=reuse, grows=False)
    walk.chipset()
    walk.all()
    placed = [replace(one, spot=walk.given[at]) if at in walk.given else one for at, one in enumerate(devices)]
    _refuse_rings(placed)
    return _numbered(_multifunction(placed))


def _refuse_rings(devices: Sequence[Wanted]) -> None:
    """A port that hangs, over others or at once, on its own bus: libvirt lets some pass, and QEMU cannot start them."""
    ports = {index_of(one): one for one in devices if type_of(one) == "pci" and one.spot is not None}
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
            index = int((ports[index].spot or Spot("pci")).get("bus", 0))
        rooted |= set(path)


def _new_buses(guest: Guest, devices: list[Wanted], occupied: Occupied, reuse: bool) -> list[Wanted]:
    """The controllers that a first pass finds missing."""
    highest = max((index_of(one) for one in devices if type_of(one) == "pci"), default=-1)
    if highest < 0:
        return []
    walk = _Pass(guest, devices, occupied, reuse=reuse, grows=True)
    buses = walk.buses
    walk.chipset()
    if not buses.pcie and not reuse and any(bus.free() for bus in buses.buses):
        _try_next(buses, Need("pci"))  # room for a bridge, should one be needed
    walk.all()
    if highest == 0 and len(buses.buses) > 1 and buses.pcie:
        _try_next(buses, Need("pcie"))  # one port that is free, for a device to be hot-plugged
    known = {index_of(one) for one in devices if type_of(one) == "pci"}
    found: list[Wanted] = []
    index = 0
    while index < len(buses.buses):  # placing a new bridge may take a further one
        if index not in known and buses.buses[index].name:
            one = implied(guest, "pci", buses.buses[index].name, index)
            found.append(one)
            if need := need_of(one):
                try:
                    buses.next(need)
                except _Full:
                    first = _first_beyond(walk, index) or one
                    raise out_of_slots(first, buses.need(first) or need, buses.buses[:index]) from None
        index += 1
    return found


def _first_beyond(walk: _Pass, index: int) -> Wanted | None:
    """The first device that the first pass could put only on a bus that there is no room for."""
    beyond = (at for at, spot in walk.given.items() if spot["bus"] >= index)
    return next((walk.devices[at] for at in beyond), None)


def _try_next(buses: _Buses, need: Need) -> None:
    try:
        buses.next(need)
    except _Full:
        return


def _multifunction(devices: Sequence[Wanted]) -> list[Wanted]:
    """Function 0 of a slot with further functions says so."""
    slots: dict[tuple[int, int, int], int] = {}
    for one in devices:
        if (key := _slot(one)) is not None:
            slots[key] = slots.get(key, 0) + 1
    return [
        replace(one, spot=Spot("pci", {**one.spot.numbers, "multifunction": True}))
        if (key := _slot(one)) is not None
        and one.spot is not None
        and slots[key] > 1
        and not one.spot.get("function")
        and "multifunction" not in one.spot.numbers
        and one.driver
        else one
        for one in devices
    ]


def _slot(one: Wanted) -> tuple[int, int, int] | None:
    if one.spot is None or one.spot.type != "pci" or not is_placed(one.spot):
        return None
    return one.spot.get("domain", 0), one.spot.get("bus", 0), one.spot.get("slot", 0)


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


def out_of_slots(one: Wanted, need: Need, buses: Sequence[_Bus]) -> InputError:
    """No slot: how many are free where, and what to add."""
    if not buses:
        return InputError(
            f"{one.kind}: {one.driver} ({one.origin}) is a PCI device, and this machine has no PCI bus",
            at=one.position,
            remedy="choose another model, or another machine type",
            rule="out-of-slots",
        )
    free = [
        f"{bus.free()} of {len(bus.slots())} slots on bus {number} ({bus.name})"
        for number, bus in enumerate(buses)
        if number == 0 or (bus.free() and bus.takes(need))
    ]
    pcie = buses[0].name == "pcie-root"
    add = "pcie-root-port" if pcie and need.kind != "pci" else "pcie-to-pci-bridge" if pcie else "pci-bridge"
    if not buses[0].free():
        add = "pcie-expander-bus" if pcie else "pci-expander-bus"
        remedy = f"remove a device; make room for a {add} on bus 0 and put new ports on it"
    else:
        remedy = f"add <controller type='pci' model='{add}'/>, or remove a device"
    return InputError(
        f"{one.kind}: no free PCI slot for {one.driver} ({one.origin}); free: {', '.join(free)}",
        at=one.position,
        expected=f"a bus that takes a {need.kind} device",
        remedy=f"{remedy}; mdtool reconcile --forget frees the addresses of removed devices",
        rule="out-of-slots",
    )
