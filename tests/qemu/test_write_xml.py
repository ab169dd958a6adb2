"""libvirt takes the XML that --write-xml writes, and keeps every address in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support import SAMPLES, argv_of, mdtool

from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.xml import element_from_bytes
from mdtool.machine.document import tree_from_file
from mdtool.machine.tree import Tree
from mdtool.reconcile import reconcile
from mdtool.review.plan import text_from_step
from tests.support_waiting import PATIENCE

URI = "qemu:///system"

VIRT = """<domain type='qemu'>
  <name>arm</name>
  <memory unit='MiB'>128</memory>
  <os><type arch='aarch64' machine='virt-7.2'>hvm</type></os>
  <features><gic version='2'/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-aarch64</emulator>
    <interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
    <disk type='file' device='disk'><source file='/a'/><target dev='sda' bus='scsi'/></disk>
    <controller type='scsi' model='virtio-scsi'/>
    <controller type='usb' model='qemu-xhci'/>
    <input type='keyboard' bus='usb'/>
    <channel type='unix'><target type='virtio' name='a'/></channel>
  </devices>
</domain>
"""


@pytest.fixture
def virsh(libvirt: str) -> Iterator[Virsh]:
    virsh = Virsh()
    yield virsh
    virsh.call("undefine", virsh.name, "--nvram")


class Virsh:
    """A guest of our own in libvirt."""

    def __init__(self) -> None:
        self.name = f"mdtool-{uuid.uuid4().hex[:12]}"

    def call(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["virsh", "-c", URI, "-q", *words], capture_output=True, timeout=PATIENCE, check=False)

    def canonical(self, xml: str, folder: Path) -> bytes:
        """What libvirt makes of a guest XML that is defined."""
        xml = re.sub(r"<name>.*?</name>", f"<name>{self.name}</name>", xml, count=1)
        xml = re.sub(r"<uuid>.*?</uuid>", "", xml, count=1)
        path = folder / "define.xml"
        path.write_text(xml)
        self.call("undefine", self.name, "--nvram")
        done = self.call("define", os.fspath(path))
        assert done.returncode == 0, done.stderr.decode()
        return self.call("dumpxml", "--inactive", self.name).stdout

    def native(self, folder: Path, xml: bytes) -> list[str]:
        """libvirt's command line for a guest XML."""
        path = folder / "native.xml"
        path.write_bytes(xml)
        done = self.call("domxml-to-native", "qemu-argv", os.fspath(path))
        assert done.returncode == 0, done.stderr.decode()
        return shlex.split(done.stdout.decode())


def devices(argv: list[str]) -> list[tuple[str, ...]]:
    """What a command line plugs where; an id that a user gave is libvirt's with ``ua-`` in front, and without dots."""
    made = [json.loads(word) for option, word in pairwise(argv) if option == "-device"]
    where = ("driver", "id", "bus", "addr", "port", "chassis", "mac", "scsi-id", "lun", "nr", "name", "unit")
    return sorted(tuple(str(one.get(key, "")).replace("ua-", "").replace(".", "-") for key in where) for one in made)


def addresses(xml: bytes) -> set[tuple[str, ...]]:
    """(tag, the numbers of its address) of every element that has one."""
    found = set()
    for element in element_from_bytes(xml, "x").first("devices") or ():
        if (address := element.first("address")) is not None:
            numbers = {k: int(v, 0) if k != "port" and k[0] not in "tm" else v for k, v in address.attributes.items()}
            found.add((element.tag, *(f"{k}={v}" for k, v in sorted(numbers.items()))))
    return found


def where(tree: Tree) -> dict[str | None, object]:
    return {place.node.origin: place.address for place in tree.places}


def source(name: str, edited: bool = False) -> str:
    return VIRT if name == "virt" else (SAMPLES / name / ("edited.xml" if edited else "guest.xml")).read_text()


@pytest.mark.parametrize("aliases", ["kept", "ua"])
@pytest.mark.parametrize("name", ["web01", "legacy", "virt"])
def test_libvirt_keeps_every_address(name: str, aliases: str, virsh: Virsh, tmp_path: Path) -> None:
    guest, description, written = tmp_path / "g.xml", tmp_path / "g.yaml", tmp_path / "w.xml"
    guest.write_text(
        re.sub(r"machine='(pc)-i440fx-[0-9.]*'|machine='(?:pc-)?(q35|virt)-[0-9.]*'", r"machine='\1\2'", source(name))
    )
    assert re.search("machine='(pc|q35|virt)'", guest.read_text())
    assert mdtool("reconcile", guest, description, "--write-xml", written, "--aliases", aliases) == 0
    canonical = virsh.canonical(written.read_text(), tmp_path)
    mine = addresses(written.read_bytes())
    assert mine <= addresses(canonical) and len(mine) >= 9
    if aliases == "ua":
        assert set(re.findall(rb"<alias name='[^']*'", written.read_bytes())) <= set(
            re.findall(rb"<alias name='[^']*'", canonical)
        )
    described = tree_from_file(description)
    assert re.search(rb" machine='([^']*)'", canonical)[1].decode() == described.machine["type"]  # type: ignore[index]
    assert devices(virsh.native(tmp_path, canonical)) == devices(argv_of(guest, description))
    canonical = re.sub(rb"<watchdog model='itco'[^>]*/>", b"", canonical)  # libvirt 9.1 and later add it to each q35 guest
    result = reconcile(guest_from_bytes(canonical, "dumped.xml"), described)
    assert [text_from_step(step) for step in result.plan.steps if step.action.value != "=" and step.name != "guest"] == []


@pytest.mark.parametrize("name", ["web01", "legacy"])
def test_an_edited_guest_keeps_its_places_in_libvirt(name: str, virsh: Virsh, tmp_path: Path) -> None:
    """A NIC less, a disk more: libvirt alone would move the survivors."""
    guest, description, written = tmp_path / "g.xml", tmp_path / "g.yaml", tmp_path / "w.xml"
    guest.write_text(source(name))
    assert mdtool("reconcile", guest, description) == 0
    before = where(tree_from_file(description))
    guest.write_text(source(name, edited=True))
    assert mdtool("reconcile", guest, description, "--write-xml", written) == 0
    after = where(tree_from_file(description))

    def in_libvirt(xml: str) -> dict[str | None, object]:
        return where(reconcile(guest_from_bytes(virsh.canonical(xml, tmp_path), "dumped.xml")).tree)

    kept, moved = in_libvirt(written.read_text()), in_libvirt(source(name, edited=True))
    assert {origin: kept.get(origin) for origin in after} == after
    survivors = before.keys() & after.keys()
    assert all(kept[origin] == before[origin] for origin in survivors)
    assert any(moved.get(origin) != before[origin] for origin in survivors), "the control: without addresses they move"
