"""USB: ports of controllers and hubs, and hubs where the ports run out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import index_of, model_of, type_of
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.allocation.order import ranked
from mdtool.guest.choices import has_newest_qemu
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.records import dataclass, field, replace

HUB_PORTS = 8

#: Ports of each controller model; companions have theirs on the EHCI's bus.
PORTS: Mapping[str, int] = {
    "piix3-uhci": 2,
    "piix4-uhci": 2,
    "vt82c686b-uhci": 2,
    "pci-ohci": 3,
    "ehci": 6,
    "ich9-ehci1": 6,
    "nec-xhci": 4,
    "qemu-xhci": 4,
}

#: Kinds in the order in which they get their ports: libvirt 9.0's, and 12.8's.
_OLDER_KINDS = ("hub", "hostdev", "disk", "interface", "controller", "input", "serial", "sound", "redirdev", "smartcard")
_KINDS = ("hub", "hostdev", "disk", "interface", "sound", "controller", "input", "serial", "redirdev", "smartcard")


def is_usb(wanted: Wanted) -> bool:
    """Whether a device plugs into a USB port."""
    if wanted.kind == "commandline":  # QEMU itself finds a place for what was written for it
        return False
    return wanted.driver.startswith("usb-") and type_of(wanted) != "usb" and not wanted.driver.startswith("usb-ehci")


@dataclass(slots=True)
class _Hub:
    """The ports of a controller or a hub, by number: None where something is plugged in that is no hub.

    ``below`` are hubs, in the order of their ports; ``full`` once neither it nor a hub below has a free port.
    """

    ports: int
    used: set[int] = field(default_factory=set)
    retired: set[int] = field(default_factory=set)
    below: dict[int, _Hub] = field(default_factory=dict)

    def at(self, path: Sequence[int]) -> _Hub | None:
        hub: _Hub | None = self
        for port in path:
            hub = hub.below.get(port) if hub else None
        return hub

    def free(self, path: tuple[int, ...] = (), *, never: bool = True) -> tuple[int, ...] | None:
        """The first free port: this hub's own, then those of the hubs below, in order."""
        for port in range(1, self.ports + 1):
            if port not in self.used and not (never and port in self.retired):
                return (*path, port)
        for port in sorted(self.below):
            found = self.below[port].free((*path, port), never=never)
            if found is not None:
                return found
        return None


