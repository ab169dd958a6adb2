"""What holds for any guest and any edit of it: nobody shares a place, survivors stay, nobody gets a retired place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from test_allocate import guest_with

from mdtool.errors import Report
from mdtool.guest.addresses import address_from_node, survivor
from mdtool.guest.alias import with_ids
from mdtool.guest.allocate import allocate
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import wanted_from_guest
from mdtool.guest.model import Wanted
from mdtool.guest.place import placed
from mdtool.machine.tree import Bus, Node, Tree

MACHINES = {"pc": "x86_64", "q35": "x86_64", "virt": "aarch64"}
KINDS: Mapping[str, str] = {
    "nic": "<interface type='user'><mac address='52:54:00:00:01:{n:02x}'/><model type='{m}'/></interface>",
    "virtio": "<disk type='file'><target dev='vd{letter}' bus='virtio'/></disk>",
    "scsi": "<disk type='file'><target dev='sd{letter}' bus='{bus}'/></disk>",
    "tablet": "<input type='tablet' bus='usb'/>",
    "channel": "<channel type='pty'><target type='virtio' name='port.{n}'/></channel>",
    "rng": "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "sound": "<sound model='ac97'/>",
    "port": "<hub type='usb'/>",
}

PORTS = 15
device = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 25))
devices = st.lists(device, min_size=1, max_size=40, unique=True)


def xml(kind: str, number: int) -> str:
    model = ("e1000", "virtio", "e1000e")[number % 3]
    bus = ("scsi", "sata", "usb")[number % 3]
    return KINDS[kind].format(n=number, m=model, letter=chr(ord("a") + number), bus=bus)


def wanted_of(machine: str, chosen: list[tuple[str, int]]) -> list[Wanted]:
    """Origins that stay: the pair that an element came from, since tablets and rngs have nothing of their own."""
    elements = [f"<controller type='usb' index='0' model='qemu-xhci' ports='{PORTS}'/>", *(xml(*pair) for pair in chosen)]
    guest = guest_with(*elements, machine=machine, arch=MACHINES[machine])
    names = {id(element): f"{pair[0]}/{pair[1]}" for element, pair in zip(guest.devices[1:], chosen, strict=True)}
    found = wanted_from_guest(guest, Report())
    named = [replace(one, origin=names.get(id(one.element), one.origin)) for one in found]
    return with_defaults(guest, named)


def nodes_of(machine: str, wanted: list[Wanted], occupied: Occupied) -> list[tuple[str, Node]]:
    guest = guest_with(machine=machine, arch=MACHINES[machine])
    return placed(guest, with_ids(allocate(guest, wanted, occupied)))


def tree_of(machine: str, nodes: list[tuple[str, Node]]) -> Tree:
    buses: dict[str, list[Node]] = {}
    for bus, node in nodes:
        buses.setdefault(bus, []).append(node)
    kinds = {bus.name: bus.type for _, node in nodes for bus in node.buses}
    return Tree(
        machine={"type": f"pc-{machine}"},
        buses=tuple(Bus(bus, kinds.get(bus, "PCI"), tuple(found)) for bus, found in buses.items()),
    )


@settings(max_examples=60, deadline=None)
@given(machine=st.sampled_from(sorted(MACHINES)), before=devices, gone=st.sets(st.integers(0, 39)), new=devices)
def test_survivors_stay_and_nobody_shares(
    machine: str, before: list[tuple[str, int]], gone: set[int], new: list[tuple[str, int]]
) -> None:
    first = nodes_of(machine, wanted_of(machine, before), Occupied())
    assert_sound(first)

    tree = tree_of(machine, first)
    places = {node.origin: (bus, node) for bus, node in first}
    kept = [pair for number, pair in enumerate(before) if number not in gone]
    after = list(dict.fromkeys([*new, *kept]))  # new ones first: order must not matter
    removed = {f"{kind}/{number}" for kind, number in before} - {f"{kind}/{number}" for kind, number in after}
    wanted = [
        survivor(one, places[one.origin][1], address_from_node(*places[one.origin], tree)) if one.origin in places else one
        for one in wanted_of(machine, after)
    ]
    there = {one.origin for one in wanted}
    ports = [one for one in settled_controllers(machine, before) if one.origin not in there]
    wanted += [survivor(one, places[one.origin][1], address_from_node(*places[one.origin], tree)) for one in ports]
    retired = [address for origin in removed if (address := address_from_node(*places[origin], tree)) is not None]
    second = nodes_of(machine, wanted, Occupied(retired=retired))
    assert_sound(second)

    now = {node.origin: (bus, node.address, node.id) for bus, node in second}
    for origin, (bus, node) in places.items():
        if origin in now and origin not in removed:
            assert now[origin] == (bus, node.address, node.id)
    was = {(places[origin][0], places[origin][1].address) for origin in removed}
    is_new = {origin for origin in now if origin not in places}
    if len({place[1] for place in [*was, *(where[:2] for where in now.values())] if place[0] == "usb.0"}) >= PORTS:
        was = {place for place in was if place[0] != "usb.0"}  # the bus is full: then a retired place is given out
    assert not was & {now[origin][:2] for origin in is_new}


def settled_controllers(machine: str, chosen: list[tuple[str, int]]) -> list[Wanted]:
    """The ports, hubs and controllers that allocation added."""
    guest = guest_with(machine=machine, arch=MACHINES[machine])
    done = with_ids(allocate(guest, wanted_of(machine, chosen)))
    return [one for one in done if one.element is None and one.driver and one.kind in ("controller", "hub")]


def assert_sound(nodes: list[tuple[str, Node]]) -> None:
    places = [(bus, node.address) for bus, node in nodes if node.address is not None]
    assert len(places) == len(set(places))
    ids = [node.id for _, node in nodes if node.id is not None]
    assert len(ids) == len(set(ids))
    assert all(node.address is not None for _, node in nodes)
