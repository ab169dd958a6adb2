"""``mdtool verify --migration``: will this machine's state load into the described one, and whose fault is it if not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mdtool.launch.start import started
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.migration import blamed, foretold
from mdtool.qemu.dump import dump
from mdtool.qemu.process import QemuProcess
from tests.support import run_mdtool
from tests.support_launch import MACHINES, device, prepared


@pytest.fixture
def q35(tmp_path: Path) -> Iterator[QemuProcess]:
    """A q35 machine with a second monitor at ``q35.qmp`` and its description at ``q35.yaml``."""
    more = ["-qmp", f"unix:{tmp_path}/q35.qmp,server=on,wait=off"]
    with started(prepared(MACHINES["q35"](), "device"), directory=tmp_path, more=more) as qemu:
        (tmp_path / "q35.yaml").write_text(yaml_from_tree(dump(qemu.session)))
        yield qemu


def test_the_state_of_the_described_machine_loads(q35: QemuProcess, tmp_path: Path) -> None:
    done = run_mdtool("verify", tmp_path / "q35.yaml", tmp_path / "q35.qmp", "--migration")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the state loads" in done.stdout
    again = run_mdtool("verify", tmp_path / "q35.yaml", tmp_path / "q35.qmp", "--migration")
    assert again.returncode == 2 and "was taken already" in again.stderr


def test_a_moved_port_is_named(q35: QemuProcess, tmp_path: Path) -> None:
    text = (tmp_path / "q35.yaml").read_text()
    moved = text.replace("address: '03.1'", "address: '07.1'")
    assert moved != text
    (tmp_path / "moved.yaml").write_text(moved)
    done = run_mdtool("verify", tmp_path / "moved.yaml", tmp_path / "q35.qmp", "--migration")
    assert done.returncode == 1
    assert "the state does not load: Unknown savevm section" in done.stdout
    assert "QEMU speaks of pci.10\n  pci.10: moved: described at pcie.0 07.1, is at pcie.0 03.1" in done.stdout


def test_a_guest_that_runs_is_not_stopped_unasked(q35: QemuProcess, tmp_path: Path) -> None:
    q35.cont()
    done = run_mdtool("verify", tmp_path / "q35.yaml", tmp_path / "q35.qmp", "--migration")
    assert done.returncode == 2 and "the guest runs" in done.stderr
    done = run_mdtool("verify", tmp_path / "q35.yaml", tmp_path / "q35.qmp", "--migration", "--stop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert q35.session.execute("query-status")["running"] is True


def test_qemus_words_lead_to_the_node() -> None:
    nic = Node("virtio-net-pci", id="net0", address="00.0")
    port = Node("pcie-root-port", id="pci.1", address="02.2", buses=(Bus("pci.1", "PCIE", (nic,)),))
    tree = Tree(buses=(Bus("pcie.0", "PCIE", (port,)),))
    assert blamed('Unknown ramblock "0000:00:02.2:00.0/virtio-net-pci.rom", cannot accept migration', tree) == "net0"
    assert blamed("Unknown savevm section or instance '0000:00:02.2/pcie-root-port' 0", tree) == "pci.1"
    assert blamed("Unknown savevm section or instance '0000:00:09.0/e1000' 0", tree) is None


def test_a_section_or_a_block_leads_to_its_device_or_its_section_of_the_description() -> None:
    disk = Node("scsi-hd", id="disk0", address="0:0:5")
    hba = Node("virtio-scsi-pci", id="scsi0", address="02.0", buses=(Bus("scsi0.0", "SCSI", (disk,)),))
    serial = Node("isa-serial", id="serial0", address="3f8")
    dimm = Node("pc-dimm", id="dimm0", address="0")
    tree = Tree(buses=(Bus("pci.0", "PCI", (hba,)), Bus("isa.0", "ISA", (serial,))), devices=(dimm,))
    unknown = "Unknown savevm section or instance '{}' 0. Make sure that your current VM setup matches"
    assert blamed(unknown.format("0000:00:02.0/0:0:5/scsi-disk"), tree) == "disk0"
    assert blamed(unknown.format("0000:00:02.0/0:0:6/scsi-disk"), tree) == "scsi0"
    assert blamed(unknown.format("serial"), tree) == "serial0"
    assert blamed(unknown.format("cpu_common"), tree) == "cpu"
    assert blamed(unknown.format("slirp"), tree) is None
    assert blamed('Unknown ramblock "memdimm0", cannot accept migration', tree) == "dimm0"
    assert blamed("Size mismatch: pc.ram: 0x6000000 != 0x4000000: Invalid argument", tree) == "memory"
    assert blamed('Unknown ramblock "ram-node1", cannot accept migration', tree) == "numa"
    assert blamed("Machine type received is 'pc-q35-7.1' and local is 'pc-q35-7.2'", tree) == "machine"


def test_a_device_that_cannot_migrate_is_named(tmp_path: Path) -> None:
    words = MACHINES["q35"]() + device("usb-audio", "sound9", bus="usb.0", port="4", audiodev="audio1")
    with started(prepared(words, "device"), directory=tmp_path) as qemu:
        tree = dump(qemu.session)
        said = foretold(tree, qemu.session, tree)
    assert said is not None and said.node == "sound9"
    assert "non-migratable device" in said.words
