"""Places, names and numbers that libvirt 9.0 refuses, each an error at its line; and the nearest that it takes."""

from __future__ import annotations

import pytest

from mdtool.errors import Errors, InputError, Report
from mdtool.guest.allocate import allocate
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest

RNG = "<rng model='virtio'><backend model='builtin'/>\n<address type='pci' {}/></rng>"
SCSI = "<disk><target dev='sd{}' bus='{}'/>\n<address type='drive' {}/></disk>"
TABLET = "<input type='tablet' bus='usb'>\n<address type='usb' bus='{}' port='{}'/></input>"
CHANNEL = "<channel><target type='virtio' name='{}'/>\n<address type='virtio-serial' controller='0' port='{}'/></channel>"
LSI1068 = "<controller type='scsi' model='lsisas1068'/>"
ESP = "<controller type='scsi' model='am53c974'/>"


def refused(devices: str, machine: str) -> tuple[str | None, int] | None:
    """(rule, line) of what is wrong; devices begin on line 2."""
    kind = f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
    xml = f"<domain type='qemu'><name>g</name>{kind}<devices>\n{devices}</devices></domain>"
    guest, report = guest_from_bytes(xml.encode(), "guest.xml"), Report()
    try:
        wanted = with_defaults(guest, wanted_from_guest(guest, report))
        report.done()
        allocate(guest, wanted)
    except (Errors, InputError) as error:
        fault = error.errors[0] if isinstance(error, Errors) else error
        assert fault.at is not None
        return fault.rule, fault.at.line
    return None


@pytest.mark.parametrize(
    ("machine", "wrong", "right", "rule"),
    [
        ("pc", RNG.format("slot='0x20'"), RNG.format("slot='0x1f'"), "value-valid"),
        ("pc", RNG.format("slot='9' function='8'"), RNG.format("slot='9' function='7'"), "value-valid"),
        ("pc", RNG.format("slot='9' bus='256'"), RNG.format("slot='9' bus='1'"), "value-valid"),
        ("pc", RNG.format("slot='9' domain='1'"), RNG.format("slot='9' domain='0'"), "value-valid"),
        ("pc", SCSI.format("a", "sata", "bus='1'"), SCSI.format("a", "sata", "unit='5'"), "value-valid"),
        ("pc", SCSI.format("a", "scsi", "target='1'"), LSI1068 + SCSI.format("a", "scsi", "target='1'"), "value-valid"),
        ("pc", SCSI.format("a", "scsi", "target='1'"), ESP + SCSI.format("a", "scsi", "target='1'"), "value-valid"),
        ("pc", SCSI.format("a", "scsi", "bus='1'"), SCSI.format("a", "scsi", "unit='1'"), "value-valid"),
        ("pc", SCSI.format("a", "scsi", "controller='99999'"), SCSI.format("a", "scsi", "controller='1'"), "value-valid"),
        ("pc", TABLET.format(0, 3), TABLET.format(0, 2), "port-range"),
        ("pc", TABLET.format(1, 1), TABLET.format(0, 1), "port-range"),
        ("pc", TABLET.format(0, "1.1"), "<hub type='usb'/>" + TABLET.format(0, "1.1"), "port-range"),
        ("pc", TABLET.format(0, "one"), TABLET.format(0, "1"), "port-range"),
        ("pc", CHANNEL.format("a", 31), CHANNEL.format("a", 30), "port-range"),
    ],
)  # fmt: skip
def test_a_number_that_is_no_place(machine: str, wrong: str, right: str, rule: str) -> None:
    assert refused(wrong, machine) == (rule, 3)
    if "hub" not in right:  # without an address of its own the hub is not where the tablet wants it
        assert refused(right, machine) is None


@pytest.mark.parametrize(
    ("one", "other", "rule"),
    [
        ("<disk><target dev='vda'/>\n<boot order='1'/></disk>", "<disk><target dev='vdb'/><boot order='2'/></disk>", "unique"),
        ("<serial type='pty'>\n<target port='1'/></serial>", "<serial type='pty'><target port='2'/></serial>", "unique"),
        ("<video>\n<model type='vga'/></video>", "<video><model type='qxl'/></video>", "unique"),
        ("\n<panic model='isa'/>", "<panic model='hyperv'/>", "unique"),
    ],
)  # fmt: skip
def test_what_two_cannot_have(one: str, other: str, rule: str) -> None:
    second = one.replace("sda", "sdb").replace("vda", "vdb")
    assert refused(one + second, "pc") == (rule, 4)
    assert refused(one + other, "pc") is None


def test_ports_are_numbered_by_kind_of_serial_port() -> None:
    """As libvirt does: QEMU numbers ISA's alone, and a console for debugging has none."""
    kinds = ("isa-serial", "pci-serial", "usb-serial", "isa-debug", "isa-debug")
    assert refused("".join(f"<serial type='pty'><target type='{kind}' port='0'/></serial>" for kind in kinds), "pc") is None


@pytest.mark.parametrize(
    "wrong",
    [
        "<interface type='user'>\n<mac address='53:54:00:00:00:01'/></interface>",  # of many
        "<disk><target dev='vda'/>\n<boot order='0'/></disk>",
        "<vsock model='virtio'>\n<cid auto='no' address='2'/></vsock>",
        "<controller type='scsi'\n index='4294967296'/>\n".replace("\n index", " index"),
    ],
)
def test_a_number_that_is_none(wrong: str) -> None:
    found = refused(wrong, "pc")
    assert found is not None
    assert found[0] == "value-valid"


DISK = "<disk><target dev='sda' bus='scsi'/>\n<{0}>{1}</{0}></disk>"


@pytest.mark.parametrize(
    ("element", "wrong", "right"),
    [
        ("vendor", "123456789", "12345678"),
        ("product", "1" * 17, "1" * 16),
        ("product", "d\u00fcr", "dur"),
        ("wwn", "500", "5000c50015ea71ad"),
        ("wwn", "0x" + "f" * 5000, "0x5000c50015ea71ad"),
    ],
)
def test_an_identity_that_a_disk_cannot_have(element: str, wrong: str, right: str) -> None:
    assert refused(DISK.format(element, wrong), "pc") == ("value-valid", 3)
    assert refused(DISK.format(element, right), "pc") is None


@pytest.mark.parametrize(
    "inner",
    [
        "<iothreads>99999999</iothreads>",
        "<devices><disk type='file' device='disk'><source file='/x'/><target dev='sdzzzzzz'/></disk></devices>",
        "<devices><disk type='file' device='disk'><source file='/x'/><target dev='sdzzz' bus='scsi'/></disk></devices>",
    ],
)
def test_numbers_up_to_which_lists_are_filled_are_held_against_what_there_can_be(inner: str) -> None:
    from mdtool.errors import MdtoolError
    from mdtool.guest.platform import iothreads

    xml = f"<domain type='qemu'><name>a</name><os><type arch='x86_64' machine='q35'>hvm</type></os>{inner}</domain>"
    guest = guest_from_bytes(xml.encode(), "guest.xml")
    report = Report()
    with pytest.raises(MdtoolError, match=r"^guest\.xml:1:"):
        wanted_from_guest(guest, report)
        report.done()
        iothreads(guest)