def with_usb_ports(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every USB device with its bus and port; new hubs at the end.  Raises InputError where there is no controller."""
    devices = list(wanted)
    devices += _new_hubs(devices)
    order = list(_in_order(devices, _KINDS if has_newest_qemu(guest) else _OLDER_KINDS))
    buses = {index: _Hub(ports) for index, ports in sorted(_controllers(devices).items())}
    for one in sorted((devices[at] for at in order if _is_plugged(devices[at])), key=_depth):
        _check_given(buses, one)
        _occupy(buses, one.address, hub=one.driver == "usb-hub")
    for taken in occupied.addresses:
        _occupy(buses, taken)
    for old in occupied.retired:
        if old.type == "usb" and (bus := buses.get(old.get("bus", 0))) and (path := _path(old)):
            hub = bus.at(path[:-1])
            if hub:
                hub.retired.add(path[-1])
    full: set[int | None] = set()
    for at in order:
        one = devices[at]
        if not _is_plugged(one):
            wish = one.address.get("bus") if one.address else None
            address = _first_free(buses, wish, full)
            if address is None:
                raise _no_port(one, buses)
            devices[at] = replace(one, address=address)
            _occupy(buses, address, hub=one.driver == "usb-hub")
            if one.driver == "usb-hub":
                full.clear()
    return devices


def _in_order(devices: Sequence[Wanted], ranks: Sequence[str]) -> Iterator[int]:
    kinds: dict[str, list[int]] = {}
    for at, one in enumerate(devices):
        if is_usb(one):
            kinds.setdefault(one.kind, []).append(at)
    for kind in ranked(kinds, ranks):
        yield from kinds[kind]


def _controllers(devices: Sequence[Wanted]) -> Mapping[int, int]:
    """Index -> ports of the USB controllers that have any."""
    found: dict[int, int] = {}
    for one in devices:
        if one.kind == "controller" and type_of(one) == "usb" and model_of(one) in PORTS:
            ports = one.facts.get("ports") or PORTS[model_of(one)]
            found[index_of(one)] = max(found.get(index_of(one), 0), int(ports))
    return found


def _new_hubs(devices: Sequence[Wanted]) -> list[Wanted]:
    """Hubs for the devices that the ports there are cannot hold, known by what libvirt's ``<hub>`` for them is known by."""
    plugged = [one for one in devices if is_usb(one)]
    hubs = sum(one.driver == "usb-hub" for one in plugged)
    ports = sum(_controllers(devices).values()) + hubs * HUB_PORTS
    if not ports or len(plugged) <= ports:
        return []
    needed = -(-(len(plugged) - ports + 1) // (HUB_PORTS - 1))
    origins = ("hub/usb" if number == 1 else f"hub/usb#{number}" for number in range(hubs + 1, hubs + needed + 1))
    return [Wanted("hub", "usb-hub", origin, alias="hub", facts={"choice": "usb"}) for origin in origins]


def _is_plugged(one: Wanted) -> bool:
    return one.address is not None and one.address.type == "usb" and bool(one.address.get("port"))


def _path(address: Address) -> tuple[int, ...]:
    try:
        return tuple(int(port) for port in str(address.get("port", "")).split("."))
    except ValueError:
        return ()


def _depth(one: Wanted) -> int:
    return len(_path(one.address)) if one.address else 0


def _occupy(buses: Mapping[int, _Hub], address: Address | None, *, hub: bool = False) -> None:
    if address is None or address.type != "usb" or not (path := _path(address)):
        return
    bus = buses.get(address.get("bus", 0))
    holder = bus.at(path[:-1]) if bus else None
    if holder is None:
        return
    holder.used.add(path[-1])
    if hub:
        holder.below[path[-1]] = _Hub(HUB_PORTS)


def _check_given(buses: Mapping[int, _Hub], one: Wanted) -> None:
    """Raise InputError for a port in the XML that no hub has."""
    address = one.element.first("address") if one.element is not None else None
    if address is None or one.address is None or not buses or address.get("@port") != one.address.get("port"):
        return
    index, port, path = one.address.get("bus", 0), one.address.get("port"), _path(one.address)
    holder = buses[index].at(path[:-1]) if index in buses and path else None
    if not path:
        what, expected = f"port '{port}'", "a number, and another for each hub on the way: 1.2"
    elif index not in buses:
        what, expected = f"there is no USB bus {index}", f"one of {', '.join(map(str, buses))}"
    elif holder is None:
        what, expected = f"there is no hub at port {'.'.join(map(str, path[:-1]))} of USB bus {index}", "a port of a hub"
    elif not 1 <= path[-1] <= holder.ports:
        what, expected = f"there is no port {port} on USB bus {index}", f"1 to {holder.ports}"
    else:
        return
    raise InputError(f"{one.kind}: {what}", at=address.position, expected=expected, rule="port-range")


def _first_free(buses: Mapping[int, _Hub], wish: int | None, full: set[int | None]) -> Address | None:
    """A free port on the bus that the XML names, or on the first that has one; a never-used one first."""
    for never in (True, False):
        for index, bus in buses.items():
            if (wish is not None and index != wish) or (never and index in full):
                continue
            path = bus.free(never=never)
            if path is not None:
                return Address("usb", {"bus": index, "port": ".".join(map(str, path))})
            full.add(index)
    return None


def _no_port(one: Wanted, buses: Mapping[int, _Hub]) -> InputError:
    return InputError(
        f"{one.kind}: no free USB port for {one.driver} ({one.origin}); "
        + (f"all ports of USB bus {', '.join(map(str, buses))} are taken" if buses else "this guest has no USB controller"),
        at=one.position,
        remedy="add <controller type='usb' model='qemu-xhci'/> or <hub type='usb'/>",
        rule="out-of-slots",
    )
