"""What the XML leaves open: the newest libvirt's choice for a fresh guest, the machine's own for a described one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import mdtool

from mdtool.errors import MdtoolError, Report
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.reconcile import linked, reconcile

DISK = "<disk type='file' device='disk'><source file='/disk.img'/><target dev='sda' bus='scsi'/></disk>"


def guest(devices: str, arch: str = "aarch64", machine: str = "virt-7.2") -> Guest:
    text = (
        "<domain type='qemu'><name>open</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
        f"<os><type arch='{arch}' machine='{machine}'>hvm</type></os><devices>{devices}<memballoon model='none'/></devices></domain>"
    )
    return guest_from_bytes(text.encode(), "guest.xml")


def dumped(tree: Tree) -> Tree:
    """A tree as a monitor tells it: nobody knows what asked for a device."""

    def bus(one: Bus) -> Bus:
        return replace(one, devices=tuple(map(node, one.devices)))

    def node(one: Node) -> Node:
        return replace(one, origin=None, applied={}, buses=tuple(map(bus, one.buses)))

    return replace(tree, buses=tuple(map(bus, tree.buses)), applied={})


@pytest.mark.parametrize("model", ["lsilogic", "virtio-scsi"])
@pytest.mark.parametrize("more", ["", "<controller type='scsi' index='0'/>"])
@pytest.mark.parametrize(("arch", "machine"), [("aarch64", "virt-7.2"), ("x86_64", "pc-i440fx-7.2")])
def test_the_machine_that_runs_has_chosen_its_controller(model: str, more: str, arch: str, machine: str) -> None:
    """Whichever libvirt started it, its bare SCSI disk stays what and where it is."""
    named = f"<controller type='scsi' index='0' model='{model}'/>"
    running = dumped(reconcile(guest(DISK + named, arch, machine)).tree)
    bare = guest(DISK + more, arch, machine)
    result = reconcile(bare, linked(bare, running, Report()))
    assert not result.plan, [str(step.name) for step in result.plan.steps if step.action.name != "KEEP"]


def test_a_model_that_nobody_names_is_the_described_one() -> None:
    nic = "<interface type='user'><mac address='52:54:00:00:5a:01'/>{}</interface>"
    first = reconcile(guest(nic.format("<model type='e1000'/>"), "x86_64", "pc-q35-7.2")).tree
    found = reconcile(guest(nic.format(""), "x86_64", "pc-q35-7.2"), dumped(first))
    assert "e1000" in {place.node.driver for place in found.tree.places}


@pytest.mark.parametrize(
    ("arch", "machine", "model"),
    [
        ("armv7l", "virt-7.2", "qemu-xhci"),
        ("armv7l", "versatilepb", "piix3-usb-uhci"),
        ("aarch64", "virt-7.2", "qemu-xhci"),
        ("ppc64", "pseries-7.2", "qemu-xhci"),
        ("x86_64", "pc-i440fx-7.2", "piix3-usb-uhci"),
    ],
)
def test_a_usb_controller_without_a_model(arch: str, machine: str, model: str) -> None:
    tree = reconcile(guest("<controller type='usb' index='0'/>", arch, machine)).tree
    assert tree.by_name["usb"].node.driver == model


@pytest.mark.parametrize(
    ("machine", "devices"),
    [("pseries-7.2", ["usb-kbd", "usb-mouse"]), ("pseries-8.2", ["usb-kbd", "usb-kbd", "usb-mouse"])],
)
def test_a_keyboard_whose_bus_is_open_is_none_of_the_screens(machine: str, devices: list[str]) -> None:
    """To the newest libvirt; the implied one is the same at each reconcile."""
    wish = guest("<input type='keyboard'/><graphics type='vnc'/>", "ppc64", machine)
    report = Report()
    found = [one for one in with_defaults(wish, wanted_from_guest(wish, report)) if one.kind == "input"]
    assert sorted(one.driver for one in found) == devices
    assert len({one.origin for one in found}) == len(found)


def test_a_fresh_guest_gets_the_newest_choice() -> None:
    tree = reconcile(guest(DISK + "<panic/>")).tree
    assert {"virtio-scsi-pci", "pvpanic-pci"} <= {place.node.driver for place in tree.places}
    assert tree.by_name["scsi0-0-0-0"].address == ("scsi0.0", "0:0:0")


SERIAL = "<serial type='null'><target type='isa-serial'{}</serial>"


@pytest.mark.parametrize(
    ("arch", "machine", "drivers"),
    [
        ("aarch64", "virt-7.2", set()),
        ("armv7l", "vexpress-a9", set()),
        ("ppc", "mac99", set()),
        ("ppc64", "pseries-7.2", {"spapr-vty"}),
        ("s390x", "s390-ccw-virtio-7.2", {"sclpconsole"}),
        ("x86_64", "pc-q35-7.2", {"isa-serial"}),
    ],
)
def test_a_serial_port_of_a_pc_is_the_machines_own(arch: str, machine: str, drivers: set[str]) -> None:
    tree = reconcile(guest(SERIAL.format("/>"), arch, machine)).tree
    known = {"isa-serial", "spapr-vty", "sclpconsole"}
    assert {place.node.driver for place in tree.places} & known == drivers


@pytest.mark.parametrize(
    "device",
    [
        SERIAL.format("><model name='isa-serial'/></target>"),
        "<serial type='null'><target type='isa-debug'/></serial>",
        "<parallel type='null'/>",
        "<panic model='isa'/>",
        "<watchdog model='ib700'/>",
        "<sound model='sb16'/>",
        "<input type='mouse' bus='ps2'/>",
        "<disk type='file' device='floppy'><source file='/x'/><target dev='fda' bus='fdc'/></disk>",
        "<interface type='user'><mac address='52:54:00:11:22:33'/><model type='ne2k_isa'/></interface>",
    ],
)
def test_what_needs_an_isa_bus_is_refused_at_its_line(device: str) -> None:
    with pytest.raises(MdtoolError, match=r"guest\.xml:1:\d+: error: .*this machine has no ISA bus"):
        reconcile(guest(device))


def test_the_written_xml_and_its_source_are_the_same_guest(tmp_path: Path) -> None:
    (tmp_path / "guest.xml").write_text(
        "<domain type='qemu'><name>p</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><devices>"
        + DISK.replace("scsi", "sata")
        + "</devices></domain>"
    )
    assert mdtool("reconcile", tmp_path / "guest.xml", tmp_path / "g.yaml", "--write-xml", tmp_path / "full.xml") == 0
    assert "ahci" not in (tmp_path / "full.xml").read_text()
    for xml in ("full.xml", "guest.xml"):  # neither rewrites what is recorded
        assert mdtool("reconcile", tmp_path / xml, tmp_path / "g.yaml", "--dry-run") == 0
