"""Comparing fingerprints, writing what restores one, command lines: no QEMU."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mdtool.compare import ADDRESS, FIRMWARE, IDENTITY, PCI, PROPERTY
from mdtool.compare import compare as differences
from mdtool.errors import InputError, QemuError
from mdtool.machine.document import document_from_text
from mdtool.machine.tree import BUILTIN, Bus, Node, Tree
from mdtool.proof.audit import grouped, without
from mdtool.proof.causes import PropertyFix, Search, keys, with_fixes
from mdtool.proof.differences import ViewChange, compare
from mdtool.proof.fingerprint import Fingerprint, fingerprint_from_json, fingerprint_to_text
from mdtool.proof.names import node_names
from mdtool.proof.pci import Function
from mdtool.proof.probe import probe_argv
from mdtool.proof.rewrite import commented
from mdtool.proof.standalone import argv_from_description
from mdtool.qemu.root import binary_in, library_folders, module_folder, rooted


def function(path: str, device: int = 0x1000, id: str = "", **at: int) -> Function:
    data = bytearray(256)
    data[0:4] = (0x1AF4 | device << 16).to_bytes(4, "little")
    for name, value in at.items():
        data[int(name[1:], 16)] = value
    return Function(path, bytes(data), id=id)


def machine(*functions: Function, **facts: dict[str, dict[str, str]]) -> Fingerprint:
    return Fingerprint("7.2.22", "pc-q35-7.2", "x86_64", functions, facts)


def changes(old: Fingerprint, new: Fingerprint) -> list[tuple[str, str, str]]:
    return [(change.node or change.subject, change.field, change.severity) for change in compare(old, new)]


def test_the_version_of_qemu_is_no_difference() -> None:
    one = machine(function("02.0"))
    assert compare(one, replace(one, qemu="11.1.3")) == []


def test_a_device_is_known_again_by_its_id() -> None:
    one = machine(function("02.0", id="a"), function("03.0", id="b"))
    assert changes(one, machine(function("02.0", id="b"), function("03.0", id="a"))) == [
        ("a", "address", ADDRESS),
        ("b", "address", ADDRESS),
    ]


def test_one_without_an_id_by_what_it_is() -> None:
    one = machine(function("02.0", 0x1001), function("03.0", 0x1002))
    assert changes(one, machine(function("02.0", 0x1002), function("04.0", 0x1001))) == [
        ("02.0", "address", ADDRESS),
        ("03.0", "address", ADDRESS),
    ]


def test_another_device_in_the_same_place() -> None:
    assert changes(machine(function("02.0", 0x1001)), machine(function("02.0", 0x1002))) == [("02.0", "device", PCI)]


def test_gone_and_new() -> None:
    one, two = machine(function("02.0", id="a")), machine(function("02.0", id="a"), function("03.0", 0x1005, id="b"))
    assert changes(one, two) == [("b", "", IDENTITY)]
    assert str(compare(two, one)[0]) == "b (pci 03.0): gone, was 1af4:1005"


def test_bytes_that_no_capability_names_are_compared_too() -> None:
    assert changes(machine(function("02.0")), machine(function("02.0", x91=1))) == [("02.0", "config 0x90", PROPERTY)]


def test_a_field_is_named_once() -> None:
    assert changes(machine(function("02.0")), machine(function("02.0", x04=1, x05=1))) == [("02.0", "command", PROPERTY)]


def test_facts_by_subject_and_field() -> None:
    old = machine(smbios={"chassis": {"serial": "1", "type": "0x1"}}, cpu={"1 EDX": {"bits": "0x3", "names": "fpu vme"}})
    new = machine(smbios={"chassis": {"serial": "2"}, "baseboard": {}}, cpu={"1 EDX": {"bits": "0x1", "names": "fpu"}})
    assert changes(old, new) == [
        ("chassis", "serial", IDENTITY),
        ("1 EDX", "bits", PROPERTY),
        ("chassis", "type", FIRMWARE),
        ("baseboard", "", FIRMWARE),
    ]
    assert str(compare(old, new)[1]) == "cpu 1 EDX: bits: 0x3 -> 0x1 (-vme)"


def test_the_descriptions_names_win() -> None:
    one = machine(function("02.0", id="qemu"))
    assert compare(one, machine(function("02.0", id="qemu", x09=1)), {"02.0": "mine"})[0].node == "mine"


def test_text_has_no_version_and_no_path() -> None:
    assert fingerprint_to_text(machine(function("02.0"), e820={"0x0": {"size": "0x10"}})).splitlines() == [
        "machine pc-q35-7.2 x86_64",
        "pci 02.0 1af4:1000 class 0x0000; config " + _hash(function("02.0").config),
        "e820 0x0: size=0x10",
    ]


def _hash(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()[:12]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mdtool": "fingerprint/9"}', '{"mdtool": "fingerprint/1"}'])
def test_no_fingerprint_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="not a fingerprint"):
        fingerprint_from_json(text)


def test_the_same_change_at_several_devices_is_one_group() -> None:
    rows = [ViewChange("pci", path, path, "command", "0x1", "0x2", PROPERTY, 4) for path in ("02.0", "03.0")]
    rows.append(ViewChange("pci", "04.0", "04.0", "command", "0x1", "0x3", PROPERTY, 4))
    assert [len(group) for group in grouped(rows)] == [2, 1]
    gone = [ViewChange("pci", path, path, "", "x", None, IDENTITY) for path in ("02.0", "03.0")]
    assert [len(group) for group in grouped(gone)] == [1, 1]


# --- command lines ---------------------------------------------------------------------------------------------------


def test_a_probe_needs_no_kvm_and_keeps_to_itself() -> None:
    words = ["qemu", "--enable-kvm", "-M", '{"type": "q35", "accel": "kvm"}', "-cpu", "host,+aes", "-incoming", "defer"]
    words += ["-qmp", "unix:/x,server=on", "-daemonize", "-device", "e1000", "-accel", "kvm", "-S"]
    assert probe_argv(words) == ["qemu", "-M", '{"type": "q35"}', "-cpu", "max,+aes", "-device", "e1000"]


def elf(interpreter: bytes) -> bytes:
    head = bytearray(b"\x7fELF\x02\x01".ljust(64, b"\0"))
    head[32:40], head[54:56], head[56:58] = (
        (64).to_bytes(8, "little"),
        (56).to_bytes(2, "little"),
        (1).to_bytes(2, "little"),
    )
    row = (
        (3).to_bytes(4, "little")
        + bytes(4)
        + (120).to_bytes(8, "little")
        + bytes(16)
        + len(interpreter).to_bytes(8, "little")
    )
    return bytes(head) + row.ljust(56, b"\0") + interpreter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("usr/bin", "usr/lib/x86_64-linux-gnu/qemu", "usr/share/qemu", "etc/ld.so.conf.d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "lib64").symlink_to("/usr/lib/x86_64-linux-gnu")  # absolute: as the root itself would read it
    (tmp_path / "usr/lib/x86_64-linux-gnu/ld.so").write_bytes(b"")
    (tmp_path / "etc/ld.so.conf.d/x.conf").write_text("# libraries\n/usr/lib/x86_64-linux-gnu\n")
    (tmp_path / "usr/bin/qemu").write_bytes(elf(b"/lib64/ld.so\0"))
    (tmp_path / "usr/bin/alias").symlink_to("/usr/bin/qemu")
    return tmp_path


def test_the_qemu_of_another_root_is_started_by_its_own_loader(root: Path) -> None:
    command, environment = rooted(["qemu", "-S"], root)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    assert command[0] == str(libraries / "ld.so")
    assert command[command.index("--library-path") + 1].split(":")[0] == str(libraries)
    assert command[command.index("-L") + 1] == str(root / "usr/share/qemu")
    assert command[-1] == "-S"
    assert environment["QEMU_MODULE_DIR"] == module_folder(root, [libraries])


def test_modules_of_the_host_are_out_of_reach_of_the_root(root: Path, tmp_path: Path) -> None:
    """QEMU looks for a missing module where it was built for: it must find a name there that leads nowhere."""
    own, host = root / "usr/lib/x86_64-linux-gnu/qemu", tmp_path / "host"
    (own / "ui-curses.so").write_bytes(b"own")
    assert module_folder(root, [own.parent], host) == str(own)
    theirs = host / own.relative_to(root)
    theirs.mkdir(parents=True)
    for name in ("ui-curses.so", "ui-gtk.so"):
        (theirs / name).write_bytes(b"theirs")
    folder = Path(module_folder(root, [own.parent], host))
    assert (folder / "ui-curses.so").read_bytes() == b"own"
    with pytest.raises(OSError) as error:
        os.stat(folder / "ui-gtk.so")
    assert error.value.errno == errno.ELOOP  # with ENOENT QEMU goes on to the host's


def test_absolute_links_stay_inside_the_root(root: Path) -> None:
    assert binary_in(root, "/usr/bin/alias") == root / "usr/bin/qemu"
    assert all(folder.is_relative_to(root) for folder in library_folders(root))


def test_a_root_without_that_qemu(root: Path) -> None:
    with pytest.raises(QemuError, match="qemu-system-s390x is not in"):
        rooted(["qemu-system-s390x"], root)
    (root / "usr/bin/script").write_text("#!/bin/sh\n")
    with pytest.raises(QemuError, match="is not a 64-bit program"):
        rooted(["script"], root)


# --- descriptions ----------------------------------------------------------------------------------------------------

TEXT = """\
mdtool: machine/1
machine: {type: pc-q35-7.2, arch: x86_64}
cpu: {model: qemu64, vcpus: 1}
buses:
  pcie.0:
    type: PCIE
    host: q35-pcihost
    devices:
    - {id: net0, driver: virtio-net-pci, address: '02.0', properties: {mac: '52:54:00:00:00:01'}}
    # mine
    - id: disk0
      driver: virtio-blk-pci
      address: '03.0'
