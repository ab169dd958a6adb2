"""compare(): each kind of difference named, with node, property and severity; nothing where nothing differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mdtool.compare import ADDRESS, EFFECTIVE, FIRMWARE, HOST, IDENTITY, PROPERTY, compare, comparison, guest_visible
from mdtool.machine.tree import BUILTIN, Bus, Node, Tree

MAC = {"mac": "52:54:00:11:22:33"}
NIC = Node("virtio-net-pci", id="net0", address="00.0", properties=MAC, pins={"rombar": 1, "vectors": 3})
PORT = Node("pcie-root-port", id="pci.1", address="02.0", properties={"chassis": 1}, buses=(Bus("pci.1", "PCIE", (NIC,)),))
HOST_BRIDGE = Node("mch", address="00.0", origin=BUILTIN)
LPC = Node("ICH9-LPC", address="1f.0", origin=BUILTIN, pins={"noreboot": True})


def machine(*nodes: Node, **sections: Any) -> Tree:
    return Tree(buses=(Bus("pcie.0", "PCIE", nodes),), **sections)


DESCRIBED = machine(HOST_BRIDGE, PORT, LPC, machine={"type": "pc-q35-7.2", "qemu": "7.2.22"})


def with_nic(**changes: Any) -> Node:
    return replace(PORT, buses=(Bus("pci.1", "PCIE", (replace(NIC, **changes),)),))


def test_the_same_machine_has_no_differences() -> None:
    found, compared = comparison(DESCRIBED, DESCRIBED)
    assert found == []
    assert (compared.nodes, compared.properties) == (4, 5)


def test_spellings_are_no_differences() -> None:
    other = with_nic(address="0.0", properties={"mac": "52:54:00:11:22:33"}, pins={"rombar": "0x1", "vectors": "3"})
    assert compare(DESCRIBED, machine(HOST_BRIDGE, other, replace(LPC, pins={"noreboot": "on"}))) == []


@pytest.mark.parametrize(
    ("other", "node", "name", "severity"),
    [
        (machine(HOST_BRIDGE, replace(PORT, address="03.0"), LPC), "pci.1", "address", ADDRESS),
        (machine(HOST_BRIDGE, with_nic(properties={"mac": "52:54:00:11:22:34"}), LPC), "net0", "mac", IDENTITY),
        (machine(HOST_BRIDGE, with_nic(pins={"rombar": 0, "vectors": 3}), LPC), "net0", "rombar", FIRMWARE),
        (machine(HOST_BRIDGE, with_nic(pins={"rombar": 1, "vectors": 4}), LPC), "net0", "vectors", PROPERTY),
        (machine(HOST_BRIDGE, with_nic(driver="e1000"), LPC), "net0", "driver", IDENTITY),
        (machine(HOST_BRIDGE, replace(PORT, buses=(Bus("pci.1", "PCIE"),)), LPC), "net0", "", IDENTITY),
        (machine(HOST_BRIDGE, PORT), "ICH9-LPC@pcie.0/1f.0", "", IDENTITY),
        (machine(HOST_BRIDGE, PORT, replace(LPC, address="1e.0")), "ICH9-LPC@pcie.0/1f.0", "address", ADDRESS),
        (machine(HOST_BRIDGE, PORT, LPC, Node("e1000", id="net9", address="05.0")), "net9", "", IDENTITY),
        (machine(HOST_BRIDGE, PORT, LPC, Node("vmcoreinfo", origin=BUILTIN)), "vmcoreinfo@pcie.0", "", IDENTITY),
        (machine(HOST_BRIDGE, PORT, LPC, machine={"type": "pc-q35-7.1"}), "machine", "type", IDENTITY),
    ],
)  # fmt: skip
def test_a_fault_is_named(other: Tree, node: str, name: str, severity: str) -> None:
    found = compare(DESCRIBED, other)
    assert [(d.node, d.property, d.severity) for d in found] == [(node, name, severity)]
    assert node in str(found[0])


def test_an_id_is_no_guests_business() -> None:
    found = compare(DESCRIBED, machine(HOST_BRIDGE, with_nic(id=None), LPC))
    assert [(d.node, d.property, d.severity) for d in found] == [("net0", "id", HOST)]


def test_ids_given_out_anew_are_no_other_devices() -> None:
    """libvirt counts its aliases through: with a user's alias on the first NIC, the second one becomes net0."""
    one = replace(NIC, driver="e1000e", address="03.0")
    two = replace(NIC, id="net1", address="04.0", properties={"mac": "52:54:00:11:22:99"})
    found = compare(machine(one, two), machine(replace(one, id="ua-net0"), replace(two, id="net0")))
    assert [(d.node, d.property, d.severity) for d in found] == [("net0", "id", HOST), ("net1", "id", HOST)]


