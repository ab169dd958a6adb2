"""Audit: what another QEMU shows otherwise, which property restores it, and that writing it does.

A wrapper around the installed QEMU that changes a default stands for a new version; where MDTOOL_QEMU_ROOT names a folder
with a real one, that is audited too.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import other_root, require

from mdtool.cli import main
from mdtool.machine.document import tree_from_file
from mdtool.proof.audit import Audit, Qemu, audit, machine_type_from_answer
from tests.support import SAMPLES

QEMU = "qemu-system-x86_64"
DESCRIPTION = """\
mdtool: machine/1
guest: {name: audited}
machine: {type: pc-q35-7.2, arch: x86_64}
cpu: {model: qemu64, vcpus: 2, topology: {sockets: 1, cores: 2, threads: 1}}
memory: {size: 268435456}
buses:
  pcie.0:
    type: PCIE
    host: q35-pcihost
    devices:
    # the port of the first NIC
    - id: pci.1
      driver: pcie-root-port
      address: '02.0'
      properties: {chassis: 1, multifunction: true, port: 16}
      buses:
        pci.1:
          type: PCIE
          devices:
          - {id: net0, driver: virtio-net-pci, address: '00.0', properties: {mac: '52:54:00:11:22:33'}}
    - id: pci.2
      driver: pcie-root-port
      address: '02.1'
      properties: {chassis: 2, port: 17}
      buses:
        pci.2:
          type: PCIE
          devices:
          - id: disk0
            driver: virtio-blk-pci
            address: '00.0'
