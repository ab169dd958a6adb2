"""Defaults, allocation and ids against libvirt's own: each case is a guest without addresses and what libvirt made of it.

    allocation/NAME.xml -> allocation/NAME.devices     one -device a line: id, driver, place

``pytest --regenerate`` asks libvirt (9.0 made those that are there) and never mdtool, so a case cannot agree with itself.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import own_libvirt, require

from mdtool.errors import InputError, Report
from mdtool.guest.alias import with_ids
from mdtool.guest.allocate import allocate
from mdtool.guest.allocation import pci_buses
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import guest_from_bytes, guest_from_file, wanted_from_guest
from mdtool.guest.machines import Binary
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.guest.place import placed
from mdtool.machine.buses.arguments import device_arguments
from tests.support_waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("older_libvirt")
CASES = Path(__file__).parent / "allocation"
NAMES = sorted(path.stem for path in CASES.glob("*.xml"))
PLACE = ("bus", "addr", "multifunction", "port", "chassis", "chassis_nr", "bus_nr", "unit", "channel", "scsi-id", "lun",
         "nr", "slot", "cad", "masterbus", "firstport", "devno", "reg",
         "index", "uid", "fid", "target")  # fmt: skip


def lines(devices: Iterable[Mapping[str, Any]]) -> str:
    """One device a line, in the order of their names; those without id by what they are."""
    return "".join(sorted(f"{line}\n" for line in map(line_of, devices)))


def line_of(device: Mapping[str, Any]) -> str:
    places = [f"{name}={plain(device[name])}" for name in PLACE if name in device]
    return " ".join([device.get("id", "-"), device["driver"], *places])


def plain(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def libvirts(xml: str, folder: Path) -> str:
    """What libvirt makes of a guest.  Its domain is defined for a moment and never started."""
    virsh = ["virsh", "-q", "-c", own_libvirt()]
    name = f"mdtool-test-{uuid.uuid4().hex[:12]}"
    path = folder / "guest.xml"
    arch = re.search(r"arch='(\w+)'", xml)
    assert arch is not None
    binary = require(f"qemu-system-{'arm' if arch[1] == 'armv7l' else arch[1]}")
    emulator = f"<devices>\n    <emulator>{binary}</emulator>"
    path.write_text(xml.replace("<name>guest</name>", f"<name>{name}</name>").replace("<devices>", emulator, 1))
    subprocess.run([*virsh, "define", path], check=True, timeout=PATIENCE)
    try:
        said = subprocess.run(
            [*virsh, "domxml-to-native", "qemu-argv", "--domain", name],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
    finally:
        subprocess.run([*virsh, "undefine", "--nvram", name], check=True, timeout=PATIENCE)
    words = shlex.split(said.stdout)
    return lines(json.loads(value) for flag, value in itertools.pairwise(words) if flag == "-device" and value[0] == "{")


def settled(guest: Guest, occupied: Occupied | None = None) -> list[Wanted]:
    report = Report()
    wanted = with_defaults(guest, wanted_from_guest(guest, report))
    report.done()
    return with_ids(allocate(guest, wanted, occupied or Occupied()))


def guest_with(*devices: str, machine: str = "pc", arch: str = "x86_64") -> Guest:
    kind = f"<os><type arch='{arch}' machine='{machine}'>hvm</type></os>"
    xml = f"<domain type='qemu'><name>g</name>{kind}<devices>{''.join(devices)}</devices></domain>"
    return guest_from_bytes(xml.encode(), "guest.xml")


def places(guest: Guest, occupied: Occupied | None = None) -> dict[str, str]:
    """Id -> place, ``pci.1 00.0``."""
    return {str(node.id): f"{bus} {node.address}" for bus, node in placed(guest, settled(guest, occupied))}


@pytest.mark.parametrize(
    ("machine", "port", "serials"),
    [("pc-i440fx-7.2", ("02.0", "03.0"), ("05.0", "04.0")), ("pc-i440fx-11.1", ("03.0", "02.0"), ("04.0", "05.0"))],
)
def test_the_newest_libvirt_sorts_what_it_adds(machine: str, port: tuple[str, str], serials: tuple[str, str]) -> None:
    """As libvirt 9.0 and 12.8 have it: a bridge 2, so that 1 is added, and a channel on port 1, so that port 0 is."""
    at = "<address type='virtio-serial' controller='1' bus='0' port='3'/>"
    found = places(
        guest_with(
            "<controller type='pci' index='2' model='pci-bridge'/>",
            f"<channel type='null'><target type='virtio' name='a'/>{at}</channel>",
            "<channel type='null'><target type='virtio' name='b'/></channel>",
            machine=machine,
        )
    )
    assert [found["pci.2"][-4:], found["pci.1"][-4:]] == list(port)
    assert [found["virtio-serial0"][-4:], found["virtio-serial1"][-4:]] == list(serials)


def test_the_newest_libvirt_s_choices_are_those_of_its_older_machine_types_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt 12.8 is known by its QEMU; ARM has a usual model of SCSI controller, and takes that one."""
    disks = "<controller type='scsi' index='7' model='{}'/><disk type='file'><target dev='sda' bus='scsi'/></disk>"
    for version, driver in (("7.2.22", "lsi"), ("11.1.3", "virtio-scsi-pci")):
        qemu = Binary("/q", version, {})
        monkeypatch.setattr("mdtool.guest.choices.machines_of", lambda _path, qemu=qemu: qemu)
        guest = guest_with(disks.format("virtio-scsi"), machine="pc-i440fx-6.2")
        assert {node.id: node.driver for _, node in placed(guest, settled(guest))}["scsi0"] == driver
    arm = guest_with(disks.format("lsilogic"), machine="virt-11.1", arch="aarch64")
    assert {node.id: node.driver for _, node in placed(arm, settled(arm))}["scsi0"] == "virtio-scsi-pci"


