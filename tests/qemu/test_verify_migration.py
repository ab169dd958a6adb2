"""``mdtool verify --migration``: will this machine's state load into the described one, and whose fault is it if not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdtool.document import yaml_from_tree
from mdtool.launch.process import QemuProcess
from mdtool.launch.run import started
from mdtool.proof.migration import blamed
from mdtool.qemu.dump import dump
from mdtool.tree import Bus, Node, Tree
from tests.support_launch import MACHINES, prepared


def mdtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mdtool", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def q35(tmp_path: Path) -> Iterator[QemuProcess]:
    """A q35 machine with a second monitor at ``q35.qmp`` and its description at ``q35.yaml``."""
    more = ["-qmp", f"unix:{tmp_path}/q35.qmp,server=on,wait=off"]
    with started(prepared(MACHINES["q35"](), "device"), directory=tmp_path, more=more) as qemu:
        (tmp_path / "q35.yaml").write_text(yaml_from_tree(dump(qemu.session)))
        yield qemu


def test_the_state_of_the_described_machine_loads(q35: QemuProcess, tmp_path: Path) -> None:
    done = mdtool("verify", tmp_path / "q35.yaml", tmp_path / "q35.qmp", "--migration")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the state loads" in done.stdout


def test_a_moved_port_is_named(q35: QemuProcess, tmp_path: Path) -> None:
    text = (tmp_path / "q35.yaml").read_text()
    moved = text.replace("address: '03.1'", "address: '07.1'")
    assert moved != text
    (tmp_path / "moved.yaml").write_text(moved)
    done = mdtool("verify", tmp_path / "moved.yaml", tmp_path / "q35.qmp", "--migration")
    assert done.returncode == 1
    assert "the state does not load: Unknown savevm section" in done.stdout
    assert "QEMU speaks of pci.10\n  pci.10: moved: described at pcie.0 07.1, is at pcie.0 03.1" in done.stdout


def test_a_guest_that_runs_is_not_stopped_unasked(q35: QemuProcess, tmp_path: Path) -> None:
    q35.cont()
    done = mdtool("verify", tmp_path / "q35.yaml", tmp_path / "q35.qmp", "--migration")
    assert done.returncode == 2 and "the guest runs" in done.stderr
    done = mdtool("verify", tmp_path / "q35.yaml", tmp_path / "q35.qmp", "--migration", "--stop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert q35.session.execute("query-status")["running"] is True


def test_qemus_words_lead_to_the_node() -> None:
    nic = Node("virtio-net-pci", id="net0", address="00.0")
    port = Node("pcie-root-port", id="pci.1", address="02.2", buses=(Bus("pci.1", "PCIE", (nic,)),))
    tree = Tree(buses=(Bus("pcie.0", "PCIE", (port,)),))
    assert blamed('Unknown ramblock "0000:00:02.2:00.0/virtio-net-pci.rom", cannot accept migration', tree) == "net0"
    assert blamed("Unknown savevm section or instance '0000:00:02.2/pcie-root-port' 0", tree) == "pci.1"
    assert blamed("Unknown savevm section or instance '0000:00:09.0/e1000' 0", tree) is None
