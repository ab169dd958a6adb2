"""Places in QEMU's terms, proved on QEMU: the device tree of the running machine has each device where it was put."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import require
from support import started
from test_allocate import guest_with, nics, settled

from mdtool.guest.addresses import address_from_node, addresses_from_tree, indices_taken, survivor
from mdtool.guest.alias import with_ids
from mdtool.guest.allocate import allocate
from mdtool.guest.allocation.controllers import is_placed
from mdtool.guest.model import Address, Guest
from mdtool.guest.place import placed
from mdtool.machine.buses.arguments import device_arguments
from mdtool.machine.buses.kinds import kind_of_driver
from mdtool.machine.buses.providers import buses_of
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.qemu.dump import dump

DISKS = ("ide", "scsi", "usb", "floppy", "virtio-blk", "nvme")
RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
ON_PXB = "><address type='pci' bus='5'/></controller>"
PXB = "<address type='pci' bus='2' slot='3'/>"
TABLET = "<input type='tablet' bus='usb'/>"


def disk(target: str, bus: str, kind: str = "disk") -> str:
    return f"<disk type='file' device='{kind}'><source file='/disk'/><target dev='{target}' bus='{bus}'/></disk>"


def channel(number: int) -> str:
    return f"<channel type='pty'><target type='virtio' name='port.{number}'/></channel>"


def controller(kind: str, index: int, model: str) -> str:
    return f"<controller type='{kind}' index='{index}' model='{model}'/>"


GUESTS: dict[str, Guest] = {
    "pc": guest_with(
        *nics(20),
        *[disk("vda", "virtio"), disk("hda", "ide"), disk("hdd", "ide", "cdrom"), disk("fdb", "fdc", "floppy")],
        *[disk("sda", "scsi"), disk("sdc", "sata"), disk("sdd", "usb")],
        *[controller("scsi", 1, "virtio-scsi"), disk("sdi", "scsi"), controller("pci", 2, "pci-expander-bus")],
        *[TABLET] * 5,
        *[channel(1), channel(2)],
        *[
            "<sound model='ich6'/>",
            "<watchdog model='i6300esb'/>",
            "<panic model='isa'/>",
            "<smartcard mode='passthrough'/>",
        ],
        *["<graphics type='vnc'/>", "<serial type='pty'/>", RNG.replace("</rng>", PXB + "</rng>")],
        machine="pc-i440fx-7.2",
    ),
    "q35": guest_with(
        *[RNG] * 12,
        *[*nics(2), disk("sda", "sata"), disk("sdb", "sata"), disk("fda", "fdc", "floppy"), disk("sdz", "scsi")],
        *[controller("usb", n, f"ich9-{model}") for n in (0, 1) for model in ("ehci1", "uhci1", "uhci2", "uhci3")],
        *[controller("pci", 1, "pcie-root-port"), controller("pci", 2, "pcie-switch-upstream-port")],
        *[controller("pci", n, "pcie-switch-downstream-port") for n in (3, 4)],
        *[controller("pci", 5, "pcie-expander-bus"), controller("pci", 6, "pcie-root-port").replace("/>", ON_PXB)],
        *["<sound model='ich9'><codec type='micro'/><codec type='output'/></sound>", "<graphics type='vnc'/>", TABLET],
        machine="pc-q35-7.2",
    ),
    "virt": guest_with(
        *[disk("vda", "virtio"), *nics(2, "virtio"), RNG, channel(1), "<graphics type='vnc'/>"],
        *[controller("usb", 0, "qemu-xhci"), TABLET, controller("scsi", 0, "virtio-scsi"), disk("sdb", "scsi")],
        machine="virt-7.2",
        arch="aarch64",
    ),
}


def argv(guest: Guest) -> list[str]:
    """QEMU with the devices of a guest and null backends."""
    words = [require(f"qemu-system-{guest.arch}"), "-machine", guest.machine, "-accel", "tcg", "-S", "-nodefaults"]
    words += ["-display", "none", "-audiodev", "none,id=audio"]
    for number, (bus, node) in enumerate(buses_first(placed(guest, settled(guest)))):
        device: dict[str, Any] = device_arguments(bus, node)
        if node.driver.startswith(DISKS) and not node.driver.startswith(("usb-tablet", "usb-hub", "usb-ccid", "usb-mouse")):
            words += ["-blockdev", f"null-co,read-zeroes=on,node-name=n{number}"]
            device["drive"] = f"n{number}"
        if node.driver in ("virtserialport", "isa-serial", "ccid-card-passthru"):
            words += ["-chardev", f"null,id=c{number}"]
            device["chardev"] = f"c{number}"
        if node.driver.startswith("hda-"):
            device["audiodev"] = "audio"
        words += ["-device", ",".join(f"{key}={_word(value)}" for key, value in device.items())]
    return words


def buses_first(nodes: list[tuple[str, Node]]) -> list[tuple[str, Node]]:
    """A bus before what sits on it, an EHCI controller before its companions."""
    ordered: list[tuple[str, Node]] = []
    waiting = {bus.name for _, node in nodes for bus in node.buses}
    while nodes:
        ready = [(bus, node) for bus, node in nodes if not {bus, node.properties.get("masterbus")} & waiting]
        ordered += sorted(ready, key=lambda pair: pair[1].driver != "usb-hub")
        waiting -= {bus.name for _, node in ready for bus in node.buses}
        nodes = [pair for pair in nodes if pair not in ready]
    return ordered


def _word(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("name", sorted(GUESTS))
def test_qemu_has_each_device_where_it_was_put(name: str, tmp_path: Path) -> None:
    guest = GUESTS[name]
    wanted = settled(guest)
    put = {node.id: (bus, node.address) for bus, node in placed(guest, wanted) if node.id and node.address}
    with started(argv(guest), tmp_path) as session:
        tree = dump(session)
    there = {place.node.id: place.address for place in tree.places if place.node.id in put}
    assert there == put
    # and back: libvirt's places from QEMU's, controllers known by their ids alone
    addresses = addresses_from_tree(tree)
    for one in wanted:
        if one.id in put and one.address is not None and one.address.type != "dimm":
            assert plain(addresses[str(one.id)]) == plain(one.address), one.id


def plain(address: Address) -> dict[str, Any]:
    """A place's numbers, with those that are 0 where nobody says so."""
    absent = {"domain": 0, "bus": 0, "slot": 0, "function": 0} if address.type == "pci" else {}
    return {**absent, **{name: number for name, number in address.numbers.items() if name != "alone"}}


