"""Places that no number says: buses of devices that libvirt did not number, slots that are shared, places that were another's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import mdtool

from mdtool.errors import ConflictError, MdtoolError
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.model import Guest
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.reconcile import Options, Result, reconcile
from mdtool.reconcile.minimal import minimal
from mdtool.reconcile.plan import Action, Reason

NS = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
NIC = "<interface type='user'><mac address='52:54:00:00:5a:{0:02x}'/><model type='{1}'/>{2}</interface>"


def guest(devices: str = "", *options: str, machine: str = "pc-q35-7.2", more: str = "") -> Guest:
    words = "".join(f"<qemu:arg value='{word}'/>" for word in options)
    text = (
        f"<domain type='qemu' {NS}><name>places</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/></features>{more}"
        f"<devices>{devices}<memballoon model='none'/></devices><qemu:commandline>{words}</qemu:commandline></domain>"
    )
    return guest_from_bytes(text.encode(), "guest.xml")


def nic(number: int, place: str = "", model: str = "virtio") -> str:
    address = f"<address type='pci' domain='0' {place}/>" if place else ""
    return NIC.format(number, model, address)


def changes(result: Result) -> list[str]:
    return [f"{step.action.value} {step.name}" for step in result.plan.steps if step.action is not Action.KEEP]


def test_another_model_of_a_device_of_the_command_line_keeps_its_place() -> None:
    """From conventional PCI to PCI Express too: libvirt would choose another slot, QEMU takes both on pcie.0."""
    first = reconcile(guest("", "-device", "e1000,id=card,bus=pcie.0,addr=0x9"))
    again = reconcile(guest("", "-device", "virtio-net-pci,id=card"), first.tree)
    assert changes(again) == ["± card"]
    assert again.tree.by_name["card"].address == ("pcie.0", "09.0")


BEHIND = {
    "a port named port7": ("pcie-root-port,bus=pcie.0,addr=1c.0,chassis=31,id=port7", "edu,bus=port7,addr=00.0,id=card"),
    "a port named pci.7": ("pcie-root-port,bus=pcie.0,addr=1c.0,chassis=31,id=pci.7", "edu,bus=pci.7,addr=00.0,id=card"),
    "a port named as libvirt's first": ("ioh3420,bus=pcie.0,addr=1c.0,chassis=31,id=usb3", "edu,bus=usb3,addr=0,id=card"),
    "a bridge": ("i82801b11-bridge,bus=pcie.0,addr=1e.0,id=below", "edu,bus=below,addr=0x5,id=card"),
}


@pytest.mark.parametrize("case", BEHIND)
def test_what_sits_behind_a_device_of_the_command_line_stays(case: str) -> None:
    port, card = BEHIND[case]
    asked = guest(nic(1), "-device", port, "-device", card)
    first = reconcile(asked)
    again = reconcile(asked, first.tree)
    assert not again.plan, changes(again)
    bus = card.partition("bus=")[2].partition(",")[0]
    where = again.tree.by_name["card"].address
    assert where is not None and where[0] == bus


def test_another_address_on_the_command_line_is_not_passed_over() -> None:
    before = guest(
        "", "-device", "pci-bridge,bus=pcie.0,addr=1e.0,chassis_nr=9,id=b", "-device", "edu,bus=b,addr=5,id=card"
    )
    after = guest("", "-device", "pci-bridge,bus=pcie.0,addr=1e.0,chassis_nr=9,id=b", "-device", "edu,bus=b,addr=6,id=card")
    with pytest.raises(ConflictError, match=r"the XML puts it at qemu b:06\.0, the description at b 05\.0"):
        reconcile(after, reconcile(before).tree)
    result = reconcile(after, reconcile(before).tree, Options(prefer="xml"))
    assert changes(result) == ["± card"] and result.tree.by_name["card"].address == ("b", "06.0")


def test_a_device_behind_a_port_of_another_name_stays_when_a_dump_is_adopted() -> None:
    """A script's port is nobody's number: what the XML asks for stays behind it."""
    card = Node("virtio-net-pci", "net0", "00.0", properties={"mac": "52:54:00:00:5a:01"})
    port = Node("pcie-root-port", "rp3", "05.0", properties={"chassis": 3}, buses=(Bus("rp3", "PCIE", (card,)),))
    tree = Tree(machine={"type": "pc-q35-7.2"}, buses=(Bus("pcie.0", "PCIE", (port,)),))
    result = reconcile(guest(nic(1)), tree)
    assert result.tree.by_name["net0"].address == ("rp3", "00.0")
    assert "rp3" in result.tree.by_name


@pytest.mark.parametrize("said", ["", " multifunction='on'"])
def test_function_0_of_a_survivor_becomes_multifunction(said: str) -> None:
    first = nic(1, f"bus='0' slot='3' function='0'{said}", "e1000")
    old = reconcile(guest(nic(1, "bus='0' slot='3' function='0'", "e1000"), machine="pc-i440fx-7.2")).tree
    both = first + nic(2, "bus='0' slot='3' function='1'", "e1000")
    result = reconcile(guest(both, machine="pc-i440fx-7.2"), old)
    assert result.tree.by_name["net0"].node.properties["multifunction"] is True
    assert changes(result) == ["~ net0", "+ net1"]
    assert not reconcile(guest(both, machine="pc-i440fx-7.2"), result.tree).plan


def test_a_minimal_description_is_completed_and_not_changed() -> None:
    usb = (
        "<controller type='usb' index='0' model='ich9-ehci1'/>"
        "<controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>"
    )
    bare = minimal(reconcile(guest(usb)).tree)
    result = reconcile(guest(usb), bare)
    assert not result.plan, changes(result)
    zero = next(place.node for place in result.tree.places if place.node.driver == "ich9-usb-uhci1")
    assert zero.address is not None and zero.properties["multifunction"] is True


def test_a_port_of_a_dump_that_the_xml_does_not_list_stays() -> None:
    listed = "<controller type='pci' index='0' model='pcie-root'/>"
    made = reconcile(guest(listed)).tree
    adopted = Tree(machine=made.machine, buses=tuple(map(_as_dumped, made.buses)))
    result = reconcile(guest(listed), adopted)
    assert not [name for name in changes(result) if name.startswith("- ")]


def _as_dumped(bus: Bus) -> Bus:
    return Bus(
        bus.name,
        bus.type,
        tuple(
            Node(n.driver, n.id, n.address, properties=n.properties, buses=tuple(map(_as_dumped, n.buses)))
            for n in bus.devices
        ),
    )


def test_a_new_device_at_the_place_of_a_removed_one_is_remarked() -> None:
    old = reconcile(guest(nic(1, "bus='0' slot='3'", "e1000"), machine="pc-i440fx-7.2")).tree
    reused = reconcile(guest(nic(2, "bus='0' slot='3'", "e1000"), machine="pc-i440fx-7.2"), old)
    fresh = reconcile(guest(nic(2, "bus='0' slot='4'", "e1000"), machine="pc-i440fx-7.2"), old)
    reasons = {step.name: (step.reason, step.detail) for step in reused.plan.steps if step.action is Action.ADD}
    assert list(reasons.values()) == [(Reason.REUSED, "net0")]
    assert [step.reason for step in fresh.plan.steps if step.action is Action.ADD] == [Reason.NEW]
    later = reconcile(guest("", machine="pc-i440fx-7.2"), old).tree  # the place is kept, and taken a step later
    again = reconcile(guest(nic(2, "bus='0' slot='3'", "e1000"), machine="pc-i440fx-7.2"), later)
    assert [step.reason for step in again.plan.steps if step.action is Action.ADD] == [Reason.REUSED]


@pytest.mark.parametrize(
    ("more", "devices"),
    [
        ("<cpu mode='host-passthrough' check='none' migratable='on'/>", ""),
        ("<cpu mode='host-passthrough'/><pm><suspend-to-mem enabled='yes'/><suspend-to-disk enabled='yes'/></pm>", ""),
        ("<cpu mode='host-passthrough'/><clock offset='utc'><timer name='hpet' present='yes'/></clock>", ""),
        ("<cpu mode='host-passthrough'/>", "<rng model='virtio'><backend model='random'>/dev/urandom</backend>"
         "<driver iommu='off' ats='off' packed='off'/></rng>"),
    ],
)  # fmt: skip
def test_a_default_that_is_written_out_is_no_change(more: str, devices: str) -> None:
    """Neither where it comes nor where it goes, and nothing is written for it."""
    plain = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>" if devices else ""
    short = guest(plain, more="<cpu mode='host-passthrough'/>")
    long = guest(devices, more=more)
    described = reconcile(short).tree
    result = reconcile(long, described)
    assert not result.plan, changes(result)
    assert result.tree == reconcile(short, described).tree
    described = reconcile(long).tree
    result = reconcile(short, described)
    assert not result.plan, changes(result)
    assert result.tree == described


OPTIONS = {
    "usb": ("-device", "qemu-xhci,id=z,bus=pcie.0,addr=0x1e", "-device", "usb-tablet,bus=z.0,id=a"),
    "sound": ("-device", "ich9-intel-hda,id=snd,bus=pcie.0,addr=0x1b", "-device", "hda-micro,bus=snd.0,audiodev=n",
              "-audiodev", "none,id=n"),
    "scsi in a usb device": ("-device", "qemu-xhci,id=z,bus=pcie.0,addr=0x1e", "-device", "usb-bot,id=y,bus=z.0",
                             "-device", "scsi-cd,bus=y.0,id=a"),
    "a bus that no table knows": ("-device", "tpci200,id=z,bus=pcie.0,addr=0x1e", "-device", "ipoctal232,bus=z.0,id=a"),
    "a processor": ("-cpu", "Penryn,vendor=GenuineIntel,+sse4.2", "-smp", "2,cores=2", "-m", "300"),
    "a machine": ("-machine", "hpet=off,vmport=off"),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("via", ["device", "file"])
def test_the_command_line_of_the_xml_starts_as_described(case: str, via: str, qemu: str, tmp_path: Path) -> None:
    """Devices come in the order of their buses, and what an option says of the machine is described."""
    xml, yaml = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    words = "".join(f"<qemu:arg value='{word}'/>" for word in OPTIONS[case])
    xml.write_text(
        f"<domain type='qemu' {NS}><name>order</name><uuid>3c1f7a20-5b8e-4d16-9a42-000060007400</uuid>"
        "<memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
        f"<devices/><qemu:commandline>{words}</qemu:commandline></domain>"
    )
    assert mdtool("reconcile", xml, yaml) == 0
    assert mdtool("launch", xml, yaml, "--rehearse", "--via", via) == 0


def test_a_malformed_option_is_an_error_at_its_line() -> None:
    with pytest.raises(MdtoolError, match=r"guest\.xml:1:[0-9]+: error: -smp many: not as QEMU takes it"):
        reconcile(guest("", "-smp", "many"))


def test_a_machine_without_a_row_is_left_to_qemu() -> None:
    """The root that the XML names is believed, and nothing is said to lack PCI."""
    xml = (
        "<domain type='qemu'><name>m</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
        "<os><type arch='{0}' machine='{1}'>hvm</type></os><devices>{2}" + nic(1, model="e1000") + "</devices></domain>"
    )
    root = "<controller type='pci' index='0' model='{}'/>"
    for arch, machine, model, bus in (
        ("ppc", "mac99", "pci-root", "pci.0"),
        ("ppc", "g3beige", "", "pci.0"),
        ("x86_64", "microvm", "pcie-root", "pcie.0"),
    ):
        if subprocess.run(["which", f"qemu-system-{arch}"], capture_output=True).returncode:
            continue
        text = xml.format(arch, machine, root.format(model) if model else "")
        where = reconcile(guest_from_bytes(text.encode(), "guest.xml")).tree.by_name["net0"].address
        assert where is not None and (where[0] == bus or bus == "pcie.0")