"""


@pytest.fixture
def described(tmp_path: Path) -> Path:
    require(QEMU)
    path = tmp_path / "guest.yaml"
    path.write_text(DESCRIPTION)
    return path


def another(tmp_path: Path, *more: str) -> str:
    """A QEMU that differs from the installed one by ``more``: first words, so that what it is told later wins."""
    path = tmp_path / "qemu-system-new"
    real = shlex.quote(require(QEMU))
    # Questions about machine types go to a machine without buses.
    case = f'case "$*" in *"-machine none"*) exec {real} "$@";; esac'
    path.write_text(f'#!/bin/sh\n{case}\nexec {real} {shlex.join(more)} "$@"\n')
    path.chmod(0o755)
    return str(path)


def audited(path: Path, binary: str, **settings: bool) -> Audit:
    return audit(tree_from_file(path), Qemu(QEMU), Qemu(binary), **settings)


def test_the_same_qemu_is_clean(described: Path) -> None:
    found = audited(described, QEMU)
    assert found.clean
    assert found.findings == ()
    assert found.filled == ()
    assert found.forward is not None
    assert found.forward.ok


#: a changed default: (node, field, property and value that restore it)
CHANGED = {
    "-global pcie-root-port.power_controller_present=off": (
        "pci.1",
        "pcie slot capabilities",
        "power_controller_present",
        "on",
    ),
    "-global virtio-net-pci.ctrl_vlan=off": ("net0", "features", "ctrl_vlan", "on"),
    "-global virtio-blk-pci.ats=on": ("disk0", "ats header", "ats", "off"),
    "-global qemu64-x86_64-cpu.aes=on": ("cpu", "bits", "aes", "off"),
    "-machine hpet=off": ("machine", "HPET", "hpet", "on"),
    "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off": (
        "features.globals",
        "DVNT",
        "ICH9-LPC.acpi-pci-hotplug-with-bridge-support",
        "on",
    ),
    "-global pcie-root-port.x-speed=8": ("pci.1", "pcie link capabilities", "x-speed", "16"),
}


@pytest.mark.parametrize("fault", list(CHANGED))
def test_a_changed_default_is_found_explained_and_restored(
    fault: str, described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, field, name, value = CHANGED[fault]
    binary = another(tmp_path, *fault.split())
    assert main(["audit", str(described), "--qemu", binary, "--fix", "--no-migration"]) == 1
    said = capsys.readouterr()
    line = f"{node}: {name}={value}"
    assert any(field in shown for shown in said.out.splitlines())
    assert line in said.err
    text = described.read_text()
    assert f"{name}:" in text
    assert re.search(r"# as QEMU [\d.]+ had it", text)
    assert "# the port of the first NIC" in text
    assert main(["audit", str(described), "--qemu", binary, "--no-migration", "--no-causes"]) == 0


def test_one_fix_for_each_device_that_differs(described: Path, tmp_path: Path) -> None:
    binary = another(tmp_path, "-global", "pcie-root-port.power_controller_present=off")
    found = audited(described, binary, migration=False)
    assert {fix.where for fix in found.fixes} == {"pci.1", "pci.2"}
    assert len([f for f in found.findings if f.changes[0].field == "pcie slot capabilities"]) == 1


def test_what_no_property_restores_is_said(described: Path, tmp_path: Path) -> None:
    binary = another(tmp_path, "-smbios", "type=1,product=Other")
    found = audited(described, binary, migration=False)
    assert [(f.changes[0].section, f.changes[0].field, f.fixes) for f in found.findings] == [("smbios", "product", ())]
    assert main(["audit", str(described), "--qemu", binary, "--fix", "--no-migration", "--no-causes"]) == 1
    assert described.read_text() == DESCRIPTION


def test_a_state_that_does_not_load_is_said_in_qemus_words(described: Path, tmp_path: Path) -> None:
    found = audited(described, another(tmp_path, "-device", "virtio-rng-pci,id=rng0,bus=pcie.0,addr=09.0"), causes=False)
    assert found.backward is not None
    assert not found.backward.ok
    assert "0000:00:09.0/virtio-rng" in found.backward.said
    assert (found.findings[0].changes[0].node, found.findings[0].changes[0].field) == ("rng0", "")
    assert not found.clean


def test_a_device_that_cannot_migrate_is_said(described: Path) -> None:
    described.write_text(
        DESCRIPTION + "    - {id: edu0, driver: qemu-xhci, address: '07.0', buses: {edu0.0: {type: usb-bus,\n"
        "       devices: [{id: sound0, driver: usb-audio, address: '1'}]}}}\n"
    )
    found = audited(described, QEMU, causes=False)
    assert found.findings == ()
    assert found.forward is not None
    assert "non-migratable device" in found.forward.said
    assert not found.clean


def test_json_and_table(described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require(QEMU)
    assert main(["audit", str(described), "--qemu", QEMU, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["machine"]["known"] is True
    assert data["migration"]["forward"] == {"loads": True, "said": ""}
    (tmp_path / "other.yaml").write_text(DESCRIPTION.replace("audited", "other"))
    assert main(["audit", str(tmp_path), "--qemu", QEMU]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "DESCRIPTION",
        "MACHINE",
        "DIFFERENCES",
        "WORST",
        "FIXABLE",
        "FORWARD",
        "BACKWARD",
        "VERDICT",
    ]
    assert [line.split()[-3:] for line in lines[1:3]] == [["loads", "loads", "same"]] * 2


def test_which_qemu_is_not_guessed(described: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(described)]) == 2
    assert "expected --qemu BINARY or --qemu-root DIR" in capsys.readouterr().err


def test_every_source_is_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guest XML needs no description; what restores the old view has nowhere to go there."""
    require(QEMU)
    monkeypatch.chdir(tmp_path)
    Path("web01.xml").write_bytes((SAMPLES / "web01" / "guest.xml").read_bytes())
    assert main(["audit", "web01.xml", "--qemu", QEMU, "--no-causes", "--no-migration"]) == 0
    assert "0 differences that a guest sees" in capsys.readouterr().out
    assert main(["audit", "web01.xml", "--qemu", QEMU, "--fix"]) == 2
    assert "[audit-fix]" in capsys.readouterr().err


def test_a_folder_without_descriptions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path), "--qemu", QEMU]) == 2
    assert "no description in" in capsys.readouterr().err


