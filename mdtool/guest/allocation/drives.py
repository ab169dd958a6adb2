"""Drives: controller, bus, target and unit of disks, from the number in their target, and of SCSI host devices."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import count

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import controllers_of, implied, model_of, scsi_model
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.allocation.order import target_of
from mdtool.guest.disk_buses import LAYOUTS, disk_number
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.machine.buses.providers import DEFAULT_MODELS
from mdtool.records import replace

_Key = tuple[str, int, int, int, int]


def bus_of(wanted: Wanted) -> str:
    """``scsi``, ``ide``, ``sata`` or ``fdc`` for what sits on such a bus, "" for the rest."""
    if wanted.kind == "disk":
        bus = str(wanted.facts.get("bus", ""))
        return bus if bus in LAYOUTS else ""
    return "scsi" if wanted.kind == "hostdev" and wanted.facts.get("type") == "scsi" else ""


def wish_of(wanted: Wanted) -> int:
    """The controller that a drive is for: that of its address, or the one that its number leads to; 0 by default."""
    if wanted.address is not None and wanted.address.type == "drive":
        return int(wanted.address.get("controller", 0))
    number = disk_number(target_of(wanted))
    return LAYOUTS[bus_of(wanted)].place(number)[0] if number >= 0 and wanted.kind == "disk" else 0


def with_drive_places(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every drive with controller, bus, target and unit; controllers that this takes at the end."""
    devices = list(wanted)
    _check_given(devices)
    taken = {_key(bus_of(one), one.address) for one in devices if bus_of(one) and one.address is not None}
    # A place known only by its numbers may be on any kind of controller.
    others = {_key("", address) for address in occupied.addresses if address.type == "drive"}
    retired = {_key("", address) for address in occupied.retired if address.type == "drive"}
    closed = (others | retired, others) if retired else (others,)
    start = 0
    for at in sorted(range(len(devices)), key=lambda at: devices[at].kind == "hostdev"):  # they take what disks leave
        one, bus = devices[at], bus_of(devices[at])
        if bus and one.address is None:
            number, address = _place(one, bus, start, taken, closed)
            start = number + 1 if one.kind == "hostdev" else start
            taken.add(_key(bus, address))
            devices[at] = replace(one, address=address)
    for type_ in (type_ for type_, layout in LAYOUTS.items() if not layout.alone):
        model = _model_for_hostdevs(guest, devices) if type_ == "scsi" else DEFAULT_MODELS[type_]
        used = {wish_of(one) for one in devices if bus_of(one) == type_}
        devices += [implied(guest, type_, model, index) for index in sorted(used - controllers_of(devices, type_).keys())]
    return devices


def _place(
    one: Wanted, bus: str, start: int, taken: Container[_Key], closed: Iterable[Container[_Key]]
) -> tuple[int, Address]:
    """The first free place of a drive, and its number: none in the first of ``closed``, unless there is no other."""
    for unusable in closed:
        for number in _numbers(one, bus, start):
            address = _address(bus, number)
            if _key(bus, address) not in taken and _key("", address) not in unusable:
                return number, address
    raise _no_unit(one, bus)


def _check_given(devices: Sequence[Wanted]) -> None:
    """Raise InputError for an address in the XML that is no place on such a controller."""
    models = {index: model_of(one) for index, one in controllers_of(devices, "scsi").items()}
    for one in devices:
        bus, address = bus_of(one), one.address
        if not bus or address is None or one.element is None or one.element.first("address") is None:
            continue
        at, model = one.element.at("address"), models.get(address.get("controller", 0), "") if bus == "scsi" else ""
        highest = {
            "controller": 0 if LAYOUTS[bus].alone else None,
            "bus": LAYOUTS[bus].buses - 1,
            "target": 0 if bus != "scsi" or model == "lsilogic" else None,
            "unit": LAYOUTS[bus].units - 1 if LAYOUTS[bus].alone else None,
        }
        for name, most in highest.items():
            if most is not None and address.get(name, 0) > most:
                what = f"{one.kind}: a {model or bus} controller has no {name} {address[name]}"
                raise InputError(what, at=at, expected=f"0 to {most}" if most else "0", rule="value-valid")


def _model_for_hostdevs(guest: Guest, devices: Sequence[Wanted]) -> str:
    """The model of a further SCSI controller: that of the last one that SCSI host devices fill, so that all are alike."""
    controllers = controllers_of(devices, "scsi")
    filled = {wish_of(one) for one in devices if one.kind == "hostdev" and bus_of(one) == "scsi"} & controllers.keys()
    return model_of(controllers[max(filled)]) if filled else scsi_model(guest)


def _numbers(one: Wanted, bus: str, start: int) -> Iterator[int]:
    """The numbers of places that a drive may go to, the first choice first; without end where controllers can be added.

    A SCSI host device takes the first that is free, whatever controllers there are; none below ``start`` is.
    """
    units = LAYOUTS[bus].units
    if one.kind == "hostdev":
        yield from count(start)
    first = max(disk_number(target_of(one)), 0)
    if LAYOUTS[bus].alone:
        places = range(units * LAYOUTS[bus].buses)
        if first in places:  # libvirt too refuses a fifth drive of the one controller
            yield first
            yield from places
    else:
        yield from count(first)


def _no_unit(one: Wanted, bus: str) -> InputError:
    layout = LAYOUTS[bus]
    return InputError(
        f"{one.kind}: no place for {one.origin}; free: 0 of {layout.units * layout.buses} on the {bus} controller"
        if disk_number(target_of(one)) < layout.units * layout.buses
        else f"{one.kind}: no place for {one.origin}: the {bus} controller has {layout.units * layout.buses}",
        at=one.position,
        remedy="put it on another bus: <target bus='sata'/> or <target bus='virtio'/>",
        rule="out-of-slots",
    )


def _address(bus: str, number: int) -> Address:
    controller, on, unit = LAYOUTS[bus].place(number)
    return Address("drive", {"controller": controller, "bus": on, "target": 0, "unit": unit})


def _key(bus: str, address: Address | None) -> _Key:
    numbers = address.numbers if address is not None else {}
    return bus, *(int(numbers.get(name, 0) or 0) for name in ("controller", "bus", "target", "unit"))  # type: ignore[return-value]
