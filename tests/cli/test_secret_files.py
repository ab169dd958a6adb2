"""Secrets that libvirt keeps go into no file: neither with an embedded description nor with every address written."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from tests.support import run_mdtool

SECRET = "sesame81"  # VNC takes eight characters
GUEST = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
<devices><graphics type='vnc' port='-1' autoport='yes' passwd='{secret}'/></devices></domain>"""


def test_no_secret_in_a_file(libvirt: str, tmp_path: Path) -> None:
    name = f"secret-{uuid.uuid4().hex[:8]}"
    path = tmp_path / "in.xml"
    path.write_text(GUEST.format(name=name, uuid=uuid.uuid4(), secret=SECRET))
    subprocess.run(["virsh", "-q", "define", str(path)], check=True)
    path.unlink()
    try:
        full = subprocess.run(
            ["virsh", "-q", "dumpxml", "--security-info", name], capture_output=True, text=True, check=True
        )
        assert SECRET in full.stdout  # the control: libvirt has it
        made = run_mdtool("reconcile", f"libvirt:{name}", tmp_path / "g.yaml", "--write-xml", tmp_path / "places.xml")
        assert made.returncode == 0, made.stderr
        done = run_mdtool("embed", f"libvirt:{name}", tmp_path / "g.yaml", "-o", tmp_path / "embedded.xml")
        assert done.returncode == 0, done.stderr
        files = sorted(path.name for path in tmp_path.iterdir())
        assert files == ["embedded.xml", "g.yaml", "places.xml"]
        assert not [path.name for path in tmp_path.iterdir() if SECRET in path.read_text()]
        started = run_mdtool("launch", tmp_path / "places.xml", tmp_path / "g.yaml", "--print")
        assert started.returncode == 2
        assert "places.xml:" in started.stderr and "the password is empty" in started.stderr  # and VNC open to nobody
        assert run_mdtool("launch", tmp_path / "places.xml", tmp_path / "g.yaml", "--rehearse").returncode == 0
        words = ("apply", tmp_path / "places.xml", tmp_path / "g.yaml", "--source", f"libvirt:{name}", "--yes")
        assert run_mdtool(*words).returncode == 0
        assert run_mdtool("embed", f"libvirt:{name}", tmp_path / "g.yaml").returncode == 0  # into libvirt itself
        kept = subprocess.run(
            ["virsh", "-q", "dumpxml", "--security-info", name], capture_output=True, text=True, check=True
        )
        assert SECRET in kept.stdout and "mdtool:machine" in kept.stdout
    finally:
        subprocess.run(["virsh", "-q", "undefine", name], check=False)
