"""A device for which there is no place: which, how much room there is where, and what to add."""

from __future__ import annotations

import pytest

from mdtool.errors import Errors, InputError, MdtoolError
from mdtool.guest.devices import guest_from_bytes
from mdtool.reconcile import reconcile

_USB = "<controller type='usb' index='0' model='piix3-uhci'/>"
_NO_USB = "<controller type='usb' model='none'/>"


def refused(machine: str, *devices: str, usb: str = _NO_USB) -> InputError:
    """The one error of a guest with these devices, each on a line of its own, the first of them on line 3."""
    xml = "\n".join((
        f"<domain type='qemu'><name>g</name><memory>65536</memory><os><type arch='x86_64' machine='{machine}'>hvm</type></os>",
        f"<devices><memballoon model='none'/>{usb}",
        *devices,
        "</devices></domain>",
    ))  # fmt: skip
    with pytest.raises(MdtoolError) as caught:
        reconcile(guest_from_bytes(xml.encode(), "g.xml"))
    error = caught.value.errors[0] if isinstance(caught.value, Errors) else caught.value
    assert isinstance(error, InputError) and error.rule == "out-of-slots"
    return error


def nic(number: int, slot: int | None = None) -> str:
    address = f"<address type='pci' bus='0' slot='{slot}'/>" if slot is not None else ""
    return f"<interface type='user'><mac address='52:54:00:00:00:{number:02x}'/><model type='e1000'/>{address}</interface>"


def disk(target: str, bus: str, address: str = "") -> str:
    return f"<disk type='file' device='disk'><source file='/x'/><target dev='{target}' bus='{bus}'/>{address}</disk>"


def test_a_machine_without_pci() -> None:
    error = refused("isapc", nic(1))
    assert str(error.at) == "g.xml:3:1"
    assert error.what == "interface: e1000 (interface/52:54:00:00:00:01) is a PCI device, and this machine has no PCI bus"
    assert error.remedy == "choose another model, or another machine type"


_PCI = "bus 0 (pci-root), 31 of 31 slots on bus 1 (pci-bridge); expected a bus that takes a pci-bridge device"
_EXPRESS = "bus 0 (pcie-root); expected a bus that takes a {} device"


@pytest.mark.parametrize(
    ("machine", "slots", "model", "what", "where", "add"),
    [
        ("pc-i440fx-7.2", range(2, 32), "e1000", "1:61: error: controller: {}pci-bridge (controller/pci/1)", _PCI, "pci"),
        ("pc-q35-7.2", range(1, 31), "e1000e", "33:1: error: interface: {}e1000e ({mac})", _EXPRESS.format("pcie"), "pcie"),
        (
            "pc-q35-7.2",
            range(1, 31),
            "rtl8139",
            "33:1: error: interface: {}rtl8139 ({mac})",
            _EXPRESS.format("pci"),
            "pcie",
        ),
    ],
)
def test_a_full_root_bus(machine: str, slots: range, model: str, what: str, where: str, add: str) -> None:
    error = refused(machine, *(nic(slot, slot) for slot in slots), nic(99).replace("e1000", model))
    said = what.format("no free PCI slot for ", mac="interface/52:54:00:00:00:63")
    assert str(error).splitlines() == [
        f"g.xml:{said}; free: 0 of 31 slots on {where} [out-of-slots]",
        f"  remove a device; make room for a {add}-expander-bus on bus 0 and put new ports on it; "
        "mdtool reconcile --forget frees the addresses of removed devices",
    ]


@pytest.mark.parametrize("target", ["hde", "sdx"])
def test_more_disks_than_the_ide_controller_has(target: str) -> None:
    error = refused("pc-i440fx-7.2", *(disk(f"hd{letter}", "ide") for letter in "abcd"), disk(target, "ide"))
    assert str(error.at) == "g.xml:7:1"
    assert error.what == f"disk: no place for disk/{target}: the ide controller has 4"
    assert error.remedy == "put it on another bus: <target bus='sata'/> or <target bus='virtio'/>"


def test_the_last_place_on_the_ide_controller_is_taken_by_address() -> None:
    at = "<address type='drive' controller='0' bus='{}' unit='{}'/>"
    others = [disk(f"sd{n}", "ide", at.format(*divmod(n, 2))) for n in range(4)]
    error = refused("pc-i440fx-7.2", *others, disk("hda", "ide"))
    assert error.what == "disk: no place for disk/hda; free: 0 of 4 on the ide controller"


def test_a_guest_without_usb() -> None:
    error = refused("pc-i440fx-7.2", "<input type='tablet' bus='usb'/>")
    assert error.what == "input: no free USB port for usb-tablet (input/usb/tablet); this guest has no USB controller"
    assert error.remedy == "add <controller type='usb' model='qemu-xhci'/> or <hub type='usb'/>"


def test_no_port_of_a_usb_controller_is_left_for_a_hub() -> None:
    ports = [f"<redirdev bus='usb' type='spicevmc'><address type='usb' bus='0' port='{n}'/></redirdev>" for n in (1, 2)]
    error = refused("pc-i440fx-7.2", *ports, "<input type='tablet' bus='usb'/>", usb=_USB)
    assert error.what == "hub: no free USB port for usb-hub (hub/usb); all ports of USB bus 0 are taken"
