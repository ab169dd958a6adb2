"""Device elements that set something of the machine itself, which has no ``-device`` of its own."""

from __future__ import annotations

from typing import Any

import pytest

from mdtool.errors import Report
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.platform import sections_from_guest
from mdtool.guest.platform.machine import _loadparm

pytestmark = pytest.mark.usefixtures("older_libvirt")

DOMAIN = """<domain type='qemu'><name>g</name><memory>262144</memory>
<os><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os><devices>{devices}</devices></domain>"""


def globals_of(devices: str, *, machine: str = "pc", os: str = "") -> dict[str, Any]:
    report = Report()
    text = DOMAIN.format(machine=machine, os=os, devices=devices)
    found = sections_from_guest(guest_from_bytes(text.encode(), "guest.xml"), report)
    report.done()
    return dict(found.get("features", {}).get("globals", {}))


FLOPPIES = "<disk device='floppy'><target dev='fda'/></disk><disk device='floppy'><target dev='fdb'/>{}</disk>"


@pytest.mark.parametrize(
    ("devices", "os", "expected"),
    [
        (FLOPPIES.format("<boot order='4'/>"), "", {"isa-fdc.bootindexB": 4}),
        (FLOPPIES.format(""), "<boot dev='hd'/><boot dev='fd'/>", {"isa-fdc.bootindexA": 2}),
        (FLOPPIES.format(""), "<boot dev='hd'/>", {}),
        ("<controller type='pci' index='0' model='pci-root'><target hotplug='off'/></controller>", "",
         {"PIIX4_PM.acpi-root-pci-hotplug": False}),
        ("<controller type='pci' index='0' model='pci-root'/>", "", {}),
    ],
)  # fmt: skip
def test_globals_of_i440fx(devices: str, os: str, expected: dict[str, Any]) -> None:
    assert globals_of(devices, os=os) == expected


def test_q35_has_its_floppy_controller_as_a_device() -> None:
    assert globals_of(FLOPPIES.format("<boot order='1'/>"), machine="pc-q35-7.2") == {}


def test_loadparm_is_that_of_the_disk_or_nic_that_is_first() -> None:
    devices = "<hostdev><boot order='1' loadparm='NO'/></hostdev>" + "".join(
        f"<disk><target dev='vd{name}'/><boot order='{order}' loadparm='{text}'/></disk>"
        for name, order, text in (("a", 2, "TWO"), ("b", 1, "ONE"))
    )
    assert _loadparm(guest_from_bytes(DOMAIN.format(machine="pc", os="", devices=devices).encode(), "g")) == "ONE"
    assert _loadparm(guest_from_bytes(DOMAIN.format(machine="pc", os="", devices="").encode(), "g")) is None
