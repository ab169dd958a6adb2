"""Ids: libvirt's names, a user's alias as it is, and never a name that is somebody else's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_allocate import guest_with

from mdtool.errors import Report
from mdtool.guest.alias import with_ids
from mdtool.guest.allocate import allocate
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import wanted_from_guest
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.place import placed

QUIET = ("<controller type='usb' model='none'/>", "<memballoon model='none'/>")


def nic(number: int, more: str = "") -> str:
    return f"<interface type='user'><mac address='52:54:00:00:00:{number:02x}'/><model type='e1000'/>{more}</interface>"


def allocated(guest: Guest) -> list[Wanted]:
    return allocate(guest, with_defaults(guest, wanted_from_guest(guest, Report())))


def ids(wanted: list[Wanted]) -> dict[str, str | None]:
    return {one.origin: one.id for one in wanted if one.driver}


def test_a_users_alias_stays_and_numbers_go_on() -> None:
    guest = guest_with(nic(1, "<alias name='ua-lan'/>"), nic(2), *QUIET)
    assert list(ids(with_ids(allocated(guest))).values()) == ["ua-lan", "net0"]


def test_a_bus_is_named_after_its_controller() -> None:
    port = "<controller type='pci' index='1' model='pcie-root-port'><alias name='ua-port'/></controller>"
    guest = guest_with(port, "<rng model='virtio'/>", *QUIET, machine="q35")
    places = {node.id: bus for bus, node in placed(guest, with_ids(allocated(guest)))}
    assert places["rng0"] == "ua-port"


def test_an_interface_of_the_host_is_named_as_one() -> None:
    source = "<source><address type='pci' domain='0' bus='{}' slot='1' function='0'/></source>"
    own = f"<interface type='hostdev'><mac address='52:54:00:00:00:09'/>{source.format(3)}</interface>"
    other = f"<hostdev mode='subsystem' type='pci'>{source.format(4)}</hostdev>"
    found = ids(with_ids(allocated(guest_with(other, nic(1), own, nic(2), *QUIET))))
    assert sorted(str(id) for id in found.values()) == ["hostdev0", "hostdev1", "net0", "net1"]
    assert found["interface/52:54:00:00:00:09"] == "hostdev0"


def test_no_new_device_takes_a_name_that_is_taken() -> None:
    """net1 is a hand-added device's, net0 a survivor's: the new NIC is net2, whatever its position."""
    guest = guest_with(nic(2), nic(1), *QUIET)
    wanted = [replace(one, id="net0") if one.origin.endswith(":01") else one for one in allocated(guest)]
    found = ids(with_ids(wanted, {"net1"}))
    assert found == {"interface/52:54:00:00:00:02": "net2", "interface/52:54:00:00:00:01": "net0"}


@pytest.mark.parametrize("first", [1, 2])
def test_the_id_of_a_node_wins_over_libvirts_alias_in_the_xml(first: int) -> None:
    """A block of XML copied with its alias: the device that has the id keeps it, whichever comes first."""
    blocks = {1: nic(1), 2: nic(2, "<alias name='net0'/>")}
    guest = guest_with(blocks[first], blocks[3 - first], *QUIET)
    wanted = [replace(one, id="net0") if one.origin.endswith(":01") else one for one in allocated(guest)]
    found = ids(with_ids(wanted))
    assert found["interface/52:54:00:00:00:01"] == "net0"
    assert found["interface/52:54:00:00:00:02"] not in ("net0", None)


def test_all_ids_differ() -> None:
    guest = guest_with(
        *[nic(n) for n in range(9)],
        *["<sound model='ich6'/>", "<sound model='ich9'><codec type='micro'/><codec type='duplex'/></sound>"],
        *[f"<disk type='file'><target dev='{dev}'/></disk>" for dev in ("sda", "sdb", "vda", "vdz", "hda", "hdd")],
        *["<input type='tablet' bus='usb'/>"] * 5,
    )
    found = [one.id for one in with_ids(allocated(guest)) if one.id is not None]
    assert len(found) == len(set(found))
    assert {"sound0-codec0", "sound1-codec0", "sound1-codec1", "virtio-disk25", "ide0-1-1", "hub0"} <= set(found)