@pytest.mark.parametrize(("machine", "ports"), [("pc-i440fx-7.2", ("1", "2")), ("pc-i440fx-11.1", ("2", "1"))])
def test_the_newest_libvirt_gives_sound_a_usb_port_before_the_mouse(machine: str, ports: tuple[str, str]) -> None:
    found = places(guest_with("<sound model='usb'/>", "<input type='mouse' bus='usb'/>", machine=machine))
    assert (found["input0"], found["sound0"]) == tuple(f"usb.0 {port}" for port in ports)


def test_a_pci_address_that_says_no_place_says_nothing_of_functions() -> None:
    for at in ("multifunction='on'", "bus='0x00' multifunction='on'"):
        guest = guest_with(f"<rng model='virtio'><backend model='builtin'/><address type='pci' {at}/></rng>")
        rng = next(node for _, node in placed(guest, settled(guest)) if node.id == "rng0")
        assert "multifunction" not in rng.properties


@pytest.mark.parametrize(("machine", "driver"), [("pc-i440fx-7.2", "lsi"), ("pc-i440fx-11.1", "virtio-scsi-pci")])
def test_the_newest_libvirt_adds_scsi_controllers_like_the_first(machine: str, driver: str) -> None:
    disk = "<disk type='file'><source file='/x'/><target dev='{}' bus='scsi'/></disk>"
    controller = "<controller type='scsi' index='0' model='virtio-scsi'/>"
    guest = guest_with(controller, disk.format("sda"), disk.format("sdh"), machine=machine)
    assert {node.id: node.driver for _, node in placed(guest, settled(guest))}["scsi1"] == driver


