"""Which addresses of a bus are free: for a person who edits a description."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mdtool.machine.buses.kinds import PCI_BUSES
from mdtool.machine.buses.limits import LIMITS, usb_ports, usb_speeds
from mdtool.machine.buses.pci import is_port
from mdtool.machine.machines import family_of
from mdtool.machine.tree import Bus, Node, Place, Tree
from mdtool.machine.values import number
from mdtool.machine.writer import address_key

MOST = 64  # addresses that are named at most


def free_addresses(tree: Tree, bus: str, driver: str) -> list[str]:
    """Addresses of ``bus`` that are neither taken nor reserved, in order; empty if that is not known.

    The first ones are the best: what is retired or shares a slot comes last.
    """
    here = tree.all_buses.get(bus)
    if here is None:
        return []
    provider = next((p.node for p in tree.places for inner in p.node.buses if inner.name == bus), None)
    used = {address_key(node.address) for node in here.devices if node.address is not None}
    machine = family_of(str(tree.machine.get("type", "")))
    reserved = machine.reserved(tree).get(bus, {}) if machine is not None else {}
    slots = {address[:2] for address in (*reserved, *(str(node.address) for node in here.devices))}
    kept = {retired.address for retired in tree.retired if retired.bus == bus}
    found: list[str] = []
    for address in _addresses(tree, here, provider, driver):
        if address_key(address) in used or (here.type in PCI_BUSES and address[:2] in slots):
            continue
        found.append(address)
        if len(found) == MOST:
            break
    return sorted(found, key=lambda address: (address in kept, address_key(address)))


def _addresses(tree: Tree, bus: Bus, provider: Node | None, driver: str) -> Iterable[str]:
    """The addresses that a bus has, taken or not."""
    if bus.type in PCI_BUSES:
        first = 1 if provider is None else 0
        slots = range(1) if provider is not None and is_port(provider.driver) else range(first, 32)
        return (f"{slot:02x}.0" for slot in slots)
    if bus.type == "usb-bus":
        speeds = usb_speeds(driver, {})
        ports = usb_ports(bus.name, provider, tree.places)
        return (port for port, offered in ports.items() if not speeds or speeds & offered)
    if bus.type not in LIMITS:
        return ()
    return _within_limits(tree, bus, provider, driver)


def _within_limits(tree: Tree, bus: Bus, provider: Node | None, driver: str) -> Iterator[str]:
    limit, machine = LIMITS[bus.type], family_of(str(tree.machine.get("type", "")))
    units = machine.ide_units if machine is not None else 1
    for count in range(2 * MOST):
        address = f"0:{count}:0" if bus.type == "SCSI" else str(count)
        if limit(Place(Node(driver, address=address), "", bus), provider, units) is None:
            yield address
        elif number(address, -1) > 0 or bus.type == "SCSI":
            return