"""


def test_a_fix_is_written_with_its_reason() -> None:
    document = document_from_text(TEXT, "guest.yaml")
    fixes = [PropertyFix("net0", "ats", True), PropertyFix("disk0", "vectors", 4), PropertyFix("cpu", "aes", False)]
    comments = [(fix.where, fix.property, f"because {fix.property}") for fix in fixes]
    text = commented(document, with_fixes(document.tree, fixes), comments)
    lines = text.splitlines()
    assert next(line for line in lines if "net0" in line).endswith("  # because ats")
    assert any("vectors: 4" in line and line.endswith("  # because vectors") for line in lines)
    assert any("aes: false" in line and line.endswith("  # because aes") for line in lines)
    assert "    # mine" in lines
    again = document_from_text(text, "guest.yaml").tree
    assert again.by_name["net0"].node.properties == {"mac": "52:54:00:00:00:01", "ats": True}
    assert again == with_fixes(document.tree, fixes)


def test_a_property_is_taken_away_wherever_it_is_said() -> None:
    tree = document_from_text(TEXT, "guest.yaml").tree
    full = with_fixes(
        tree,
        [
            PropertyFix("net0", "x-new", True),
            PropertyFix("cpu", "new", True),
            PropertyFix("features.globals", "mch.new", 1),
        ],
    )
    assert without(full, "virtio-net-pci", "x-new").by_name["net0"] == tree.by_name["net0"]
    assert "new" not in without(full, "qemu64-x86_64-cpu", "new").cpu["features"]
    assert without(full, "mch", "new").features["globals"] == {}
    machine = with_fixes(tree, [PropertyFix("machine", "new", True)])
    assert without(machine, "pc-q35-7.2-machine", "new").machine["properties"] == {}
    with pytest.raises(InputError, match="no node nonesuch"):
        with_fixes(tree, [PropertyFix("nonesuch", "x", 1)])


def test_a_path_for_every_node_behind_every_bridge() -> None:
    far = Bus(
        "pxb",
        "pxb-pcie-bus",
        (Node("pcie-root-port", "far", "00.0", buses=(Bus("far", "PCIE", (Node("edu", "e", "00.0"),)),)),),
    )
    near = Bus("rp", "PCIE", (Node("edu", "d", "00.0"),))
    devices = (
        Node("pcie-root-port", "rp", "02.1", buses=(near,)),
        Node("pxb-pcie", "pxb", "05.0", properties={"bus_nr": 9}, buses=(far,)),
    )
    tree = Tree(
        buses=(Bus("pcie.0", "PCIE", devices), Bus("main-system-bus", "System", (Node("hpet", address="fed00000"),)))
    )
    assert node_names(tree) == {
        "02.1": "rp",
        "02.1/00.0": "d",
        "05.0": "pxb",
        "bus 9: 00.0": "far",
        "bus 9: 00.0/00.0": "e",
    }


def test_a_description_alone_makes_a_command_line_without_a_host() -> None:
    nodes = (
        Node("virtio-net-pci", "net0", "02.0"),
        Node("nvme", "nvme0", "03.0", properties={"serial": "1"}),
        Node("vfio-pci", "hostdev0", "04.0"),
        Node("tpm-crb", "tpm0"),
        Node("mch", address="00.0", origin="builtin"),
    )
    tree = Tree(machine={"type": "pc-q35-7.2", "arch": "x86_64"}, buses=(Bus("pcie.0", "PCIE", nodes, host="q35-pcihost"),))
    made = argv_from_description(tree, binary="qemu")
    devices = [json.loads(made.argv[at + 1]) for at, word in enumerate(made.argv) if word == "-device"]
    assert {device["id"]: device["driver"] for device in devices} == {
        "net0": "virtio-net-pci",
        "nvme0": "nvme",
        "hostdev0": "pci-testdev",
    }
    assert made.substitutes == {"hostdev0": "pci-testdev"}
    assert list(made.left_out) == ["tpm0"]
    assert not any("/" in word for word in made.argv[1:]), "a path of this host"


def test_a_description_without_a_machine_is_refused() -> None:
    with pytest.raises(InputError, match="names no machine type"):
        argv_from_description(Tree(), binary="qemu")


def test_what_a_new_device_brings_is_known_once_it_was_dumped() -> None:
    """A disk on USB brings its SCSI disk: no difference before the first dump, and one after it."""

    def machine(pins: dict[str, object], *inner: Node) -> Tree:
        stick = Node("usb-storage", id="stick", address="1", pins=pins, buses=(Bus("stick.0", "SCSI", inner),))
        return Tree(buses=(Bus("usb.0", "usb-bus", (Node("usb-hub", address="2", origin=BUILTIN), stick)),))

    real = machine({"rombar": 1}, Node("scsi-hd", address="0:0:0", origin=BUILTIN))
    assert not differences(machine({}), real)
    assert [one.node for one in differences(machine({"rombar": 1}), real)] == ["scsi-hd@stick.0/0:0:0"]


def test_the_size_of_a_rom_follows_from_whether_there_is_one() -> None:
    def machine(properties: dict[str, object], pins: dict[str, object]) -> Tree:
        return Tree(
            buses=(Bus("pci.0", "PCI", (Node("e1000", id="n", address="03.0", properties=properties, pins=pins),)),)
        )

    bare = machine({}, {"rombar": 0, "romsize": 4294967295})
    assert not differences(machine({"rombar": 0}, {"romsize": 262144}), bare)
    assert [one.property for one in differences(machine({}, {"rombar": 0, "romsize": 262144}), bare)] == ["romsize"]


def test_a_device_of_another_id_is_known_by_its_place_on_the_machines_own_bus() -> None:
    """A partial description has ``ide.0`` without the controller that provides it; libvirt gives the disk an id anew."""

    def disk(id: str, unit: str, serial: str = "1") -> Bus:
        return Bus("ide.0", "IDE", (Node("ide-hd", id=id, address=unit, properties={"serial": serial}),))

    chipset = Node("piix3-ide", address="01.1", origin=BUILTIN, buses=(disk("ua-ide0-0-0", "0"),))
    whole = Tree(buses=(Bus("pci.0", "PCI", (chipset,)),))
    assert [str(one) for one in differences(Tree(buses=(disk("ide0-0-0", "0"),)), whole)] == [
        "ide0-0-0: id: described 'ide0-0-0', is 'ua-ide0-0-0'"
    ]
    other = differences(Tree(buses=(disk("ide0-0-0", "0", "2"),)), whole)
    assert ("ide0-0-0", "serial", IDENTITY) in [(one.node, one.property, one.severity) for one in other]
    moved = differences(Tree(buses=(disk("ide0-0-0", "1"),)), whole)
    assert {one.property for one in moved} == {""}


def test_a_switch_that_brings_another_difference_is_no_cause() -> None:
    """It gives the old value back, and shows the guest something else that is new: not to be written by a fix."""
    (wanted,) = compare(machine(function("02.0", id="a")), machine(function("02.0", id="a", x91=1)))
    (side_effect,) = compare(machine(function("02.0", id="a")), machine(function("02.0", id="a", x95=1)))
    clean, dirty, useless = ((PropertyFix("a", name, True),) for name in ("clean", "dirty", "useless"))
    left = {clean: keys([]), dirty: keys([side_effect]), useless: keys([wanted])}
    search = Search(
        tree=Tree(),
        reference=Tree(),
        dumped=Tree(),
        before=machine(),
        binary="none",
        root=None,
        compat=frozenset(),
        baseline=[wanted],
        say=print,
        results={**left, (PropertyFix("a", "refused", True),): None},
    )
    assert [trial[0].property for trial in search.results if search._undoes(trial, [wanted])] == ["clean"]
