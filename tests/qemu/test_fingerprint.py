"""A fingerprint is the same at every start, and every fault that is put into a machine is found and named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import other_root, require
from support_proof import changed, i440fx, q35

from mdtool.compare import ADDRESS, FIRMWARE, IDENTITY, PCI, PROPERTY
from mdtool.errors import QemuError
from mdtool.proof import acpi, fwcfg, pci
from mdtool.proof.differences import ViewChange, compare
from mdtool.proof.fingerprint import (
    Fingerprint,
    fingerprint_from_argv,
    fingerprint_from_json,
    fingerprint_to_json,
    fingerprint_to_text,
)
from mdtool.proof.probe import probed
from tests.support_waiting import PATIENCE, gone


@pytest.fixture(scope="module")
def clean() -> Fingerprint:
    require("qemu-system-x86_64")
    return fingerprint_from_argv(q35())


def test_the_same_at_every_start(clean: Fingerprint) -> None:
    for _ in range(19):  # and the one that stands
        again = fingerprint_from_argv(q35())
        assert compare(clean, again) == []
        assert again == clean
        assert fingerprint_to_text(again) == fingerprint_to_text(clean)


def test_the_order_of_options_shows_in_the_numbers_of_hot_plug_alone(clean: Fingerprint) -> None:
    """ACPI numbers the buses that can hot-plug as they are created; nothing else depends on the order."""
    words = q35()
    pairs = [tuple(words[at : at + 2]) for at in range(1, len(words)) if words[at] == "-device"]
    rest = words[: words.index("-device")]
    ports = [pair for pair in pairs if "root-port" in pair[1]]
    others = [pair for pair in pairs if "root-port" not in pair[1]]
    shuffled = [word for pair in reversed(ports) for word in pair] + [word for pair in reversed(others) for word in pair]
    again = fingerprint_from_argv(rest + shuffled)
    assert {change.field for change in compare(clean, again)} == {"BSEL", "PCNT"}


def test_json_and_back(clean: Fingerprint) -> None:
    assert fingerprint_from_json(fingerprint_to_json(clean)) == clean


def test_text_has_one_line_a_device(clean: Fingerprint) -> None:
    lines = fingerprint_to_text(clean).splitlines()
    ours = [line for line in lines if line.startswith("pci 02.0/00.0 ")]
    assert len(ours) == 1
    assert "(net0) 1af4:1041" in ours[0]
    assert "msix@" in ours[0]
    assert re.search(r"; rom \d+k [0-9a-f]{12};", ours[0])  # the builds of the ROM differ
    assert sum(line.startswith("pci ") for line in lines) == len(clean.functions)
    assert not any("7.2.22" in line for line in lines)  # an upgrade that changes nothing changes no line


def test_every_function_behind_every_bridge_is_there(clean: Fingerprint) -> None:
    by_id = {function.id: function for function in clean.functions if function.id}
    assert by_id.keys() == {"rp1", "rp2", "rp3", "net0", "scsi0", "nic1", "usb", "video0", "watchdog0"}
    assert {name: function.path for name, function in by_id.items()} == {
        "rp1": "02.0",
        "rp2": "02.1",
        "rp3": "02.2",
        "net0": "02.0/00.0",
        "scsi0": "02.1/00.0",
        "nic1": "02.2/00.0",
        "usb": "03.0",
        "video0": "04.0",
        "watchdog0": "05.0",
    }
    assert [len(by_id[name].config) for name in ("net0", "nic1", "watchdog0")] == [4096, 4096, 256]
    assert [(bar.index, bar.size) for bar in by_id["nic1"].bars] == [(0, 0x20000), (1, 0x20000), (2, 32), (3, 0x4000)]


def test_what_is_read_is_the_state_after_reset(clean: Fingerprint) -> None:
    for function in clean.functions:
        if function.header == pci.BRIDGE:
            assert function.config[0x18:0x1B] == bytes(3), "a bus number that the reader gave out"
        assert not function.number(0x04, 2) & 0x2, "memory decoding that the reader switched on"


# --- faults ------------------------------------------------------------------------------------------------------

#: fault: (command line, a change that must be found: section, node, field, severity; None for any)
Found = tuple[str, str | None, str | None, str | None]
FAULTS: dict[str, tuple[Sequence[str], Found]] = {
    "device dropped": (q35(watchdog0=None), ("pci", "watchdog0", "", IDENTITY)),
    "device added": (q35("-device", "edu,id=edu0,bus=pcie.0,addr=06.0"), ("pci", "edu0", "", IDENTITY)),
    "device moved": (q35(**changed("watchdog0", "05.0", "07.0")), ("pci", "watchdog0", "address", ADDRESS)),
    "device behind another port": (
        q35(**changed("net0", "bus=rp1", "bus=rp2"), **changed("scsi0", "bus=rp2", "bus=rp1")),
        ("pci", "net0", "address", ADDRESS),
    ),
    "function swapped": (
        q35(**changed("rp2", "02.1", "02.2"), **changed("rp3", "02.2", "02.1")),
        ("pci", "rp2", "address", ADDRESS),
    ),
    "device replaced": (q35(**changed("nic1", "e1000e", "rtl8139")), ("pci", "nic1", "device", PCI)),
    "rombar off": (q35(**changed("nic1", "mac", "rombar=0,mac")), ("pci", "nic1", "rom size", FIRMWARE)),
    "rom larger": (q35(**changed("nic1", "mac", "romsize=1048576,mac")), ("pci", "nic1", "rom size", FIRMWARE)),
    "rom other": (
        q35(**changed("nic1", "mac", "romfile=efi-e1000.rom,mac")),
        ("pci", "nic1", "rom content", FIRMWARE),
    ),
    "vectors": (q35(**changed("net0", "mac", "vectors=8,mac")), ("pci", "net0", "msix control", PROPERTY)),
    "mac": (q35(**changed("net0", "22:33", "22:34")), ("virtio", "net0", "mac", IDENTITY)),
    "mac of e1000e": (q35(**changed("nic1", "22:44", "22:45")), ("pci", "nic1", "serial number number", PROPERTY)),
    "feature off": (q35(**changed("net0", "mac", "ctrl_vlan=off,mac")), ("virtio", "net0", "features", PROPERTY)),
    "queues": (q35(**changed("scsi0", "addr", "num_queues=3,addr")), ("virtio", "scsi0", "queues", PROPERTY)),
    "modern only": (q35(**changed("net0", "mac", "disable-legacy=off,mac")), ("pci", "net0", "device", PCI)),
    "ats": (q35(**changed("net0", "mac", "ats=on,mac")), ("pci", "net0", "ats header", PROPERTY)),
    "slot number": (q35(**changed("rp1", "port=16", "port=19")), ("pci", "rp1", None, PROPERTY)),
    "slot": (q35(**changed("rp1", "chassis=1", "chassis=1,slot=9")), ("pci", "rp1", "pcie slot capabilities", PROPERTY)),
    "hotplug off": (
        q35(**changed("rp1", "chassis", "hotplug=off,chassis")),
        ("pci", "rp1", "pcie slot capabilities", PROPERTY),
    ),
    "link speed": (
        q35(**changed("rp1", "chassis", "x-speed=8,chassis")),
        ("pci", "rp1", "pcie link capabilities", PROPERTY),
    ),
    "compat switch": (
        q35("-global", "pcie-root-port.power_controller_present=off"),
        ("pci", "rp1", "pcie slot capabilities", PROPERTY),
    ),
    "video memory": (q35(**changed("video0", "VGA", "VGA,vgamem_mb=32")), ("pci", "video0", "bar 0", PROPERTY)),
    "machine type": (q35(machine="pc-q35-7.1"), ("machine", "", "type", IDENTITY)),
    "acpi-index": (q35(**changed("net0", "mac", "acpi-index=7,mac")), ("acpi", "net0", "acpi-index", FIRMWARE)),
    "acpi off": (q35(machine="pc-q35-7.2,acpi=off"), ("acpi", "", "", FIRMWARE)),
    "hpet off": (q35(machine="pc-q35-7.2,hpet=off"), ("acpi", "", "", FIRMWARE)),
    "oem id": (q35(machine="pc-q35-7.2,x-oem-id=ACME"), ("acpi", "", "oem id", FIRMWARE)),
    "iommu": (q35("-device", "intel-iommu"), ("acpi", "", "", FIRMWARE)),
    "acpi hotplug off": (
        q35("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"),
        ("acpi", "net0", None, FIRMWARE),
    ),
    "numa": (q35("-object", "memory-backend-ram,id=m0,size=256M", "-numa", "node,memdev=m0"), ("acpi", "", "", FIRMWARE)),
    "smbios serial": (
        q35(smbios="type=1,manufacturer=Acme,product=Rocket,serial=0816"),
        ("smbios", "", "serial", IDENTITY),
    ),
    "smbios product": (
        q35(smbios="type=1,manufacturer=Acme,product=Sled,serial=0815"),
        ("smbios", "", "product", FIRMWARE),
    ),
    "uuid": (q35("-uuid", "4c2ab0f7-4da7-4a4f-8ba5-7a6a4f2e1c11"), ("smbios", "", "uuid", IDENTITY)),
    "memory": (q35(memory="512"), ("e820", "", "size", FIRMWARE)),
    "boot order": (
        q35(**changed("net0", "mac", "bootindex=1,mac")),
        ("fw_cfg", "", None, FIRMWARE),
    ),
    "boot menu": (q35("-boot", "menu=on,splash-time=5000"), ("fw_cfg", "", None, FIRMWARE)),
    "cpu feature": (q35(cpu="qemu64,+aes"), ("cpu", "", "bits", PROPERTY)),
    "cpu model": (q35(cpu="Nehalem"), ("cpu", "", "type", PROPERTY)),
    "cpus": (q35(smp="3"), ("cpu", "", "cpus", PROPERTY)),
    "topology": (q35(smp="2,sockets=2,cores=1,threads=1"), ("smbios", "", None, FIRMWARE)),
    "hidden cpus": (q35(smp="2,maxcpus=4"), ("fw_cfg", "", "maxcpus", FIRMWARE)),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_found_and_named(fault: str, clean: Fingerprint) -> None:
    argv, want = FAULTS[fault]
    found = compare(clean, fingerprint_from_argv(argv))
    assert any(_is(change, want) for change in found), "\n".join(map(str, found)) or "nothing was found"


def _is(change: ViewChange, want: Found) -> bool:
    return all(
        wanted is None or wanted == got
        for wanted, got in zip(want, (change.section, change.node, change.field, change.severity), strict=True)
    )


def test_a_difference_says_device_offset_field_and_bits(clean: Fingerprint) -> None:
    argv = q35(**changed("rp1", "chassis", "hotplug=off,chassis"))
    found = [change for change in compare(clean, fingerprint_from_argv(argv)) if change.field == "pcie slot capabilities"]
    assert [str(change) for change in found] == [
        "rp1 (pci 02.0): pcie slot capabilities at 0x68: 0x0002007b -> 0x0002001b "
        "(hot-plug surprise yes -> no, hot-plug capable yes -> no)"
    ]


def test_the_worst_comes_first(clean: Fingerprint) -> None:
    found = compare(clean, fingerprint_from_argv(q35(**changed("watchdog0", "05.0", "07.0"), smp="3")))
    assert [found[0].node, found[0].field] == ["watchdog0", "address"]
    assert found[-1].severity == FIRMWARE


# --- other machines ------------------------------------------------------------------------------------------------


def test_two_ways_to_configuration_space_say_the_same() -> None:
    """ECAM and the ports: the first 256 bytes of every function are the same."""
    with probed(q35()) as probe:
        listed = pci.enumerate_functions(probe.qtest, pci.Ports())
    with probed(q35()) as probe:
        way = pci.ecam_of_q35(probe.qtest)
        assert way is not None
        wide = pci.enumerate_functions(probe.qtest, way)
    assert [one.function.path for one in listed] == [one.function.path for one in wide]
    for narrow, one in zip(listed, wide, strict=True):
        differing = [at for at in range(256) if narrow.function.config[at] != one.function.config[at]]
        # The host bridge alone: its PCIEXBAR is what switches ECAM on.
        assert differing == [] or narrow.function.path == "00.0"


def test_i440fx_with_a_bridge_behind_a_bridge() -> None:
    outer = "pci-bridge,id=outer,bus=pci.0,addr=03.0,chassis_nr=1"
    inner = "pci-bridge,id=inner,bus=outer,addr=04.0,chassis_nr=2"
    one = fingerprint_from_argv(i440fx(outer, inner, "e1000,id=nic,bus=inner,addr=05.0"))
    assert {function.id: function.path for function in one.functions if function.id} == {
        "outer": "03.0",
        "inner": "03.0/04.0",
        "nic": "03.0/04.0/05.0",
    }
    nic = next(function for function in one.functions if function.id == "nic")
    assert nic.rom is not None
    assert nic.rom.size in (1 << 18, 1 << 19)  # of one build of iPXE and another
    other = fingerprint_from_argv(i440fx(outer, inner, "e1000,id=nic,bus=inner,addr=06.0"))
    assert ("nic", "address") in [(change.node, change.field) for change in compare(one, other)]


@pytest.mark.parametrize("number", [128, 2])
def test_a_root_bus_of_its_own(number: int) -> None:
    """Also where its number is one that a bridge would have got."""
    more = [f"pxb-pcie,id=pxb,bus_nr={number},bus=pcie.0,addr=06.0", "pcie-root-port,id=far,bus=pxb,addr=00.0,chassis=9"]
    more.append("virtio-rng-pci,id=rng0,bus=far,addr=00.0")
    one = fingerprint_from_argv(q35(*(word for device in more for word in ("-device", device))))
    paths = {function.id: function.path for function in one.functions}
    assert (paths["far"], paths["rng0"]) == (f"bus {number}: 00.0", f"bus {number}: 00.0/00.0")
    assert (paths["net0"], paths["scsi0"], paths["nic1"]) == ("02.0/00.0", "02.1/00.0", "02.2/00.0")


def test_microvm_says_what_was_not_read() -> None:
    require("qemu-system-x86_64")
    one = fingerprint_from_argv(["qemu-system-x86_64", "-M", "microvm", "-nodefaults", "-display", "none"])
    assert one.functions == ()
    assert any(what.startswith("pci:") for what in one.unread)


def test_arm_virt_through_its_device_tree() -> None:
    def virt(*more: str) -> list[str]:
        words = ["qemu-system-aarch64", "-M", "virt-7.2", "-cpu", "cortex-a57", "-nodefaults", "-display", "none", *more]
        for device in ("pcie-root-port,id=rp1,addr=02.0,chassis=1", "virtio-rng-pci,id=rng0,bus=rp1,addr=00.0"):
            words += ["-device", device]
        return words

    require("qemu-system-aarch64")
    one = fingerprint_from_argv(virt())
    assert {function.id: function.path for function in one.functions if function.id} == {"rp1": "02.0", "rng0": "02.0/00.0"}
    assert one.facts["dtb"]["/"]["compatible"] == '"linux,dummy-virt"'
    assert one.facts["acpi"]["\\_SB.PCI0"]["_HID"] == '"PNP0A08"'
    assert one == fingerprint_from_argv(virt())
    found = compare(one, fingerprint_from_argv([*virt()[:2], "virt-7.2,gic-version=3", *virt()[3:]]))
    assert any(change.section == "dtb" and change.subject.startswith("/intc@") for change in found)


def test_riscv_virt_through_its_device_tree() -> None:
    require("qemu-system-riscv64")
    words = ["qemu-system-riscv64", "-M", "virt", "-nodefaults", "-display", "none"]
    one = fingerprint_from_argv([*words, "-device", "virtio-rng-pci,id=rng0,addr=05.0"])
    assert {function.id: function.path for function in one.functions if function.id} == {"rng0": "05.0"}
    assert one.facts["virtio"]["05.0"]["queues"] == "1"
    assert one.unread == ()


def test_a_machine_that_is_not_known_is_said() -> None:
    require("qemu-system-arm")
    one = fingerprint_from_argv(["qemu-system-arm", "-M", "raspi1ap", "-nodefaults", "-display", "none"])
    assert "raspi1ap" in one.unread[0]


def test_a_refusal_is_qemus_own_words(qemu: str) -> None:
    with pytest.raises(QemuError, match="'nonesuch' is not a valid device model name"):
        fingerprint_from_argv([qemu, "-nodefaults", "-display", "none", "-device", "nonesuch"])


def test_a_binary_that_is_not_there() -> None:
    with pytest.raises(QemuError, match="cannot start /nonexistent/qemu"):
        fingerprint_from_argv(["/nonexistent/qemu"])


def test_the_callers_kvm_monitor_and_daemon_are_left_out(clean: Fingerprint, tmp_path: Path) -> None:
    more = ["-enable-kvm", "-daemonize", "-pidfile", str(tmp_path / "pid"), "-monitor", "stdio", "-S"]
    assert compare(clean, fingerprint_from_argv(q35(*more))) == []
    assert not (tmp_path / "pid").exists()


def test_no_qemu_stays_where_mdtool_is_killed(qemu: str) -> None:
    code = f"""
