"""What a Linux guest will call its NICs and disks, from the description alone.

systemd's rules (``net_id`` and ``path_id``, naming scheme v252): a NIC is ``eno`` with its acpi-index, or on s390x with
the uid of its zpci device, else ``ens`` with the number of its hotplug slot where the firmware gives one, else ``enp``
with PCI bus and slot; a disk is a link in /dev/disk/by-path.  PCI buses are numbered as firmware and Linux number them:
depth first, in the order of slots.  Measured on machine types 7.2 with a booted Linux, which a test repeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mdtool.machine.buses.kinds import EXPANDERS, PCI_BUSES
from mdtool.machine.buses.pci import is_port
from mdtool.machine.facts import kind_of
from mdtool.machine.machines import family_of
from mdtool.machine.tree import BUILTIN, Bus, Node, Place, Tree
from mdtool.machine.values import decimal, is_on, natural, number
from mdtool.records import dataclass
from mdtool.text import one_line, pattern

NIC, DISK = "nic", "disk"


@dataclass(frozen=True, slots=True)
class Named:
    """``name`` is what the guest calls the device; ``why`` says where it comes from, in a few words."""

    node: str
    kind: str
    driver: str
    name: str
    why: str

    def __str__(self) -> str:
        return one_line(f"{self.node:<16} {self.driver:<20} {self.name:<40} {self.why}")


@dataclass(frozen=True, slots=True)
class Renamed:
    """A device that a guest will call otherwise: ``old`` and ``new`` names, and what to do about it ("" for nothing)."""

    node: str
    driver: str
    old: str
    new: str
    remedy: str

    def __str__(self) -> str:
        return one_line(f"! {self.node:<14} {self.driver:<20} {self.old} -> {self.new}") + (
            f"\n    {one_line(self.remedy)}" if self.remedy else ""
        )


#: PCI bus, slot and function of a device as a Linux guest has them
Address = tuple[int, int, int]


def names(tree: Tree) -> list[Named]:
    """NICs and disks in the order of their names in the description."""
    addresses = pci_addresses(tree)
    numbers = _slot_numbers(tree, addresses)
    found = [
        named
        for place in tree.places
        if (named := _nic(tree, place, addresses, numbers) or _disk(tree, place, addresses)) is not None
    ]
    return sorted(found, key=lambda named: (named.kind == DISK, natural(named.node)))


def renamed(old: Tree, new: Tree) -> list[Renamed]:
    """The devices that both machines have and a guest calls differently."""
    before, after = ({named.node: named for named in names(tree)} for tree in (old, new))
    found = []
    from mdtool.review.diff import paired

    for one, two in paired(old, new)[0]:
        was, now = before.get(one.name), after.get(two.name)
        if was is None or now is None or was.name == now.name:
            continue
        remedy = ""
        if now.kind == NIC and _takes_index(new, two):
            free = _free_index(new)
            remedy = f"acpi-index: {free} on {two.name} makes it eno{free}, wherever it sits from then on"
        found.append(Renamed(two.name, now.driver, was.name, now.name, remedy))
    return found


def pci_addresses(tree: Tree) -> Mapping[str, Address]:
    """Node name -> (bus, slot, function); buses are numbered depth first, an expander's from its bus_nr on."""
    found: dict[str, Address] = {}
    by_id = {id(place.node): place.name for place in tree.places}

    def walk(bus: Bus, here: int, last: int) -> int:
        for node in sorted(bus.devices, key=lambda n: str(n.address)):
            match = re.fullmatch(r"([0-9a-f]{2})\.([0-7])", str(node.address))
            if match is None:
                continue
            found[by_id[id(node)]] = (here, int(match[1], 16), int(match[2]))
            for inner in node.buses:
                if inner.type in PCI_BUSES - EXPANDERS:
                    last = walk(inner, last + 1, last + 1)
            beyond = tree.all_buses.get(node.id or "")
            if beyond is not None and beyond.type in EXPANDERS:
                first = number(node.value("bus_nr")) + (beyond.type == "pxb-bus")  # behind a bridge of its own
                walk(beyond, first, first)
        return last

    for bus in tree.buses:
        if bus.name in ("pcie.0", "pci.0"):
            walk(bus, 0, 0)
    return found


# --- NICs ------------------------------------------------------------------------------------------------------------


def _nic(tree: Tree, place: Place, addresses: Mapping[str, Address], numbers: frozenset[tuple[str, int]]) -> Named | None:
    node = place.node
    if kind_of(node.driver) != "network" or place.bus is None:
        return None
    if place.bus.type == "usb-bus":
        mac = re.sub("[:-]", "", str(node.value("mac", ""))).lower()
        return Named(place.name, NIC, node.driver, f"enx{mac}", "USB: the MAC") if mac else None
    if place.bus.type == "virtual-css-bus" and node.address is not None:
        return Named(place.name, NIC, node.driver, f"enc{node.address.rpartition('.')[2].lstrip('0')}", "CCW device number")
    if uid := _uid(tree, node):
        return Named(place.name, NIC, node.driver, f"eno{uid}", "uid of its zpci device")
    address = addresses.get(place.name)
    if address is None:
        return None
    bus, slot, function = address
    index = number(node.value("acpi-index"))
    if index and _takes_index(tree, place):
        return Named(place.name, NIC, node.driver, f"eno{index}", "acpi-index")
    end = f"f{function}" if function or is_on(node.value("multifunction")) else ""
    if (place.bus.name, slot) in numbers:
        return Named(place.name, NIC, node.driver, f"ens{slot}{end}", "number of the ACPI hotplug slot")
    if (port := _port_number(tree, place)) > 0:
        return Named(place.name, NIC, node.driver, f"ens{port}{end}", "slot number of its PCI Express port")
    return Named(place.name, NIC, node.driver, f"enp{bus}s{slot}{end}", "PCI bus and slot")


