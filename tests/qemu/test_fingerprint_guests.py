"""Fingerprints of guest XML and of descriptions: every way of launch, with and without the XML, the command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import require

from mdtool.cli import main
from mdtool.launch.hints import hints_from_tree, tree_from_hints
from mdtool.launch.prepare import Prepared
from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
from mdtool.machine.document import document_from_text, tree_from_file
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.differences import compare
from mdtool.proof.fingerprint import Fingerprint, fingerprint_from_argv
from mdtool.proof.names import node_names
from mdtool.proof.prepared import fingerprint_from_prepared
from mdtool.proof.running import argv_from_source
from mdtool.proof.standalone import argv_from_description
from mdtool.qemu.dump import as_planned, dump
from tests.qemu.test_launch_libvirt import guest as libvirts
from tests.support import run_mdtool

__all__ = ["libvirts"]

SAMPLES = Path(__file__).parents[2] / "samples"
GUESTS = ["web01", "legacy"]


def prepared(name: str, via: str) -> Prepared:
    require("qemu-system-x86_64")
    return prepared_rehearsal(SAMPLES / name / "guest.xml", None, via=via)


@pytest.fixture(scope="module", params=GUESTS)
def guest(request: pytest.FixtureRequest) -> tuple[str, Fingerprint]:
    name = str(request.param)
    return name, fingerprint_from_prepared(prepared(name, "device"))


@pytest.mark.parametrize("via", ["file", "options", "monitor"])
def test_every_way_of_launch_shows_the_same_machine(guest: tuple[str, Fingerprint], via: str) -> None:
    name, reference = guest
    found = compare(reference, fingerprint_from_prepared(prepared(name, via)))
    assert found == [], "\n".join(map(str, found))


def test_hints_show_the_same_machine(guest: tuple[str, Fingerprint], tmp_path: Path) -> None:
    name, reference = guest
    stored = tmp_path / "hints"
    stored.write_text(hints_from_tree(prepared(name, "device").tree))
    again = prepared_rehearsal(SAMPLES / name / "guest.xml", tree_from_hints(stored), via="file")
    assert compare(reference, fingerprint_from_prepared(again)) == []


def test_libvirt_shows_the_same_machine(libvirts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command line that libvirt made, and by the description that it was launched from."""
    description = libvirts.with_suffix(".yaml")
    done = run_mdtool("launch", libvirts, description, "--via", "libvirt")
    assert done.returncode == 0, done.stderr
    tree = tree_from_file(description)
    reference = fingerprint_from_prepared(prepared_rehearsal(libvirts, tree, via="file"))
    source = f"libvirt:{libvirts.stem}"
    with argv_from_source(source) as argv:
        found = compare(reference, fingerprint_from_argv(argv))
    assert found == [], "\n".join(map(str, found))
    for via in ("device", "options", "monitor"):
        stored = tmp_path / f"{via}.fingerprint"
        assert main(["fingerprint", str(libvirts), "--description", str(description), "--via", via, "-o", str(stored)]) == 0
    assert len({(tmp_path / f"{via}.fingerprint").read_text() for via in ("device", "options", "monitor")}) == 1
    capsys.readouterr()
    assert main(["fingerprint", source, "--against", str(tmp_path / "device.fingerprint")]) == 0
    assert capsys.readouterr().out == ""


def test_a_guest_that_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fingerprint", "libvirt:mdtool-nobody"]) == 2
    assert "no process of a QEMU can be read" in capsys.readouterr().err


