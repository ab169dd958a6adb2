"""A device that stays keeps its place and its values, whoever comes, goes or comes back beside it."""

from __future__ import annotations

from dataclasses import replace

from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.model import Address, Wanted
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.machine.update import updated
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import Result, reconcile
from mdtool.reconcile.match import matched
from mdtool.reconcile.plan import Reason


def reconciled(old: Tree | None, *devices: str) -> Result:
    """A q35 guest with these devices, given a description."""
    xml = (
        "<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory>"
        "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices><controller type='usb' model='none'/>"
        f"<memballoon model='none'/>{''.join(devices)}</devices></domain>"
    )
    return reconcile(guest_from_bytes(xml.encode(), "guest.xml"), old)


def nic(number: int, address: str = "") -> str:
    return f"<interface type='user'><mac address='52:54:00:00:00:{number:02x}'/><model type='e1000e'/>{address}</interface>"


def at(bus: int, slot: int = 0) -> str:
    return f"<address type='pci' domain='0' bus='{bus}' slot='{slot}' function='0'/>"


def place(result: Result, origin: str) -> object:
    return next(p.address for p in result.tree.places if p.node.origin == origin)


def port(index: int) -> str:
    return f"<controller type='pci' index='{index}' model='pcie-root-port'/>"


def test_a_proposal_is_not_written_into_a_description_without_it() -> None:
    """A chassis number is mdtool's own choice: where a description has none, and none was ever applied, QEMU's stays."""
    first = reconciled(None, port(1), nic(1, at(1)))

    def without(node: Node) -> Node:
        bags = ({k: v for k, v in bag.items() if k != "chassis"} for bag in (node.properties, node.applied))
        properties, applied = bags
        return replace(node, properties=properties, applied=applied)

    buses = tuple(replace(bus, devices=tuple(map(without, bus.devices))) for bus in first.tree.buses)
    old = replace(first.tree, buses=buses)
    assert yaml_from_tree(old) != yaml_from_tree(first.tree)
    again = reconciled(old, port(1), nic(1, at(1)))
    assert not again.plan
    assert not [p.name for p in again.tree.places if "chassis" in p.node.properties]


def test_a_target_comes_before_an_address() -> None:
    """Two disks whose addresses are each other's in the XML stay who they are."""
    nodes = [Node("virtio-blk-pci", id=f"virtio-disk{n}", address=f"0{n}.0", origin=f"disk/vd{'ab'[n]}") for n in (0, 1)]
    places = [Address("pci", {"bus": 0, "slot": slot, "function": 0}) for slot in (0x10, 0x11)]
    swapped = [Wanted("disk", "virtio-blk-pci", f"disk/vd{'ab'[n]}", address=places[1 - n]) for n in (0, 1)]
    found = matched(
        Tree(buses=(Bus("pci.0", "PCI", tuple(nodes)),)),
        swapped,
        addresses={f"virtio-disk{n}": places[n] for n in (0, 1)},
    )
    assert [(match.wanted.origin, match.place.name) for match in found.matches] == [
        ("disk/vda", "virtio-disk0"),
        ("disk/vdb", "virtio-disk1"),
    ]


def test_identity_comes_before_a_serial() -> None:
    """A device whose identity fits one node and whose serial fits another is where its identity is."""

    def node(name: str, mac: str | None, serial: str) -> Node:
        return Node(
            "usb-net",
            id=name,
            address=name[-1],
            properties={"serial": serial} | ({"mac": mac} if mac else {}),
            origin=f"interface/{name}",
        )

    tree = Tree(buses=(Bus("usb.0", "usb-bus", (node("a1", "m1", "s1"), node("a2", None, "s2"))),))
    device = Wanted("interface", origin="interface/new", driver="usb-net",
                    properties={"mac": "m1", "serial": "s2"}, identifying=frozenset({"mac"}))  # fmt: skip
    (match,) = matched(tree, [device]).matches
    assert (match.place.name, match.rule) == ("a1", "identity")