def test_one_that_does_not_start_keeps_no_other_from_being_looked_at(
    described: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (described.parent / "broken.yaml").write_text(DESCRIPTION.replace("virtio-net-pci", "nonesuch"))
    assert main(["audit", str(described.parent), "--qemu", QEMU, "--no-migration"]) == 2
    said = capsys.readouterr()
    assert "'nonesuch' is not a valid device model name" in said.err
    assert str(described) in said.out


def test_a_machine_that_the_new_qemu_refuses(described: Path, tmp_path: Path) -> None:
    found = audited(described, another(tmp_path, "-device", "nonesuch"))
    assert [(f.changes[0].field, f.severity) for f in found.findings] == [("start", "identity")]
    assert "'nonesuch' is not a valid device model name" in str(found.findings[0])


def test_a_machine_type_that_is_gone() -> None:
    answer = [{"name": "pc-q35-9.0"}, {"name": "pc-q35-10.0", "alias": "q35"}, {"name": "pc-i440fx-9.0"}]
    kind = machine_type_from_answer("pc-q35-2.4", answer)
    assert (kind.known, kind.next) == (False, ("pc-q35-9.0", "pc-q35-10.0"))


# --- a real other QEMU -----------------------------------------------------------------------------------------------


def test_7_2_against_11_1(described: Path) -> None:
    """The known case: a populated root port's power indicator, which no property of 11.1 turns on again."""
    root = other_root()
    found = audit(tree_from_file(described), Qemu(QEMU), Qemu(QEMU, root))
    port = next(f for f in found.findings if f.changes[0].field == "pcie slot control")
    assert [(c.node, c.offset, c.old, c.new) for c in port.changes] == [
        ("pci.1", 0x6C, "0x01c0", "0x03c0"),
        ("pci.2", 0x6C, "0x01c0", "0x03c0"),
    ]
    assert port.fixes == ()
    assert {"power_controller_present", "hotplug"} <= set(port.tried)
    assert "ICH9-LPC.acpi-pci-hotplug-with-bridge-support" in port.tried
    assert any(name.startswith("machine.") for name in port.tried)
    assert found.forward is not None
    assert found.forward.ok
    assert found.type.compat, "11.1 tells the compatibility switches of a machine type"


def test_what_11_1_shows_of_the_processor_is_written_and_gone(described: Path) -> None:
    """SMBIOS: 11.1 has another processor id, and an option that restores it; the family has none."""
    root = other_root()
    assert main(["audit", str(described), "--qemu-root", str(root), "--fix", "--no-migration"]) == 1
    assert tree_from_file(described).smbios["type4"] == {"processor-id": str(0x78BFBFD00060FB1)}
    again = audit(tree_from_file(described), Qemu(QEMU), Qemu(QEMU, root), causes=False, migration=False)
    assert [f.changes[0].field for f in again.findings if f.changes[0].section in ("smbios", "cpu")] == ["family"]


def test_a_property_that_one_of_them_does_not_have(described: Path) -> None:
    """Unknown to the old QEMU: left out there, and said.  Unknown to the new one: a difference."""
    root = other_root()
    new = "x-pcie-err-unc-mask: false, "
    described.write_text(DESCRIPTION.replace("{chassis: 1,", "{" + new + "x-native-hotplug: true, chassis: 1,"))
    found = audit(tree_from_file(described), Qemu(QEMU), Qemu(QEMU, root), causes=False)
    assert "pcie-root-port.x-pcie-err-unc-mask: QEMU 7.2" in " ".join(found.unread)
    assert "pcie-root-port.x-native-hotplug" in [finding.changes[0].subject for finding in found.findings]
    assert found.forward is not None
    assert found.forward.ok


def test_a_finding_stands_at_its_device(described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a forge shows it beside the lines of the device, which a pull request may change."""
    binary = another(tmp_path, "-global", "pcie-root-port.x-speed=8")
    words = ["audit", str(described), "--qemu", binary, "--no-migration", "--no-causes", "--output-format", "github"]
    assert main(words) == 1
    line = described.read_text().splitlines().index("    - id: pci.1") + 1
    assert f"::error file={described},line={line}," in capsys.readouterr().out
