"""A guest that somebody else started is taken over without the guest noticing: dump, link, reconcile, nothing to do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import SAMPLES, mdtool

from mdtool.guest.devices import guest_from_bytes
from mdtool.launch.rehearse import rehearsed
from mdtool.qemu.dump import dump
from mdtool.reconcile import reconcile
from tests.support_waiting import PATIENCE

VIRSH = ["virsh", "-q", "-c", "qemu:///system"]


@pytest.mark.parametrize("sample", ["web01", "legacy"])
def test_a_dumped_guest_needs_nothing(qemu: str, sample: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guest, description = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    shutil.copy(SAMPLES / sample / "guest.xml", guest)
    for options in (["--xml", str(guest)], []):
        assert mdtool("dump", guest, *options, "-o", description) == 0
        capsys.readouterr()
        assert mdtool("reconcile", guest, description, "--dry-run") == 0, capsys.readouterr().out
        assert capsys.readouterr().out.startswith("no changes")


def test_the_first_drives_of_an_ide_and_a_sata_controller_are_told_apart(qemu: str) -> None:
    """Both are an ide-hd at one address of libvirt's."""
    disk = (
        "<disk type='file'><source file='/a'/><target dev='{}' bus='{}'/>"
        "<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
    )
    xml = (
        "<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
        f"<devices>{disk.format('sda', 'sata')}{disk.format('hda', 'ide')}</devices></domain>"
    )
    guest = guest_from_bytes(xml.encode(), "a.xml")
    with rehearsed(guest) as session:
        tree = dump(session)
    assert not reconcile(guest, tree).plan


@pytest.fixture
def domain(libvirt: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A sample that libvirt runs, paused: (name, XML)."""
    name = f"mdtool-test-{tmp_path.name}"
    xml = (SAMPLES / "web01" / "guest.xml").read_text()
    xml = xml.replace("<name>web01</name>", f"<name>{name}</name>").replace("qcow2", "raw")
    xml = "\n".join(line for line in xml.splitlines() if "<uuid>" not in line)
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * 65536)
    for folder in (tmp_path, *tmp_path.parents):  # QEMU runs as libvirt's user
        if folder != Path("/") and folder.owner() != "nobody":
            folder.chmod(folder.stat().st_mode | 0o711)
    disk.chmod(0o666)
    guest = tmp_path / "guest.xml"
    guest.write_text(xml.replace("/var/lib/libvirt/images/web01.raw", str(disk)))
    subprocess.run([*VIRSH, "define", str(guest)], check=True, capture_output=True, timeout=PATIENCE)
    try:
        subprocess.run([*VIRSH, "start", name, "--paused"], check=True, timeout=PATIENCE)
        yield name, guest
    finally:
        subprocess.run([*VIRSH, "destroy", name], capture_output=True, timeout=PATIENCE)
        subprocess.run([*VIRSH, "undefine", name], capture_output=True, timeout=PATIENCE)


def test_a_guest_of_libvirt_is_taken_over(
    domain: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the XML that a person wrote, nor libvirt's own with addresses and aliases, moves anything."""
    name, guest = domain
    description = tmp_path / "guest.yaml"
    live = subprocess.run([*VIRSH, "dumpxml", name], check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    (tmp_path / "live.xml").write_text(live)
    for xml in (guest, tmp_path / "live.xml"):
        description.unlink(missing_ok=True)
        assert mdtool("dump", f"libvirt:{name}", "-o", description) == 0
        capsys.readouterr()
        assert mdtool("reconcile", xml, description) == 0
        said = capsys.readouterr().out
        assert said.startswith("no changes"), said
        assert mdtool("verify", description, f"libvirt:{name}") == 0


def test_another_address_is_seen(domain: tuple[str, Path], tmp_path: Path) -> None:
    """The negative control: a description with one address changed is not what runs."""
    name, guest = domain
    description = tmp_path / "guest.yaml"
    assert mdtool("dump", f"libvirt:{name}", "--xml", guest, "-o", description) == 0
    text = description.read_text()
    at = text.index("id: watchdog0")
    description.write_text(text[:at] + text[at:].replace("address: '01.0'", "address: '02.0'", 1))
    assert mdtool("verify", description, f"libvirt:{name}") == 1