@pytest.mark.parametrize("name", NAMES)
def test_as_libvirt_has_it(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path, golden = CASES / f"{name}.xml", CASES / f"{name}.devices"
    if request.config.getoption("--regenerate"):
        golden.write_text(libvirts(path.read_text(), tmp_path))
    assert golden.is_file(), f"{golden.name} is missing: run pytest --regenerate where libvirt runs"
    guest = guest_from_file(path)
    nodes = placed(guest, settled(guest))
    providers = {bus.name: node for _, node in nodes for bus in node.buses}
    assert lines(device_arguments(bus, node, providers.get(bus)) for bus, node in nodes) == golden.read_text()


@pytest.mark.parametrize(
    ("ports", "ring"),
    [
        (
            "<controller type='pci' index='1' model='pcie-root-port'><address type='pci' bus='1' slot='0'/></controller>",
            "1",
        ),
        (
            "<controller type='pci' index='1' model='pcie-switch-downstream-port'/>"
            "<controller type='pci' index='2' model='pcie-root-port'/>"
            "<controller type='pci' index='3' model='pcie-switch-upstream-port'/>",
            "1, 3",
        ),
    ],
)
def test_ports_that_hang_on_each_other_are_refused(ports: str, ring: str) -> None:
    with pytest.raises(InputError) as refused:
        places(guest_with(ports, machine="q35"))
    assert refused.value.rule == "pci-ring"
    assert f"PCI controllers {ring} would" in str(refused.value)


def nics(number: int, model: str = "e1000") -> list[str]:
    return [
        f"<interface type='user'><mac address='52:54:00:00:{n >> 8:02x}:{n & 255:02x}'/><model type='{model}'/></interface>"
        for n in range(number)
    ]


def test_a_retired_place_is_the_last_to_be_given_out() -> None:
    """Slot 3 was somebody's: it stays free while there is another, and is used before a guest is refused."""
    guest = guest_with(*nics(28), "<controller type='usb' model='none'/>", "<memballoon model='none'/>")
    retired = Occupied(retired=[Address("pci", {"bus": 0, "slot": 3, "function": 0})])
    assert "pci.0 03.0" in places(guest).values()
    assert "pci.0 03.0" not in places(guest, retired).values()
    full = [Address("pci", {"bus": 0, "slot": slot, "function": 0}) for slot in range(2, 32) if slot != 3]
    alone = guest_with(*nics(1), "<controller type='usb' model='none'/>", "<memballoon model='none'/>")
    assert places(alone, Occupied(full, retired.retired)) == {"net0": "pci.0 03.0"}


@pytest.mark.parametrize(
    ("device", "address", "free"),
    [
        ("<input type='tablet' bus='usb'/>", Address("usb", {"bus": 0, "port": "1"}), "usb.0 2"),
        (
            "<disk type='file'><target dev='sdb' bus='scsi'/></disk>",
            Address("drive", {"controller": 0, "bus": 0, "target": 0, "unit": 1}),
            "scsi0.0 0:2:0",
        ),
        (
            "<channel type='pty'><target type='virtio' name='a'/></channel>",
            Address("virtio-serial", {"controller": 0, "bus": 0, "port": 1}),
            "virtio-serial0.0 2",
        ),
    ],
)
@pytest.mark.parametrize("how", ["addresses", "retired"])
def test_what_is_taken_is_passed_over(device: str, address: Address, free: str, how: str) -> None:
    assert free not in places(guest_with(device)).values()
    assert free in places(guest_with(device), Occupied(**{how: [address]})).values()


def test_a_second_function_never_changes_a_survivor() -> None:
    """A port at 01.0 that says it stands alone: the next port takes another slot, not 01.1."""
    ports = [f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in (1, 2)]
    guest = guest_with(*ports, "<controller type='usb' model='none'/>", "<memballoon model='none'/>", machine="q35")
    wanted = with_defaults(guest, wanted_from_guest(guest, Report()))

    def with_survivor(numbers: dict[str, Any]) -> dict[str, str]:
        address = Address("pci", {"bus": 0, "slot": 1, "function": 0, **numbers})
        have = [replace(one, address=address, id="pci.1") if one.origin == "controller/pci/1" else one for one in wanted]
        return {str(node.id): f"{bus} {node.address}" for bus, node in placed(guest, with_ids(allocate(guest, have)))}

    assert with_survivor({}) == {"pci.1": "pcie.0 01.0", "pci.2": "pcie.0 01.1"}
    assert with_survivor({"alone": True}) == {"pci.1": "pcie.0 01.0", "pci.2": "pcie.0 02.0"}


@pytest.mark.parametrize(
    "others", [Occupied(indices=[2, 5]), Occupied([Address("pci", {"bus": number, "slot": 0}) for number in (2, 5)])]
)
def test_buses_that_are_nobodys(others: Occupied) -> None:
    """Ports that a person added: nothing new goes onto them, and no new port takes their number."""
    guest = guest_with(*nics(6, "virtio"), "<controller type='usb' model='none'/>", machine="q35")
    found = places(guest, others)
    assert [found[f"net{number}"] for number in range(6)] == [f"pci.{bus} 00.0" for bus in (1, 3, 4, 6, 7, 8)]
    assert not {"pci.2", "pci.5"} & found.keys()


def test_two_consoles_that_ask_for_ports_of_one_controller() -> None:
    """libvirt gives both port 0, which QEMU refuses: the second one gets a port of its own there."""
    address = "<address type='virtio-serial' controller='1'/>"
    found = places(guest_with(*[f"<console type='pty'><target type='virtio'/>{address}</console>"] * 2))
    assert found["console0"] == "virtio-serial1.0 0"
    assert found["console1"] == "virtio-serial1.0 2"


def test_out_of_slots_says_what_is_free_and_what_to_add() -> None:
    guest = guest_with(*nics(300, "virtio"), machine="q35")
    with pytest.raises(InputError) as caught:
        settled(guest)
    said = str(caught.value)
    assert re.search(r"guest.xml:1:\d+: error: interface: no free PCI slot for virtio-net-pci", said)
    assert "free: 0 of 31 slots on bus 0 (pcie-root)" in said
    assert "--forget" in said


def test_no_slots_at_all() -> None:
    with pytest.raises(InputError, match=r"^guest.xml:1:\d+: error: .*no PCI bus"):
        settled(guest_with("<sound model='ac97'/>", machine="isapc"))
    with pytest.raises(InputError, match=r"no USB controller"):
        settled(guest_with("<input type='tablet' bus='usb'/>", "<controller type='usb' model='none'/>"))
    ide = [f"<disk type='file'><target dev='hd{letter}' bus='ide'/></disk>" for letter in "abcde"]
    with pytest.raises(InputError, match=r"no place for disk/hde: the ide controller has 4"):
        settled(guest_with(*ide))


@pytest.mark.parametrize(
    ("arch", "machine", "devices", "expected"),
    [
        (
            "s390x",
            "s390-ccw-virtio",
            ["<disk type='file'><target dev='vda' bus='virtio'/></disk>", *nics(1, "virtio")],
            {"virtio-disk0": "fe.0.0000", "net0": "fe.0.0001"},
        ),
        ("ppc64", "pseries", nics(2, "spapr-vlan"), {"net0": "1000", "net1": "2000"}),
        ("riscv64", "virt", nics(1, "virtio"), {"net0": "00.0"}),
    ],
)
def test_other_architectures(arch: str, machine: str, devices: list[str], expected: dict[str, str]) -> None:
    guest = guest_with(*devices, arch=arch, machine=machine)
    found = {node.id: node.address for _, node in placed(guest, settled(guest))}
    assert expected.items() <= found.items()


def test_three_hundred_devices_cost_five_times_sixty() -> None:
    """Counted, not timed: how often the allocator looks at a slot."""

    def looks(number: int) -> int:
        count = 0
        taken = pci_buses.PciBus.taken

        def counted(bus: pci_buses.PciBus, slot: int, *, never: bool = True) -> int:
            nonlocal count
            count += 1
            return taken(bus, slot, never=never)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pci_buses.PciBus, "taken", counted)
            settled(guest_with(*nics(number), machine="pc"))
        return count

    assert looks(300) < 8 * looks(60)