def test_a_description_alone_shows_what_its_guest_xml_shows(guest: tuple[str, Fingerprint]) -> None:
    name, reference = guest
    whole = prepared(name, "device")
    tree = document_from_text(yaml_from_tree(whole.tree), "guest.yaml").tree
    alone = argv_from_description(tree, binary=whole.binary)
    assert alone.substitutes == {}
    found = compare(reference, fingerprint_from_argv(alone.argv), node_names(tree))
    assert found == [], "\n".join(map(str, found))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("qemu-system-x86_64")
    xml = str(SAMPLES / "web01" / "guest.xml")
    description, stored = tmp_path / "web01.yaml", tmp_path / "web01.json"
    description.write_text(yaml_from_tree(prepared("web01", "device").tree))
    assert main(["fingerprint", xml, "--json", "-o", str(stored)]) == 0
    assert main(["fingerprint", str(description), "--against", str(stored)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["fingerprint", str(description)]) == 0
    assert capsys.readouterr().out.startswith("machine pc-q35-")
    text = description.read_text()
    assert "52:54:00:10:00:01" in text
    description.write_text(text.replace("mac: '52:54:00:10:00:01'", "mac: '52:54:00:10:00:09'"))
    assert main(["fingerprint", str(description), "--against", str(stored)]) == 1
    assert "net0 (virtio 02.1/00.0): mac: 52:54:00:10:00:01 -> 52:54:00:10:00:09" in capsys.readouterr().out


def test_against_one_line_a_device_and_the_acpi_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text form says which field of which device, word by word; the JSON form has the code, which iasl takes apart."""
    require("iasl")
    xml = str(SAMPLES / "legacy" / "guest.xml")
    description, lines, whole = tmp_path / "legacy.yaml", tmp_path / "legacy.fingerprint", tmp_path / "legacy.json"
    text = yaml_from_tree(prepared("legacy", "device").tree)
    description.write_text(text)
    assert main(["fingerprint", xml, "-o", str(lines)]) == 0
    assert main(["fingerprint", xml, "--json", "-o", str(whole)]) == 0
    assert main(["fingerprint", str(description), "--against", str(lines)]) == 0
    assert main(["fingerprint", str(description), "--against", str(whole), "--asl"]) == 0
    assert capsys.readouterr().out == ""
    sound = next(line for line in lines.read_text().splitlines() if "8086:2415" in line)
    where = sound.split()[1]
    assert f"address: '{where}'" in text
    description.write_text(text.replace(f"address: '{where}'", "address: '1d.0'"))
    assert main(["fingerprint", str(description), "--against", str(lines)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"- pci {where} (sound0) 8086:2415") for line in said)
    assert any(line.startswith("+ pci 1d.0 (sound0) 8086:2415") for line in said)
    without = re.sub(r"(?m)^(machine: .*)}$", r"\1, properties: {hpet: false}}", text)
    assert without != text
    description.write_text(without)
    assert main(["fingerprint", str(description), "--against", str(whole), "--asl"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "--- DSDT before" in said
    assert any(line.startswith("-") and "Device (HPET)" in line for line in said)
    assert main(["fingerprint", str(description), "--against", str(lines), "--asl"]) == 2


def test_a_stored_fingerprint_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("qemu-system-x86_64")
    xml = str(SAMPLES / "legacy" / "guest.xml")
    assert main(["fingerprint", xml, "--against", str(tmp_path / "nothing.json")]) == 2
    (tmp_path / "other.json").write_text("{}")
    assert main(["fingerprint", xml, "--against", str(tmp_path / "other.json")]) == 2
    assert "is not a fingerprint" in capsys.readouterr().err


VIRT = """<domain type='qemu'><name>v</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='aarch64' machine='virt-7.2'>hvm</type>{}</os><features><acpi/></features>
<cpu mode='custom'><model>cortex-a57</model></cpu>
<devices><emulator>/usr/bin/qemu-system-aarch64</emulator></devices></domain>"""


@pytest.mark.parametrize("flash", [True, False], ids=["GED", "GPIO"])
def test_a_description_alone_has_the_events_of_its_board(flash: bool, tmp_path: Path) -> None:
    """virt tells of its power button by ACPI's GED where firmware is in flash, and else by a GPIO."""
    qemu = require("qemu-system-aarch64")
    with open(tmp_path / "code", "wb") as code:
        code.truncate(64 << 20)  # what a bank of virt's has, and QEMU wants
    loader = f"<loader readonly='yes' type='pflash'>{tmp_path}/code</loader>" if flash else ""
    (tmp_path / "guest.xml").write_text(
        VIRT.format(loader) if flash else VIRT.format("").replace("<features><acpi/></features>", "")
    )
    first = prepared_rehearsal(tmp_path / "guest.xml")
    with rehearsal(first) as running:
        tree = as_planned(dump(running.session), first.tree, first.substitutes)
    drivers = {place.node.driver for place in tree.places}
    assert {"acpi-ged", "gpio-key"} & drivers == {"acpi-ged" if flash else "gpio-key"}
    alone = fingerprint_from_argv(argv_from_description(tree, binary=qemu).argv)
    assert compare(fingerprint_from_prepared(first), alone) == []


def test_the_firmware_of_virt_is_in_its_fingerprint(tmp_path: Path) -> None:
    """By what is in flash; another build is another one, and an empty bank has no firmware."""
    words = [
        require("qemu-system-aarch64"),
        "-nodefaults",
        "-machine",
        "virt-7.2,accel=tcg",
        "-cpu",
        "cortex-a57",
        "-m",
        "64",
    ]
    made = []
    for text in (b"", b"one", b"two"):
        with (tmp_path / "code").open("wb") as code:
            code.write(text)
            code.truncate(64 << 20)
        flash = ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={tmp_path}/code"]
        made.append(fingerprint_from_argv([*words, "-display", "none", *flash]))
    assert [set(one.facts.get("firmware", {})) for one in made] == [set(), {"in flash"}, {"in flash"}]
    assert [(change.section, change.subject) for change in compare(made[1], made[2])] == [("firmware", "in flash")]


def test_a_small_bar_has_the_type_of_its_register() -> None:
    """pvpanic's is 2 bytes long: ones written to it come back in the bits that are the type of a larger one."""
    words = [require("qemu-system-x86_64"), "-nodefaults", "-machine", "pc-q35-7.2,accel=tcg", "-m", "64"]
    found = fingerprint_from_argv([*words, "-display", "none", "-device", "pvpanic-pci,id=pp,addr=5"])
    (panic,) = (one for one in found.functions if one.path == "05.0")
    assert [(bar.kind, bar.prefetchable) for bar in panic.bars] == [("mem32", False)]