def test_two_that_changed_places_are_both_moved() -> None:
    one, two = replace(NIC, address="03.0"), replace(NIC, id="net1", address="04.0", properties={"mac": "52:54:00:00:00:9"})
    found = compare(machine(one, two), machine(replace(one, address="04.0"), replace(two, address="03.0")))
    assert [(d.node, d.property) for d in found] == [("net0", "address"), ("net1", "address")]


def test_rows_of_sections_are_compared_one_by_one() -> None:
    nodes = [{"id": 0, "cpus": "0-1", "memory": 64}, {"id": 1, "cpus": "2-3", "memory": 64}]
    here = machine(PORT, numa={"nodes": nodes})
    unsaid = machine(PORT, numa={"nodes": [{**node, "memory": 0} for node in nodes]})
    assert compare(here, unsaid) == []
    other = machine(PORT, numa={"nodes": [nodes[0], {**nodes[1], "cpus": "3-2"}]})
    assert [(d.node, d.property) for d in compare(here, other)] == [("numa", "nodes[1].cpus")]


def test_a_device_moved_to_another_bus_is_said_as_moved() -> None:
    other = machine(HOST_BRIDGE, replace(PORT, buses=(Bus("pci.1", "PCIE"),)), LPC, replace(NIC, address="07.0"))
    assert [str(d) for d in compare(DESCRIBED, other)] == ["net0: moved: described at pci.1 00.0, is at pcie.0 07.0"]


def test_a_description_without_built_ins_does_not_miss_them() -> None:
    partial = machine(PORT)
    found, compared = comparison(partial, DESCRIBED)
    assert found == [] and compared.skipped_nodes == 2
    assert [d.node for d in compare(partial, machine(PORT, Node("e1000", id="net9", address="05.0")))] == ["net9"]


def test_what_is_not_described_is_not_compared_and_what_is_not_shown_is_said() -> None:
    silent = machine(HOST_BRIDGE, with_nic(properties={}, pins={"rombar": 1, "vectors": 3, "speed": 10}), LPC)
    found, compared = comparison(DESCRIBED, silent)
    assert found == [] and compared.skipped_properties == (("net0", "mac"),)
    assert "net0.mac" in str(compared)


def test_a_hand_set_property_wins_over_its_pin() -> None:
    wants = machine(HOST_BRIDGE, with_nic(properties={"rombar": 0}), LPC)
    assert [d.property for d in compare(wants, DESCRIBED)] == ["rombar"]


def test_the_host_is_said_and_is_no_reason_to_stop() -> None:
    here = machine(HOST_BRIDGE, with_nic(effective={"guest_tso4": True}), LPC, machine={"qemu": "7.2.22"})
    there = machine(HOST_BRIDGE, with_nic(effective={"guest_tso4": False}), LPC, machine={"qemu": "11.1.3"})
    found = compare(here, there)
    assert [(d.node, d.severity) for d in found] == [("net0", EFFECTIVE), ("machine", HOST)]
    assert guest_visible(found) == []


def test_the_worst_comes_first() -> None:
    nic = with_nic(properties={"mac": "52:54:00:00:00:01"}, pins={"rombar": 0, "vectors": 2})
    other = machine(HOST_BRIDGE, nic, LPC)
    assert [d.severity for d in compare(DESCRIBED, other)] == [IDENTITY, PROPERTY, FIRMWARE]


@pytest.mark.parametrize(("bus", "moved"), [(None, False), ("other-bus.0", True)])
def test_a_device_whose_place_nobody_described_has_not_moved(bus: str | None, moved: bool) -> None:
    """QEMU puts an s390x console on a bus of its own; a description that names another bus is another matter."""
    console = Node("sclpconsole", id="console0")
    is_there = Tree(machine={"type": "x"}, buses=(Bus("s390-sclp-events-bus.0", "s390-sclp-events-bus", (console,)),))
    said = Tree(machine={"type": "x"}, devices=(console,))
    if bus is not None:
        said = Tree(machine={"type": "x"}, buses=(Bus(bus, "s390-sclp-events-bus", (console,)),))
    found = [difference for difference in compare(said, is_there) if difference.property == "address"]
    assert bool(found) is moved
