"""Buses whose places are numbers: virtio-serial ports, ccid slots, channel devices, sPAPR registers, DIMM slots."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import controllers_of, implied
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.allocation.order import arrays, ranked
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.records import NamedTuple, replace

SERIAL_PORTS = 31  # of a virtio-serial controller: port 0 is for a console

Taken = tuple[set[tuple[int, ...]], set[tuple[int, ...]]]


def _taken(type_: str, names: Sequence[str], wanted: Sequence[Wanted], occupied: Occupied) -> Taken:
    """(in use, retired) places of a type, as tuples of the named numbers; one that lacks the last is not in use yet."""

    def keys(addresses: Collection[Address]) -> set[tuple[int, ...]]:
        return {
            tuple(int(address.get(name) or 0) for name in names)
            for address in addresses
            if address.type == type_ and address.get(names[-1]) is not None
        }

    used = keys([one.address for one in wanted if one.address is not None]) | keys(occupied.addresses)
    return used, keys(occupied.retired) - used


def with_serial_ports(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every virtio channel with its port, and each console whose XML asks for one; controllers that this takes at the end.

    A channel never gets port 0, which is a console's.  A console that asks for a port gets 0 of its controller, and, as
    libvirt has it, the number that it would have got as a channel stays free.
    """
    devices = list(wanted)
    controllers = controllers_of(devices, "virtio-serial")
    ports = {index: int(one.facts.get("ports") or SERIAL_PORTS) for index, one in controllers.items()}
    for one in devices:
        address = one.element.first("address") if one.element is not None and _is_complete(one) else None
        if address is None or one.address is None or one.driver not in ("virtserialport", "virtconsole"):
            continue
        has = ports.get(one.address.get("controller", 0), SERIAL_PORTS)
        if one.address["port"] >= has:
            what = f"{one.kind}: controller {one.address.get('controller', 0)} has no port {one.address['port']}"
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
        named = one.address.get("controller") if one.address is not None else None
        place = next_port(named if one.kind == "channel" else None)
        if one.kind == "console":
            if (named or 0, 0) not in taken[0]:
                taken[0].add(place := (named or 0, 0))
            elif named is not None and place[0] != named:
                place = next_port(named)
        devices[at] = replace(one, address=Address("virtio-serial", {"controller": place[0], "bus": 0, "port": place[1]}))
    return devices + new


def _asks_for_port(one: Wanted) -> bool:
    """A channel always does; QEMU itself puts a console without an address at the first port that is free."""
    if one.kind == "console":
        asks = one.driver == "virtconsole" and one.address is not None and one.address.type == "virtio-serial"
    else:
        asks = one.kind == "channel" and one.driver == "virtserialport"
    return asks and not _is_complete(one)


def _is_complete(one: Wanted) -> bool:
    return one.address is not None and one.address.type == "virtio-serial" and bool(one.address.get("port"))


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


class NumberRow(NamedTuple):
    """A kind of place that is one number.

    ``takes``   whether a device has such a place
    ``type``    the type of the address
    ``number``  the number of the address that counts; ``rest`` holds the others, the same for all
    ``start``   the first number; ``step`` is the distance to the next
    ``kinds``   the kinds of elements in the order in which they choose; without any, devices choose in theirs
    """

    takes: Callable[[Wanted], bool]
    type: str
    number: str
    rest: Mapping[str, int] = {}
    start: int = 0
    step: int = 1
    kinds: Sequence[str] = ()


def _is(*drivers: str) -> Callable[[Wanted], bool]:
    return lambda one: one.driver in drivers


#: first registers of sPAPR devices
_REGISTERS = {"spapr-vlan": 0x1000, "spapr-vscsi": 0x2000, "spapr-vty": 0x30000000, "spapr-nvram": 0x3000}

_KINDS = (
    "disk", "interface", "sound", "hostdev", "video", "controller", "smartcard", "serial", "parallel", "channel",
    "console", "input", "filesystem", "watchdog", "memballoon", "rng", "memory", "vsock", "crypto",
)  # fmt: skip

ROWS = (
    NumberRow(
        lambda one: one.kind == "smartcard" and one.driver.startswith("ccid-card"), "ccid", "controller", {"slot": 0}
    ),
    *(NumberRow(_is(driver), "spapr-vio", "reg", {}, first, 0x1000, _KINDS) for driver, first in _REGISTERS.items()),
    NumberRow(lambda one: one.driver.endswith("-ccw"), "ccw", "devno", {"cssid": 0xFE, "ssid": 0}, kinds=_KINDS),
    NumberRow(_is("pc-dimm", "nvdimm"), "dimm", "slot"),
)


def with_numbers(wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every device of a row with its number: the next that never was anybody's."""
    devices = list(wanted)
    for row in ROWS:
        members = [at for at, one in enumerate(devices) if row.takes(one)]
        waiting = {at for at in members if (address := devices[at].address) is None or address.get(row.number) is None}
        if not waiting:
            continue
        used, retired = _taken(row.type, (*row.rest, row.number), devices, occupied)
        free = (
            n for n in count(row.start, row.step) if (key := (*row.rest.values(), n)) not in used and key not in retired
        )
        kinds = arrays(devices) if row.kinds else {"": members}
        for at in (at for kind in ranked(kinds, row.kinds) for at in kinds[kind] if at in waiting):
            given = devices[at].address
            numbers = {**(given.numbers if given is not None else {}), **row.rest, row.number: next(free)}
            devices[at] = replace(devices[at], address=Address(row.type, numbers))
    return devices


def with_mmio_places(guest: Guest, wanted: Sequence[Wanted]) -> list[Wanted]:
    """virtio-mmio devices: QEMU has one transport for each, and libvirt does not choose among them."""
    return [
        replace(one, address=Address("virtio-mmio"))
        if one.address is None and one.facts.get("transport") == "mmio"
        else one
        for one in wanted
    ]
