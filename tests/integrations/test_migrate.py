"""A guest migrates between two libvirtds; the hook of the one that takes it sees its XML, and refuses another machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirtd
import pytest

from tests.support import run_mdtool
from tests.support_waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
GUEST = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>{nics}</devices></domain>"""
NIC = "<interface type='user'><mac address='52:54:00:00:00:0{n}'/><model type='virtio'/></interface>"


class Other:
    """Another host: its libvirt folders, its host name, and the folder of descriptions that its hook guards."""

    def __init__(self, process: int) -> None:
        self.root = Path(f"/proc/{process}/root")
        self.uri = f"qemu+unix:///system?socket={self.root}/run/libvirt/libvirt-sock"

    def guard(self, store: Path) -> None:
        own = self.root / str(libvirtd.HOOKS / "own").lstrip("/")
        own.write_text(
            f'#!/bin/sh\ncd /; PYTHONPATH={ROOT} exec {sys.executable} -m mdtool hook libvirt --store {store} -- "$@"\n'
        )
        own.chmod(0o755)


@pytest.fixture
def other(libvirt: str) -> Iterator[Other]:
    if shutil.which("unshare") is None:
        pytest.skip("apt-get install util-linux")
    environment = {key: value for key, value in os.environ.items() if key != libvirtd.VARIABLE}
    script = ["sh", "-c", 'hostname mdtool-other; exec "$0" "$@"', sys.executable, str(ROOT / "tests" / "libvirtd.py")]
    words = ["unshare", "--uts", *script, "sh", "-c", "echo $$; read line"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdin is not None and running.stdout is not None
        try:
            yield Other(int(running.stdout.readline()))
        finally:
            running.stdin.close()
            running.wait(PATIENCE)


def virsh(*words: str | Path, uri: str = libvirtd.URI) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["virsh", "-q", "-c", uri, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE)


def test_migration_goes_through_the_hook(other: Other, tmp_path: Path) -> None:
    name = f"moved{uuid.uuid4().hex[:8]}"
    xml, store = tmp_path / f"{name}.xml", tmp_path / "store"
    store.mkdir()
    xml.write_text(GUEST.format(name=name, nics=NIC.format(n=1) + NIC.format(n=2)))
    assert virsh("define", xml).returncode == 0
    described = store / f"{name}.yaml"
    assert run_mdtool("reconcile", f"libvirt:{name}", described).returncode == 0
    right = described.read_text()
    other.guard(store)
    with tempfile.TemporaryDirectory(prefix="md") as folder:  # a socket's path is short
        migrate = ["migrate", "--live", name, other.uri, "--migrateuri", f"unix://{folder}/s"]
        try:
            assert virsh("start", name).returncode == 0
            xml.write_text(GUEST.format(name=name, nics=NIC.format(n=1)))
            assert run_mdtool("reconcile", xml, described).returncode == 0
            refused = virsh(*migrate)
            assert refused.returncode != 0 and "other hardware" in refused.stderr, refused.stderr
            assert virsh("domstate", name).stdout.strip() == "running"
            described.write_text(right)
            moved = virsh(*migrate)
            assert moved.returncode == 0, moved.stderr
            assert virsh("domstate", name, uri=other.uri).stdout.strip() == "running"
            assert virsh("domstate", name).stdout.strip() == "shut off"
        finally:
            virsh("destroy", name)
            virsh("destroy", name, uri=other.uri)
            virsh("undefine", name)