import os, signal
from mdtool.proof.probe import probed
with probed([{qemu!r}, "-nodefaults", "-display", "none"]) as probe:
    print(open(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == -9
    assert gone(int(done.stdout))


# --- the AML reader, held against iasl -----------------------------------------------------------------------------


def test_aml_has_every_name_that_iasl_has(tmp_path: Path) -> None:
    require("iasl")
    with probed(q35()) as probe:
        pci.ecam_of_q35(probe.qtest)
        door = fwcfg.Door.ports()
        files = fwcfg.with_data(probe.qtest, door, fwcfg.directory(probe.qtest, door).values())
    data = {name: file.data or b"" for name, file in files.items()}
    dsdt = next(table for table in acpi.tables(data[acpi.TABLES], data[acpi.LOADER]) if table.signature == "DSDT")
    (tmp_path / "dsdt.dat").write_bytes(dsdt.data)
    iasl = shutil.which("iasl") or "/usr/sbin/iasl"
    subprocess.run([iasl, "-d", str(tmp_path / "dsdt.dat")], check=True, capture_output=True, timeout=PATIENCE)
    source = (tmp_path / "dsdt.dsl").read_text()
    devices = source.count(" Device (")
    methods = sum(line.strip().startswith("Method (") for line in source.splitlines())
    facts = acpi.facts(data[acpi.TABLES], data[acpi.LOADER])
    assert sum(said.get("kind") == "Device" for said in facts.values()) == devices
    values = [value for said in facts.values() for value in said.values()]
    assert sum(value.startswith(("Method(", "MethodSerialized(")) for value in values) == methods


# --- another QEMU ----------------------------------------------------------------------------------------------------


def test_what_11_does_otherwise_with_the_same_machine_type(clean: Fingerprint) -> None:
    """A populated root port comes out of reset with its power indicator off, since 8.0, whatever the machine type."""
    found = compare(clean, fingerprint_from_argv(q35(), root=other_root()))
    ports = [change for change in found if change.section == "pci" and change.field == "pcie slot control"]
    assert [(change.node, change.offset, change.old, change.new, change.detail) for change in ports] == [
        (name, 0x6C, "0x01c0", "0x03c0", "power indicator on -> off") for name in ("rp1", "rp2", "rp3")
    ]


def test_another_qemu_is_the_same_at_every_start() -> None:
    root = other_root()
    assert fingerprint_from_argv(q35(), root=root) == fingerprint_from_argv(q35(), root=root)
