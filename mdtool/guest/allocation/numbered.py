"""Buses whose places are numbers: virtio-serial ports, ccid slots, channel devices, sPAPR registers, DIMM slots."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import implied, index_of, type_of
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.allocation.order import arrays, ranked
from mdtool.guest.model import Guest, Spot, Wanted
from mdtool.records import replace

SERIAL_PORTS = 31  # of a virtio-serial controller: port 0 is for a console

Taken = tuple[set[tuple[int, ...]], set[tuple[int, ...]]]


def _taken(type_: str, names: Sequence[str], wanted: Sequence[Wanted], occupied: Occupied) -> Taken:
    """(in use, retired) places of a type, as tuples of the named numbers; a spot that lacks the last is not in use yet."""

    def keys(spots: Collection[Spot]) -> set[tuple[int, ...]]:
        return {
            tuple(int(spot.get(name) or 0) for name in names)
            for spot in spots
            if spot.type == type_ and spot.get(names[-1]) is not None
        }

    used = keys([one.spot for one in wanted if one.spot is not None]) | keys(occupied.spots)
    return used, keys(occupied.retired) - used


def with_serial_ports(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every virtio channel with its port, and each console whose XML asks for one; controllers that this takes at the end.

    A channel never gets port 0, which is a console's.  A console that asks for a port gets 0 of its controller, and, as
    libvirt has it, the number that it would have got as a channel stays free.
    """
    devices = list(wanted)
    ports = {
        index_of(one): int(one.facts.get("ports") or SERIAL_PORTS) for one in devices if type_of(one) == "virtio-serial"
    }
    for one in devices:
        address = one.element.first("address") if one.element is not None and _is_complete(one) else None
        if address is None or one.spot is None or one.driver not in ("virtserialport", "virtconsole"):
            continue
        has = ports.get(one.spot.get("controller", 0), SERIAL_PORTS)
        if one.spot["port"] >= has:
            what = f"{one.kind}: controller {one.spot.get('controller', 0)} has no port {one.spot['port']}"
            raise InputError(what, at=address.position, expected=f"1 to {has - 1}", rule="port-range")
    taken = _taken("virtio-serial", ("controller", "port"), [one for one in devices if _is_complete(one)], occupied)
    new: list[Wanted] = []
    starts: dict[int, int] = {}

    def next_port(controller: int | None) -> tuple[int, int]:
        choice = ports if controller is None else {controller: ports.get(controller, SERIAL_PORTS)}
        place = _next_port(choice, taken, starts)
        if place is None:
            index = next(number for number in count() if number not in ports)
            ports[index] = SERIAL_PORTS
            new.append(implied(guest, "virtio-serial", "virtio", index))
            taken[0].add(place := (index, 1))
        return place

    waiting = [at for at, one in enumerate(devices) if _asks_for_port(one)]
    for at in sorted(waiting, key=lambda at: devices[at].kind == "channel"):
        one = devices[at]
        named = one.spot.get("controller") if one.spot is not None else None
        place = next_port(named if one.kind == "channel" else None)
        if one.kind == "console":
            if (named or 0, 0) not in taken[0]:
                taken[0].add(place := (named or 0, 0))
            elif named is not None and place[0] != named:
                place = next_port(named)
        devices[at] = replace(one, spot=Spot("virtio-serial", {"controller": place[0], "bus": 0, "port": place[1]}))
    return devices + new


def _asks_for_port(one: Wanted) -> bool:
    """A channel always does; QEMU itself puts a console without an address at the first port that is free."""
    if one.kind == "console":
        asks = one.driver == "virtconsole" and one.spot is not None and one.spot.type == "virtio-serial"
    else:
        asks = one.kind == "channel" and one.driver == "virtserialport"
    return asks and not _is_complete(one)


def _is_complete(one: Wanted) -> bool:
    return one.spot is not None and one.spot.type == "virtio-serial" and bool(one.spot.get("port"))