def test_a_newcomer_with_an_address_takes_nobodys_node() -> None:
    """Two random number generators have no mark; the one whose address nobody has is the new one."""
    rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend>{}</rng>"
    first = reconciled(None, rng.format(""))
    (old,) = (p for p in first.tree.places if p.node.driver == "virtio-rng-pci")
    both = reconciled(first.tree, rng.format(at(0, 0x10)), rng.format(""))
    found = {p.node.id: p.address for p in both.tree.places if p.node.driver == "virtio-rng-pci"}
    assert found[old.node.id] == old.address
    assert sorted(map(str, found.values())) == sorted(map(str, [old.address, ("pcie.0", "10.0")]))


def test_a_device_that_is_back_elsewhere_holds_its_old_place_no_longer() -> None:
    first = reconciled(None, nic(1), nic(2))
    without = reconciled(first.tree, nic(1))
    old = place(first, "interface/52:54:00:00:00:02")
    assert [(r.bus, r.address) for r in without.tree.retired] == [old]
    back = reconciled(without.tree, nic(1), nic(2, at(0, 0x10)))
    assert place(back, "interface/52:54:00:00:00:02") == ("pcie.0", "10.0")
    assert back.tree.retired == ()


def test_a_port_right_below_the_highest_one_stays() -> None:
    """libvirt would put it there again, as it fills the gaps in the numbers of PCI controllers."""
    first = reconciled(None, *map(port, (1, 2, 3)), nic(1, at(3)))
    before = place(first, "controller/pci/2")
    again = reconciled(first.tree, port(1), port(3), nic(1, at(3)))
    assert place(again, "controller/pci/2") == before
    assert not again.plan


def test_who_gets_the_place_of_a_removed_device_is_named() -> None:
    """A guest takes the newcomer for the old device and gives it its settings: the plan says whose place it is."""
    first = reconciled(None, nic(1), nic(2, at(0, 0x10)))
    (old,) = (p.node.id for p in first.tree.places if p.address == ("pcie.0", "10.0"))
    again = reconciled(first.tree, nic(1), nic(3, at(0, 0x10)))
    (added,) = (step for step in again.plan.steps if step.origin == "interface/52:54:00:00:00:03")
    assert (added.reason, added.detail) == (Reason.REUSED, old)


def test_a_dump_over_a_description_retires_what_went() -> None:
    """Its place stays free, as after a reconcile; what is there still is not retired."""
    first = reconciled(None, nic(1), nic(2), nic(3)).tree
    second = place_of(first, "interface/52:54:00:00:00:02")
    third = place_of(first, "interface/52:54:00:00:00:03")
    dumped = without(without(first, second), third)
    assert [(r.bus, r.address) for r in updated(first, dumped).retired] == [second, third]
    assert updated(first, first).retired == ()


def test_a_dump_over_a_description_has_what_is_new() -> None:
    """A property that somebody set since, and that the description has not, is in it then."""
    first = reconciled(None, nic(1)).tree

    def set_since(node: Node) -> Node:
        properties = {**node.properties, "rombar": 0} if node.driver == "e1000e" else node.properties
        buses = tuple(replace(b, devices=tuple(map(set_since, b.devices))) for b in node.buses)
        return replace(node, properties=properties, buses=buses)

    dumped = replace(first, buses=tuple(replace(b, devices=tuple(map(set_since, b.devices))) for b in first.buses))
    (node,) = (p.node for p in updated(first, dumped).places if p.node.driver == "e1000e")
    assert node.properties == {"mac": "52:54:00:00:00:01", "rombar": 0}


def place_of(tree: Tree, origin: str) -> tuple[str, str]:
    (found,) = (p.address for p in tree.places if p.node.origin == origin)
    assert found is not None
    return found


def without(tree: Tree, address: tuple[str, str]) -> Tree:
    """The tree with nothing at an address."""

    def kept(bus: Bus) -> Bus:
        stay = [node for node in bus.devices if (bus.name, node.address) != address]
        return replace(bus, devices=tuple(replace(node, buses=tuple(map(kept, node.buses))) for node in stay))

    return replace(tree, buses=tuple(map(kept, tree.buses)))