def test_what_is_written_for_qemu_gets_its_port_from_qemu() -> None:
    arguments = "".join(f"<qemu:arg value='{value}'/>" for value in ("-device", "usb-mouse"))
    xml = (
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><input type='tablet' bus='usb'/></devices>"
        f"<qemu:commandline>{arguments}</qemu:commandline></domain>"
    )
    guest = guest_from_bytes(xml.encode(), "guest.xml")
    assert {node.driver: node.address for _, node in placed(guest, settled(guest)) if "usb-" in node.driver} == {
        "piix3-usb-uhci": "01.2",
        "usb-tablet": "1",
        "usb-mouse": None,
    }


def test_devices_of_newer_libvirts() -> None:
    """Where libvirt 11.3 puts them: 9.0 drops these elements, or does not know them."""
    guest = guest_with(
        "<pstore backend='acpi-erst'><path>/p</path><size unit='KiB'>8</size></pstore>",
        "<crypto model='virtio' type='qemu'><backend model='builtin'/></crypto>",
        "<watchdog model='i6300esb'/>",
        "<rng model='virtio'><backend model='builtin'/></rng>",
        "<panic model='pvpanic'/>",
        machine="q35",
    )
    found = places(guest)
    assert {name: found[name] for name in ("pci.5", "watchdog0", "crypto0", "pstore0", "rng0", "None", "usb")} == {
        "pci.5": "pci.1 00.0",
        "watchdog0": "pci.5 01.0",
        "crypto0": "pci.5 02.0",
        "pstore0": "pci.5 03.0",
        "rng0": "pci.4 00.0",
        "None": "pcie.0 02.0",  # pvpanic-pci, which has no id
        "usb": "pci.2 00.0",
    }


def usb(model: str, mice: int) -> str:
    """A guest with a USB controller of a model, and mice."""
    devices = f"<controller type='usb' index='0' model='{model}'/>" + "<input type='mouse' bus='usb'/>" * mice
    devices += "<memballoon model='none'/><video><model type='none'/></video>"
    return (
        "<domain type='qemu'><name>guest</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{devices}</devices></domain>"
    )


@pytest.mark.usefixtures("libvirt")
@pytest.mark.parametrize("model", ["piix3-uhci", "piix4-uhci", "pci-ohci", "ehci", "nec-xhci", "qemu-xhci"])
def test_the_first_hub_comes_where_libvirt_has_it(model: str, tmp_path: Path) -> None:
    """Every mouse where libvirt puts it, on the controller and behind hubs; a port more or less moves devices."""

    def mice(argv: Iterable[str]) -> list[tuple[str, str]]:
        found = [line.split() for line in argv if "usb-mouse" in line or "usb-hub" in line]
        return [(words[1], next(word for word in words if word.startswith("port="))) for words in found]

    hubs = False
    for number in range(1, 9):
        xml = usb(model, number)
        guest = guest_from_bytes(xml.encode(), "guest.xml")
        ours = lines(device_arguments(bus, node, None) for bus, node in placed(guest, settled(guest)))
        assert mice(ours.splitlines()) == mice(libvirts(xml, tmp_path).splitlines()), number
        hubs = hubs or "usb-hub" in ours
    assert hubs