def _next_port(ports: Mapping[int, int], taken: Taken, starts: dict[int, int]) -> tuple[int, int] | None:
    """The next port of the controllers; ``starts`` remembers, for each, below which port none was free."""
    used, retired = taken
    for closed in (used | retired, used) if retired else (used,):
        for index in sorted(ports):
            for port in range(1 if retired else starts.get(index, 1), ports[index]):
                if (index, port) not in closed:
                    starts[index] = port
                    used.add((index, port))
                    return index, port
            starts[index] = ports[index]
    return None


def with_channel_places(wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every s390x channel device with its number, from fe.0.0000 up."""
    devices = list(wanted)
    taken = _taken("ccw", ("cssid", "ssid", "devno"), wanted, occupied)
    devno = -1
    kinds = arrays(devices)
    for kind in ranked(kinds, _CCW_KINDS):
        for at in kinds[kind]:
            if not devices[at].driver.endswith("-ccw") or (devices[at].spot or Spot("ccw")).get("devno") is not None:
                continue
            devno = _next_number(taken, lambda number: (0xFE, 0, number), devno + 1)
            devices[at] = replace(devices[at], spot=Spot("ccw", {"cssid": 0xFE, "ssid": 0, "devno": devno}))
    return devices


def _next_number(taken: Taken, key: Callable[[int], tuple[int, ...]], start: int, step: int = 1) -> int:
    """The first number from ``start`` up whose key never was anybody's; it is then taken."""
    used, retired = taken
    number = next(number for number in count(start, step) if key(number) not in used and key(number) not in retired)
    used.add(key(number))
    return number


_CCW_KINDS = (
    "disk", "interface", "sound", "hostdev", "video", "controller", "smartcard", "serial", "parallel", "channel",
    "console", "input", "filesystem", "watchdog", "memballoon", "rng", "memory", "vsock", "crypto",
)  # fmt: skip

#: sPAPR devices: driver -> the register where its numbers begin.
_REGISTERS = {"spapr-vlan": 0x1000, "spapr-vscsi": 0x2000, "spapr-vty": 0x30000000, "spapr-nvram": 0x3000}
_SPAPR_STEP = 0x1000


def with_registers(wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every sPAPR device with its register."""
    devices = list(wanted)
    taken = _taken("spapr-vio", ("reg",), wanted, occupied)
    start = dict(_REGISTERS)
    for driver in _REGISTERS:
        for at, one in enumerate(devices):
            if one.driver == driver and (one.spot is None or one.spot.get("reg") is None):
                reg = _next_number(taken, lambda number: (number,), start[driver], _SPAPR_STEP)
                start[driver] = reg + _SPAPR_STEP
                devices[at] = replace(one, spot=Spot("spapr-vio", {"reg": reg}))
    return devices


def with_memory_slots(wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every DIMM with its slot."""
    devices = list(wanted)
    taken = _taken("dimm", ("slot",), wanted, occupied)
    slot = -1
    for at, one in enumerate(devices):
        if one.driver in ("pc-dimm", "nvdimm") and (one.spot is None or one.spot.get("slot") is None):
            numbers = dict(one.spot.numbers) if one.spot is not None else {}
            slot = _next_number(taken, lambda number: (number,), slot + 1)
            devices[at] = replace(one, spot=Spot("dimm", {**numbers, "slot": slot}))
    return devices


def with_card_slots(wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every smartcard with its reader: a reader has one slot."""
    devices = list(wanted)
    taken = _taken("ccid", ("controller", "slot"), wanted, occupied)
    controller = -1
    for at, one in enumerate(devices):
        if one.kind == "smartcard" and one.driver.startswith("ccid-card") and one.spot is None:
            controller = _next_number(taken, lambda number: (number, 0), controller + 1)
            devices[at] = replace(one, spot=Spot("ccid", {"controller": controller, "slot": 0}))
    return devices


def with_mmio_places(guest: Guest, wanted: Sequence[Wanted]) -> list[Wanted]:
    """virtio-mmio devices: QEMU has one transport for each, and libvirt does not choose among them."""
    return [
        replace(one, spot=Spot("virtio-mmio")) if one.spot is None and one.facts.get("transport") == "mmio" else one
        for one in wanted
    ]
