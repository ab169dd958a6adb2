"""What the XML says outside of <devices>, and of the chipset, shows in built-ins: a dumped description follows, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from support import mdtool

from mdtool.apply import builtins
from mdtool.machine.document import tree_from_file
from mdtool.machine.tree import Tree
from mdtool.resources import resource

pytestmark = pytest.mark.usefixtures("qemu")


class Guest(NamedTuple):
    """A guest XML; what is not given is as every guest has it."""

    arch: str
    machine: str
    memory: int = 256
    vcpus: int = 1
    os: str = ""
    features: str = "<acpi/>"
    more: str = "<clock offset='utc'/>"
    devices: str = ""

    def xml(self) -> str:
        return f"""<domain type='qemu'>
  <name>g</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory unit='MiB'>{self.memory}</memory>
  <vcpu>{self.vcpus}</vcpu>
  <os><type arch='{self.arch}' machine='{self.machine}'>hvm</type>{self.os}</os>
  <features>{self.features}</features>
  {self.more}
  <devices>
    <emulator>/usr/bin/qemu-system-{self.arch}</emulator>
    <interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
    {self.devices}
  </devices>
</domain>
"""


Q35, PC, VIRT = Guest("x86_64", "pc-q35-7.2"), Guest("x86_64", "pc-i440fx-7.2"), Guest("aarch64", "virt-7.2")
FLASH = "<loader readonly='yes' type='pflash'>/code.fd</loader><nvram>/vars.fd</nvram>"
MODEL = "<cpu mode='custom'><model>Nehalem</model></cpu>"
#: the guest, the same with edits, and of which built-ins each edit must be planned: their drivers with what changes
EDITS = {
    "q35-chipset": (
        Q35,
        Q35._replace(
            features="<acpi/><vmport state='off'/><smm state='on'><tseg unit='MiB'>48</tseg></smm>",
            more="<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='hpet' present='no'/></clock>"
            "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>",
            devices="<controller type='pci' index='0' model='pcie-root'><pcihole64 unit='GiB'>64</pcihole64></controller>"
            "<watchdog model='itco'/>",
        ),
        {"ICH9-LPC": {"noreboot", "disable_s3", "disable_s4"}, "mch": {"extended-tseg-mbytes"}, "hpet": set(),
         "q35-pcihost": {"pci-hole64-size"}, "mc146818rtc": {"lost_tick_policy"}, "vmport": set(), "vmmouse": set()},
    ),
    "q35-machine": (
        Q35._replace(features="<acpi/><ps2 state='off'/>"),
        Q35._replace(
            memory=192,
            vcpus=2,
            os=FLASH,
            more="<maxMemory slots='4' unit='MiB'>1024</maxMemory><cpu mode='custom'><model>Nehalem</model>"
            "<numa><cell id='0' cpus='0-1' memory='64' unit='MiB'/></numa></cpu>",
            devices="<memory model='nvdimm'><source><path>/nv</path></source><target><size unit='MiB'>128</size>"
            "<node>0</node><label><size unit='KiB'>128</size></label></target></memory>",
        ),
        {"q35-pcihost": {"below-4g-mem-size"}, "Nehalem-x86_64-cpu": set(), "qemu64-x86_64-cpu": set(),
         "cfi.pflash01": set(), "i8042": set()},
    ),
    "pc": (
        PC._replace(os=FLASH),
        PC._replace(
            features="<smm state='off'/><acpi/>",
            more=f"{MODEL}<pm><suspend-to-mem enabled='no'/></pm>",
            devices="<controller type='pci' index='0' model='pci-root'><target hotplug='off'/></controller>"
            "<interface type='user'><mac address='52:54:00:00:00:00'/><model type='virtio'/></interface>",
        ),
        {"PIIX4_PM": {"smm-enabled", "disable_s3", "acpi-root-pci-hotplug"}, "qemu64-x86_64-cpu": set(),
         "cfi.pflash01": set()},
    ),
    "pc-without-acpi": (PC, PC._replace(features=""), {"PIIX4_PM": set(), "smbus-eeprom": set()}),
    "virt": (
        VIRT._replace(features="<acpi/><gic version='2'/>"),
        VIRT._replace(vcpus=2, os=FLASH, features="<acpi/><gic version='3'/>", devices="<iommu model='smmuv3'/>"),
        {"arm_gic": set(), "arm-gicv3": set(), "arm-smmuv3": set(), "cortex-a15-arm-cpu": set()},
    ),
}  # fmt: skip


def planned(guest: Path, description: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What a reconcile changes; the description is then so."""
    capsys.readouterr()
    assert mdtool("reconcile", guest, description, "--json") == 0
    said = capsys.readouterr()
    assert not said.err, said.err
    plan = json.loads(said.out)
    jsonschema.validate(plan, json.loads(resource("schemas", "plan.schema.json").read_text()))
    return [step for step in plan["steps"] if step["action"] != "keep"]


@pytest.mark.usefixtures("older_libvirt")
@pytest.mark.parametrize("name", EDITS)
def test_built_ins_follow(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after, expected = EDITS[name]
    guest, description = tmp_path / "g.xml", tmp_path / "g.yaml"
    guest.write_text(before.xml())
    assert mdtool("dump", guest, "--xml", guest, "-o", description) == 0
    first = tree_from_file(description)
    for now in (after, before):
        guest.write_text(now.xml())
        steps = planned(guest, description, capsys)
        own = [step for step in steps if step["origin"] == "builtin"]
        found: dict[str, set[str]] = {}
        for step in own:
            found.setdefault(step["driver"], set()).update(change["name"] for change in step["changes"])
        for driver, changes in expected.items():
            assert driver in found and changes <= found[driver], (driver, found)
        assert all(step["guest_notices"] and step["reason"] == "follows" and step["detail"] for step in own)
        assert all("g.xml:" in step["at"] for step in steps if step["driver"] == "")
        assert mdtool("launch", guest, description, "--rehearse") == 0, capsys.readouterr()
        assert planned(guest, description, capsys) == []
    assert replace(tree_from_file(description), retired=()) == first


@pytest.mark.usefixtures("older_libvirt")
def test_the_step_names_the_line_that_asks_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guest, description = tmp_path / "g.xml", tmp_path / "g.yaml"
    guest.write_text(Q35.xml())
    assert mdtool("dump", guest, "--xml", guest, "-o", description) == 0
    guest.write_text(Q35._replace(devices="<watchdog model='itco'/>").xml())
    bit = next(step for step in planned(guest, description, capsys) if step["driver"] == "ICH9-LPC")
    assert bit["changes"] == [{"name": "noreboot", "before": True, "after": False}]
    assert (bit["action"], bit["at"]) == ("modify", f"{guest}:12:5")


def test_a_launch_finds_out_what_did_not_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control: where nobody asks QEMU, the old pins stay, and the machine is another than described."""
    guest, description = tmp_path / "g.xml", tmp_path / "g.yaml"
    guest.write_text(PC.xml())
    assert mdtool("dump", guest, "--xml", guest, "-o", description) == 0
    monkeypatch.setattr("mdtool.apply.revise.are_touched", lambda _before, _after: False)
    guest.write_text(PC._replace(more="<pm><suspend-to-mem enabled='no'/></pm>").xml())
    assert [step["name"] for step in planned(guest, description, capsys)] == ["features"]
    assert mdtool("launch", guest, description, "--rehearse") == 1
    assert "disable_s3: described 0, is 1" in capsys.readouterr().out


def test_nothing_is_rehearsed_where_no_built_in_is_described() -> None:
    assert not builtins.are_touched(Tree(memory={"size": 1}), Tree(memory={"size": 2}))
