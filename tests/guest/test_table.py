"""The engine of the table: conversions, places, identities, and what it says of what it does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mdtool.errors import InputError, Position, Report
from mdtool.guest.convert import auto, number, one_of, switch, word
from mdtool.guest.devices import (
    MAX_DEVICES,
    boot_order,
    disks_in_order,
    guest_from_bytes,
    tagged,
    wanted_from_guest,
)
from mdtool.guest.elements import ROWS
from mdtool.guest.engine import driver_name
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.machine.buses.arguments import device_arguments
from mdtool.machine.tree import Node

DOMAIN = """<domain type='qemu'><name>g</name>
<os><type arch='{arch}' machine='{machine}'>hvm</type>{boot}</os>
<devices>
{devices}</devices></domain>"""


def guest_of(devices: str, *, arch: str = "x86_64", machine: str = "pc", boot: str = "") -> Guest:
    """A guest with these devices, which begin on line 4."""
    text = DOMAIN.format(arch=arch, machine=machine, devices=devices, boot=boot)
    return guest_from_bytes(text.encode(), "guest.xml")


def wanted_of(devices: str, **kinds: str) -> tuple[list[Wanted], Report]:
    report = Report()
    return wanted_from_guest(guest_of(devices, **kinds), report), report


def one_of_devices(devices: str, **kinds: str) -> Wanted:
    (wanted,), report = wanted_of(devices, **kinds)
    assert not report.errors
    return wanted


# Conversions


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("0x1f", 31), ("0X1F", 31), ("-1", -1), ("007", 7)])
def test_number(text: str, value: int) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "x", "1_000", "+3", "0x", " 3", "3 ", "1.5", "\u00b2", "9" * 30, "0x" + "f" * 20])
def test_number_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="a number"):
        number(text)


def test_words() -> None:
    assert switch("yes") is True
    assert switch("off") is False
    assert auto("off") == "off"
    assert word(a_b=1)("a-b") == 1
    assert one_of("on", "off")("on") == "on"
    with pytest.raises(ValueError, match="one of no, off, on, yes"):
        switch("maybe")
    with pytest.raises(ValueError, match="one of a, b"):
        one_of("b", "a")("c")


def test_driver_name() -> None:
    assert driver_name("virtio-net-*", "virtio", "ccw") == "virtio-net-ccw"
    assert driver_name("virtio-net-*", "virtio-transitional", "mmio") == "virtio-net-device"
    assert driver_name("virtio-scsi-*", "scsi/virtio-non-transitional", "pci") == "virtio-scsi-pci-non-transitional"
    assert driver_name("e1000", "e1000", "pci") == "e1000"


# What is not known


def test_unknown_model() -> None:
    wanted, report = wanted_of("<watchdog model='i6300'/>")
    assert not wanted
    assert [str(error) for error in report.errors] == [
        "guest.xml:4:1: error: watchdog: unknown model 'i6300';"
        " expected one of diag288, i6300esb, ib700, itco [driver-known]"
    ]


def test_missing_model() -> None:
    _, report = wanted_of("<sound/>")
    assert "sound: no model; expected one of ac97" in str(report.errors[0])


def test_unknown_attribute_and_element() -> None:
    wanted, report = wanted_of("<watchdog model='ib700' colour='red'>\n  <paint/>\n <dog bites='yes'/></watchdog>")
    assert len(wanted) == 1
    assert [(str(warning.at), warning.rule) for warning in report.warnings] == [
        ("guest.xml:4:1", "unknown-element"),
        ("guest.xml:5:3", "unknown-element"),
        ("guest.xml:6:2", "unknown-element"),
    ]
    assert "@colour" in report.warnings[0].what
    assert "dog/@bites" in report.warnings[2].what
    with pytest.raises(InputError):
        Report(warnings=report.warnings[:1]).done(strict=True)


def test_unknown_device() -> None:
    _, report = wanted_of("<fluxcapacitor/>")
    assert [warning.what for warning in report.warnings] == ["mdtool does not know <fluxcapacitor> and leaves it out"]


def test_another_namespace_is_not_ours() -> None:
    _, report = wanted_of("<x:thing xmlns:x='urn:x'/>")
    assert not report.warnings
    assert not report.errors


def test_refused() -> None:
    _, report = wanted_of("<controller type='xenbus' index='0'/><hostdev type='usb'><ip address='10.0.0.1'/></hostdev>")
    assert sorted(error.rule or "" for error in report.errors) == ["driver-known", "refused"]


def test_value_that_does_not_convert() -> None:
    wanted, report = wanted_of("<disk type='file'><target dev='vda'/>\n <driver queues='many' event_idx='si'/></disk>")
    assert [str(error).split(" error: ")[1] for error in report.errors] == [
        "disk: driver/@queues is 'many'; expected a number [value-valid]",
        "disk: driver/@event_idx is 'si'; expected one of no, off, on, yes [value-valid]",
    ]
    assert str(report.errors[0].at) == "guest.xml:5:2"
    assert wanted[0].properties == {"bootindex": 1}


def test_attribute_that_means_nothing_to_the_driver() -> None:
    wanted, report = wanted_of("<disk type='file'><target dev='hda'/><driver queues='4'/></disk>")
    assert wanted[0].properties == {"bootindex": 1}
    assert [warning.rule for warning in report.warnings] == ["property-fits"]


def test_unknown_nic_goes_to_qemu_as_it_stands() -> None:
    (nic,), report = wanted_of("<interface type='user'><model type='nic3000'/></interface>")
    assert nic.driver == "nic3000"
    assert [warning.rule for warning in report.warnings] == ["model-known"]


# Places and identities


@pytest.mark.parametrize(
    ("disk", "given", "address"),
    [
        ("vda", "type='pci' bus='0x01' slot='0x1f' function='0x7' multifunction='on'",
         Address("pci", {"bus": 1, "slot": 31, "function": 7, "multifunction": True})),
        ("vda", "type='pci'", Address("pci")),
        ("sda' bus='usb", "type='usb' bus='0' port='1.2'", Address("usb", {"bus": 0, "port": "1.2"})),
        ("sda", "type='drive' controller='1' bus='0' target='2' unit='3'",
         Address("drive", {"controller": 1, "bus": 0, "target": 2, "unit": 3})),
        ("vda", "type='ccw' cssid='0xfe' ssid='0x0' devno='0x0001'", Address("ccw", {"cssid": 254, "ssid": 0, "devno": 1})),
        ("vda", "type='virtio-mmio'", Address("virtio-mmio")),
    ],
)  # fmt: skip
def test_address(disk: str, given: str, address: Address) -> None:
    arch = "s390x" if address.type == "ccw" else "x86_64"
    assert one_of_devices(f"<disk><target dev='{disk}'/><address {given}/></disk>", arch=arch).address == address


@pytest.mark.parametrize(
    ("device", "kind", "expected"),
    [
        ("<disk><target dev='sda' bus='scsi'/>{}</disk>", "usb", "type drive"),
        ("<disk><target dev='sda' bus='sata'/>{}</disk>", "pci", "type drive"),
        ("<disk><target dev='vda'/>{}</disk>", "drive", "type one of pci, virtio-mmio"),
        ("<disk><target dev='vda'/>{}</disk>", "ccw", "type one of pci, virtio-mmio"),  # of s390x alone
        ("<input type='tablet' bus='usb'>{}</input>", "drive", "type usb"),
        ("<serial type='null'>{}</serial>", "usb", "type isa"),
        ("<watchdog model='ib700'>{}</watchdog>", "isa", "no <address>"),
        ("<panic model='hyperv'>{}</panic>", "isa", "no <address>"),
        ("<rng model='virtio'><backend model='builtin'/>{}</rng>", "unassigned", "type one of pci, virtio-mmio"),
        ("<hostdev mode='subsystem' type='usb'><source/>{}</hostdev>", "unassigned", "type usb"),
    ],
)
def test_an_address_of_another_kind_is_an_error_at_its_line(device: str, kind: str, expected: str) -> None:
    """libvirt refuses these too."""
    _, report = wanted_of(device.format(f"\n<address type='{kind}'/>"))
    (error,) = report.errors
    assert (error.rule, str(error.at), error.expected) == ("address-type", "guest.xml:5:1", expected)


@pytest.mark.parametrize(
    ("machine", "device", "rule"),
    [
        ("pc", "<controller type='ide' index='0'>\n<address type='pci' slot='9'/></controller>", "address-type"),
        ("pc", "<controller type='usb' model='piix3-uhci'>\n<address type='pci' slot='9'/></controller>", "address-type"),
        ("q35", "<controller type='sata'>\n<address type='pci' slot='9'/></controller>", "address-type"),
        ("q35", "\n<controller type='ide' index='0'/>", "machine-has"),
        ("q35", "<disk>\n<target dev='hda' bus='ide'/></disk>", "machine-has"),
        ("pc", "\n<nvram/>", "machine-has"),
        ("q35", "\n<controller type='pci' model='pcie-root-port'/>", "pci-root"),
        ("pc", "\n<controller type='pci' index='0' model='pcie-root'/>", "pci-root"),
    ],
)
def test_what_the_chipset_has_and_has_not(machine: str, device: str, rule: str) -> None:
    _, report = wanted_of(device, machine=machine)
    assert [(error.rule, str(error.at)) for error in report.errors] == [(rule, "guest.xml:5:1")]


def test_a_host_device_that_is_unassigned_is_no_device() -> None:
    source = "<source><address domain='0' bus='6' slot='2' function='0'/></source>"
    kept = f"<hostdev mode='subsystem' type='pci'>{source}<address type='unassigned'/></hostdev>"
    assert one_of_devices(kept).driver == ""


def test_no_address_is_none() -> None:
    assert one_of_devices("<hub type='usb'/>").address is None


@pytest.mark.parametrize("address", ["type='moon'", "type='pci' slot='left'"])
def test_bad_address(address: str) -> None:
    _, report = wanted_of(f"<disk><target dev='vda'/><address {address}/></disk>")
    assert len(report.errors) == 1


def test_transport_follows_the_address() -> None:
    mmio = "<rng model='virtio'><backend model='builtin'/><address type='virtio-mmio'/></rng>"
    assert one_of_devices(mmio, arch="aarch64", machine="virt").driver == "virtio-rng-device"


def test_user_alias_only() -> None:
    named = "<hub type='usb'><alias name='{}'/></hub>"
    assert one_of_devices(named.format("ua-h")).id == "ua-h"
    given = one_of_devices(named.format("hub0"))
    assert given.id is None
    assert given.identities == ("alias/hub0",)


def test_identities_of_a_disk() -> None:
    disk = one_of_devices("<disk><target dev='sda'/><serial>S</serial><wwn>5000c50015ea71ac</wwn></disk>")
    assert (disk.origin, disk.identities) == ("disk/sda", ("serial/S", "wwn/5000c50015ea71ac"))
    assert disk.facts["target"] == "sda"
    assert "device_id" not in disk.facts
    assert one_of_devices("<disk><target dev='sda'/></disk>").facts["device_id"] is True


def test_the_second_of_a_kind_has_a_name_of_its_own() -> None:
    wanted, _ = wanted_of("<sound model='ich6'/><sound model='ich6'/>")
    assert [one.origin for one in wanted] == [
        "sound/ich6", "sound/ich6/codec/0", "sound/ich6#2", "sound/ich6#2/codec/0",
    ]  # fmt: skip
    assert [one.facts.get("of") for one in wanted] == [None, "sound/ich6", None, "sound/ich6#2"]


def test_mac_is_one_spelling_and_identity() -> None:
    nic = one_of_devices("<interface type='user'><mac address='52-54-0-AB-cd-1'/></interface>")
    assert nic.origin == "interface/52:54:00:ab:cd:01"
    assert nic.properties["mac"] == "52:54:00:ab:cd:01"
    assert nic.identifying == {"mac"}


def test_mac_of_an_interface_without_one_stays() -> None:
    two, _ = wanted_of("<interface type='user'/><interface type='user'/>")
    again, _ = wanted_of("<interface type='user'/><sound model='ac97'/><interface type='user'/>")
    assert [one.origin for one in two] == [one.origin for one in again if one.kind == "interface"]
    assert two[0].origin != two[1].origin


# What is numbered across elements


def test_without_any_order_the_first_disk_boots() -> None:
    disks = "<disk><target dev='vdb'/></disk><disk><target dev='vda'/>{}</disk>"
    assert [one.properties.get("bootindex") for one in wanted_of(disks.format(""))[0]] == [1, None]
    ordered = wanted_of(disks.format("") + "<redirdev type='spicevmc'><boot order='1'/></redirdev>")[0]
    assert [one.properties.get("bootindex") for one in ordered] == [None, None, 1]


def test_disks_in_order() -> None:
    """By the bus that is written: those whose bus libvirt finds by the name come together, at the first of them."""
    disks = (
        ("vde", ""),
        ("vdb", "bus='virtio'"),
        ("hdc", "bus='ide'"),
        ("vda", "bus='virtio'"),
        ("hda", "bus='ide'"),
        ("vdc", ""),
    )
    guest = guest_of("".join(f"<disk><target dev='{name}' {bus}/></disk>" for name, bus in disks))
    names = [disk.get("target/@dev") for disk in disks_in_order(guest.devices)]
    assert names == ["vdc", "vde", "vda", "vdb", "hda", "hdc"]
    order = boot_order(guest, tagged(guest))  # with its bus, vda is the first of them all
    assert [disk.get("target/@dev") for disk in guest.devices if order.get(id(disk)) == 1] == ["vda"]


def test_boot_order_takes_the_first_of_a_kind() -> None:
    devices = (
        "<disk device='cdrom'><target dev='hdc'/></disk><disk><target dev='hdb'/></disk><disk><target dev='hda'/></disk>"
        "<interface type='user'/><interface type='user'/>"
    )
    guest = guest_of(devices, boot="<boot dev='network'/><boot dev='hd'/><boot dev='cdrom'/><boot dev='fd'/>")
    order = boot_order(guest, tagged(guest))
    assert [order.get(id(element)) for element in guest.devices] == [3, None, 2, 1, None]


def test_ports_of_serials() -> None:
    port = "<serial type='pty'><target port='{}'/></serial>"
    isa = "<serial type='pty'><target type='isa-serial'/></serial>"
    wanted, _ = wanted_of("<serial type='pty'/>" + port.format(1) + "<serial type='pty'/>" + isa)
    assert [one.facts["port"] for one in wanted] == [2, 1, 3, 0]
    parallel = "<parallel type='pty'/><parallel type='pty'><target port='1'/></parallel><parallel type='pty'/>"
    assert [one.facts["port"] for one in wanted_of(parallel)[0]] == [0, 1, 2]
    console = "<console type='pty'><target type='virtio' port='{}'/></console>"
    assert [one.facts["port"] for one in wanted_of(console.format(3) + console.format(1))[0]] == [0, 1]


def test_a_machine_has_four_isa_serial_ports() -> None:
    for port, faults in ((3, []), (4, ["port-range"])):
        _, report = wanted_of(f"<serial type='pty'><target type='isa-serial' port='{port}'/></serial>")
        assert [error.rule for error in report.errors] == faults


def test_console_is_the_first_serial_port_seen_again() -> None:
    wanted, _ = wanted_of("<serial type='pty'/><console type='pty'><target type='serial' port='0'/></console>")
    assert [one.kind for one in wanted] == ["serial"]
    wanted, _ = wanted_of("<console type='pty'/>")
    assert [(one.kind, one.driver, one.origin) for one in wanted] == [("serial", "isa-serial", "serial/isa-serial/0")]


# The guest


def test_what_is_no_guest() -> None:
    for text, rule in (
        ("<domain/>", "os-type"),
        ("<domain><os><type>linux</type></os></domain>", "os-type"),
        ("<domain><os><type>hvm</type></os><devices/><devices/></domain>", "devices-once"),
    ):
        with pytest.raises(InputError) as caught:
            guest_from_bytes(text.encode(), "guest.xml")
        assert caught.value.rule == rule


@pytest.mark.parametrize(
    "device", ["<hub type='usb'/>", "<video><model type='virtio'/></video>", "<interface type='user'/>"]
)
def test_ten_thousand_devices_and_no_more(device: str) -> None:
    """In a second or two: nothing looks at all devices for each device."""
    wanted, report = wanted_of(device * MAX_DEVICES)
    assert len({one.origin for one in wanted}) == MAX_DEVICES
    assert not report.errors
    with pytest.raises(InputError, match="more than 10000 devices"):
        guest_of(device * (MAX_DEVICES + 1))


def test_a_path_has_one_use() -> None:
    """No path is both a property and the host's, or refused and ignored."""
    for row in ROWS.values():
        silent = [*row.host, *row.ignored, *row.refused]
        assert len(silent) == len(set(silent)), row.element
        bare = replace(row, host={}, ignored={}, refused={})
        assert not {path for path in silent if path in bare.uses}, row.element


@pytest.mark.parametrize(
    ("driver", "address"), [("scsi-hd", "2"), ("ide-hd", "0:0:1"), ("floppy", "left"), ("virtserialport", "1.2")]
)
def test_a_place_of_another_bus_is_an_error_at_its_line(driver: str, address: str) -> None:
    node = Node(driver, "one", address, position=Position("g.yaml", 7, 3))
    with pytest.raises(InputError, match=rf"g.yaml:7:3: error: one: '{address}' is not a place for {driver}"):
        device_arguments("bus.0", node)