@pytest.mark.parametrize("name", sorted(GUESTS))
def test_there_and_back(name: str) -> None:
    """Allocated with every node's place given back as a survivor: nothing moves, nothing is added."""
    guest = GUESTS[name]
    wanted = settled(guest)
    nodes = placed(guest, wanted)
    buses: dict[str, list[Node]] = {}
    for bus, node in nodes:
        buses.setdefault(bus, []).append(node)
    tree = Tree(machine={"type": guest.machine}, buses=tuple(Bus(bus, "PCI", tuple(found)) for bus, found in buses.items()))
    by_origin = {node.origin: (bus, node) for bus, node in nodes}
    have = []
    for one in wanted:
        if one.origin in by_origin:
            bus, node = by_origin[one.origin]
            one = survivor(one, node, address_from_node(bus, node, tree))
        have.append(one)
    again = placed(guest, with_ids(allocate(guest, have)))
    assert {n.origin: (b, n.address, n.id) for b, n in again} == {n.origin: (b, n.address, n.id) for b, n in nodes}


def test_a_lone_function_is_known_as_one() -> None:
    tree = Tree(buses=(Bus("pcie.0", "PCIE"),))
    assert address_from_node("pcie.0", Node("pcie-root-port", "pci.1", "02.0"), tree) == Address(
        "pci", {"domain": 0, "bus": 0, "slot": 2, "function": 0, "alone": True}
    )
    several = Node("pcie-root-port", "pci.1", "02.0", properties={"multifunction": True})
    assert address_from_node("pcie.0", several, tree) == Address(
        "pci", {"domain": 0, "bus": 0, "slot": 2, "function": 0, "multifunction": True}
    )


@pytest.mark.parametrize(
    ("bus", "node", "expected"),
    [
        ("isa.0", Node("isa-serial", "serial0", "3f8"), {"driver": "isa-serial", "id": "serial0", "iobase": 0x3F8}),
        ("isa.0", Node("pvpanic", None, "505"), {"driver": "pvpanic", "ioport": 0x505}),
        ("", Node("pc-dimm", "dimm0", "2"), {"driver": "pc-dimm", "id": "dimm0", "slot": 2}),
        ("virtual-css", Node("virtio-net-ccw", "net0", "fe.0.0001"), {"devno": "fe.0.0001"}),
        ("pcie.0", Node("edu", "e", "1f.7"), {"bus": "pcie.0", "addr": "0x1f.0x7"}),
        ("vs.0", Node("virtconsole", "console0"), {"driver": "virtconsole", "id": "console0"}),
        ("ide.1", Node("ide-hd", "sata0-0-1", "0"), {"driver": "ide-hd", "id": "sata0-0-1", "bus": "ide.1"}),
        ("ide.1", Node("ide-hd", "ide0-1-0", "0"), {"bus": "ide.1", "unit": 0}),
    ],
)
def test_device_arguments(bus: str, node: Node, expected: dict[str, Any]) -> None:
    found = device_arguments(bus, node)
    assert expected.items() <= found.items()
    assert ("bus" in found) == ("bus" in expected)


@pytest.mark.parametrize(
    ("parent", "said"),
    [("lsi", {"scsi-id": 2}), ("usb-bot", {"scsi-id": 2, "lun": 0}), ("virtio-scsi-pci", {"channel": 0})],
)
def test_what_libvirt_leaves_out_of_a_scsi_address(parent: str, said: dict[str, int]) -> None:
    found = device_arguments("scsi0.0", Node("scsi-hd", "d", "0:2:0"), Node(parent, "scsi0"))
    assert said.items() <= found.items()
    assert ("channel" in found) == ("channel" in said)


def test_what_the_address_says_is_no_property_too() -> None:
    guest = guest_with("<panic model='isa'><address type='isa' iobase='0x505'/></panic>")
    (bus, node), *_ = [pair for pair in placed(guest, settled(guest)) if pair[1].driver == "pvpanic"]
    assert (bus, node.address, node.properties) == ("isa.0", "505", {})
    assert device_arguments(bus, node) == {"driver": "pvpanic", "ioport": 0x505}


def test_numbers_of_other_controllers() -> None:
    ports = [Node("pcie-root-port", "pci.7"), Node("pcie-root-port", "mine", properties={"chassis": 9}), Node("edu", "e3")]
    assert indices_taken(ports) == {7, 9}


def test_buses_and_notations() -> None:
    assert [bus.name for bus in buses_of("ich9-ahci", "sata1")] == [f"sata1.{n}" for n in range(6)]
    assert buses_of("virtio-net-pci", "net0") == ()
    assert buses_of("pcie-root-port", None) == ()
    assert kind_of_driver("usb-ehci").address == "pci" == kind_of_driver("virtio-net-pci").address
    assert kind_of_driver("usb-tablet").address == "usb"
    assert is_placed(Address("usb", {"port": "1"})) and not is_placed(Address("pci", {"multifunction": True}))