def _uid(tree: Tree, node: Node) -> int:
    """A PCI device's uid on s390x, 0 elsewhere: QEMU says that uids are unique, and Linux shows such as indices."""
    beside = (p.node for p in tree.places if p.node.driver == "zpci" and p.node.properties.get("target") == node.id)
    return next((int(str(one.address), 16) for one in beside if re.fullmatch("[0-9a-f]{4}", str(one.address))), 0)


def _is_pc(tree: Tree) -> bool:
    return str(tree.machine.get("type", "")).startswith(("pc-i440fx", "pc-q35"))


def _slot_numbers(tree: Tree, addresses: Mapping[str, Address]) -> frozenset[tuple[str, int]]:
    """(bus, slot) of the hotplug slots whose number Linux gives as the slot's name.

    A PC's ACPI tables number each hotplug slot (_SUN) by its place on its bus.  Linux names slots by these numbers, in the
    order of buses; a number that is in use gets a suffix, and udev then has no number.  What cannot be unplugged has no
    hotplug slot: bridges, the machine's own devices, the first display.
    """
    if not _is_pc(tree):
        return frozenset()
    machine = family_of(str(tree.machine.get("type", "")), str(tree.machine.get("arch", "")))
    reserved = machine.reserved(tree) if machine is not None else {}
    claimed: dict[int, str] = {}
    order = {p.name: addresses[p.name][0] for p in tree.places if p.name in addresses}
    on: dict[str, list[Place]] = {}
    for place in tree.places:
        if place.bus is not None and place.name in order:
            on.setdefault(place.bus.name, []).append(place)
    for bus, places in sorted(on.items(), key=lambda item: order[item[1][0].name]):
        if places[0].bus is None or places[0].bus.type != "PCI":
            continue  # behind a PCI Express port there is slot 0 alone, and on pcie.0 nothing comes or goes
        fixed = {addresses[p.name][1] for p in places if p.node.origin == BUILTIN or _FIXED.match(p.node.driver)}
        fixed |= {int(address[:2], 16) for address in reserved.get(bus, {})}
        for slot in range(1, 32):
            if slot not in fixed:
                claimed.setdefault(slot, bus)
    return frozenset((bus, slot) for slot, bus in claimed.items())


#: devices that cannot be unplugged from a PCI bus
_FIXED = pattern(
    r"pci-bridge|pcie-|ioh3420|x3130|xio3130|i82801b11|VGA$|cirrus-vga|qxl-vga|virtio-vga|vmware-svga|(piix[34]|ich9)-usb-uhci"
)


def _takes_index(tree: Tree, place: Place) -> bool:
    """An acpi-index reaches the guest where QEMU describes the slot in ACPI: a PC's, before 8.0 those for hotplug alone."""
    if not _is_pc(tree) or place.bus is None:
        return False
    major = str(tree.machine.get("qemu", "8")).partition(".")[0]
    return place.bus.name != "pcie.0" or number(major) >= 8


def _port_number(tree: Tree, place: Place) -> int:
    """Native PCI Express hotplug names a slot by its port's ``slot`` property; a PC's ports use ACPI instead."""
    port = place.parent
    if port is None or not is_port(port.driver) or _is_pc(tree):
        return 0
    return number(port.value("slot"))


def _free_index(tree: Tree) -> int:
    used = {number(place.node.value("acpi-index")) for place in tree.places}
    return next(count for count in range(1, 16383) if count not in used)


# --- disks -----------------------------------------------------------------------------------------------------------


def _disk(tree: Tree, place: Place, addresses: Mapping[str, Address]) -> Named | None:
    tail = _tail(place)
    if tail is None:
        return None
    holder = next((p for p in _upwards(tree, place) if p.name in addresses), None)
    if holder is None:
        return None
    bus, slot, function = addresses[holder.name]
    path = f"pci-0000:{bus:02x}:{slot:02x}.{function}{tail}"
    return Named(place.name, DISK, place.node.driver, f"/dev/disk/by-path/{path}", "path_id")


def _tail(place: Place) -> str | None:
    """What follows the PCI function in a disk's path; None for what is no disk."""
    node, bus = place.node, place.bus.name if place.bus is not None else ""
    if node.driver.startswith(("virtio-blk-pci", "vhost-user-blk-pci")):
        return ""
    if node.driver == "nvme":
        return "-nvme-1"
    if re.match(r"scsi-(hd|cd|block)", node.driver) and node.address:
        return f"-scsi-0:{node.address}"
    if re.match(r"ide-(hd|cd)", node.driver):
        port = (decimal(re.sub(r".*\D", "", bus)) or 0) + 1
        return f"-ata-{port}.{node.address or 0}"
    if node.driver == "usb-storage" and node.address:
        return f"-usb-0:{node.address}:1.0-scsi-0:0:0:0"
    return None


def _upwards(tree: Tree, place: Place) -> Iterator[Place]:
    """The node, and what it sits on, up to the root."""
    here: Place | None = place
    while here is not None:
        yield here
        here = tree.by_node.get(id(here.parent)) if here.parent is not None else None
        if here is None and place.bus is not None and place.bus.name.startswith("ide.") and place.parent is None:
            yield Place(Node("", address=""), _ide_controller(tree))
            return


def _ide_controller(tree: Tree) -> str:
    """A description without the machine's own devices has no node for its IDE controller."""
    found = (p.name for p in tree.places if p.node.driver in ("ich9-ahci", "piix3-ide") and p.node.id is None)
    return next(found, "")
