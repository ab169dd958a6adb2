"""PCI buses while addresses are given out: what is taken on each, and the buses that are added where they run out."""

from __future__ import annotations

from collections.abc import Sequence

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import controllers_of, is_placed, model_of
from mdtool.guest.allocation.needs import KINDS, Need, need_of
from mdtool.guest.allocation.occupied import NOTHING, Occupied
from mdtool.guest.model import Address, Wanted
from mdtool.machine.buses.pci import PCI_MODELS, PciModel
from mdtool.records import dataclass, field

_NOBODYS = PciModel((), "", frozenset(), last=0)  # a bus that belongs to no wanted controller: nothing new goes there
_COLLECTED = {kind: number for number, kind in enumerate(KINDS)}
_MAX_BUSES = 256


@dataclass(slots=True)
class PciBus:
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


class Full(Exception):
    """No place for a need, and no bus to be had."""

    def __init__(self, need: Need) -> None:
        super().__init__(need.kind)
        self.need = need


class Buses:
    """All PCI buses of a guest while addresses are given out; ``grows`` in the first pass, which adds buses at its end."""

    def __init__(self, devices: Sequence[Wanted], occupied: Occupied, *, reuse: bool, grows: bool) -> None:
        self.grows = grows
        self.reuse = reuse
        self.pcie = False
        self.buses: list[PciBus] = []
        self._cursor: dict[Need, int] = {}
        controllers = controllers_of(devices, "pci")
        if not controllers:
            return
        root = model_of(controllers[0]) if 0 in controllers else "pci-root"
        self.pcie = root == "pcie-root"
        default = "pcie-root-port" if self.pcie else "pci-bridge"
        self._marks = _by_bus(occupied)
        self._others = (frozenset(occupied.indices) | {bus for bus, mark in self._marks.items() if mark.addresses}) - set(
            controllers
        )
        for index in range(max(controllers) + 1):
            if index not in self._others:
                one = controllers.get(index)
                self._add(model_of(one) if one else default)
        there = [one for one in devices if one.address is not None and one.address.type == "pci" and is_placed(one.address)]
        for one in sorted(there, key=lambda one: _COLLECTED.get(one.kind, len(_COLLECTED))):
            if (need := self.need(one)) and one.address is not None:
                if self.grows:
                    self._grow_to(int(one.address.get("bus", 0)), need)
                self.occupy(one.address, need)

    def _add(self, model: str) -> None:
        """Add a bus, past those that belong to others, with what is taken on it already."""
        while len(self.buses) in self._others:
            self.buses.append(PciBus(_NOBODYS, ""))
        marks = self._marks.get(len(self.buses), NOTHING)
        self.buses.append(PciBus(PCI_MODELS.get(model, PCI_MODELS["pci-bridge"]), model))
        for address in marks.addresses:
            self.occupy(address)
        for address in marks.retired:
            _mark(self.buses[-1].retired, address.get("slot", 0), address.get("function", 0))

    def occupy(self, address: Address, need: Need | None = None) -> None:
        """Mark a place as taken by a device that has it already."""
        given = address.numbers.get
        number, slot, function = given("bus", 0), given("slot", 0), given("function", 0)
        if address.type != "pci" or given("domain", 0) or number >= len(self.buses):
            return
        bus = self.buses[number]
        first = not bus.used.get(slot)
        _mark(bus.used, slot, function)
        # A function 0 that says it stands alone stays alone: making it one of many is a change that its guest sees.
        if function == 0 and (given("alone") or given("multifunction") is False):
            bus.shared.discard(slot)
        elif need and need.shares and (first or slot in bus.shared):
            bus.shared.add(slot)

    def in_use(self, slot: int) -> bool:
        """Whether a slot of the root bus is, or ever was, anybody's."""
        return bool(self.buses and self.buses[0].taken(slot))

    def next(self, need: Need, function: int = 0) -> Address:
        """The first free place for a need, taken; grows the buses where that is allowed.  Raises Full."""
        if self.grows:  # what matters is how much room is needed; the second pass starts with the bridges
            need = Need(need.kind)
        place = self._find(need, function, never=True)
        if place is None and self.reuse:
            place = self._find(need, function, never=False)
        if place is None and self.grows and self._grow(need):
            place = self._find(need, function, never=True)
        if place is None:
            raise Full(need)
        number, slot, free = place
        address = Address("pci", {"domain": 0, "bus": number, "slot": slot, "function": free})
        self.occupy(address, need)
        return address

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
    found: dict[int, tuple[list[Address], list[Address]]] = {}
    for number, addresses in enumerate((occupied.addresses, occupied.retired)):
        for address in addresses:
            if address.type == "pci" and not address.get("domain"):
                found.setdefault(int(address.get("bus", 0)), ([], []))[number].append(address)
    return {bus: Occupied(addresses, retired) for bus, (addresses, retired) in found.items()}


def _mark(functions: dict[int, int], slot: int, function: int) -> None:
    functions[slot] = functions.get(slot, 0) | 1 << function


def out_of_slots(one: Wanted, need: Need, buses: Sequence[PciBus]) -> InputError:
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
