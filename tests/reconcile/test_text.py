"""The description as a file: line ends, marks and comments of people stay, and no writer spoils what another one wrote."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import SAMPLES, mdtool

from mdtool.machine.document import tree_from_file
from tests.support_waiting import PATIENCE, until

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A description whose guest was edited since: ``edited.xml`` beside it."""
    description = tmp_path / "guest.yaml"
    for name in ("guest", "edited"):
        (tmp_path / f"{name}.xml").write_bytes((SAMPLES / "web01" / f"{name}.xml").read_bytes())
    assert mdtool("reconcile", tmp_path / "guest.xml", description) == 0
    return description


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_ends_and_byte_order_marks_stay(mark: bytes, end: bytes, edited: Path, tmp_path: Path) -> None:
    """QEMU and libvirt do not care, but git and an editor do; libyaml's offsets do not count the mark."""
    plain = tmp_path / "plain.yaml"
    plain.write_bytes(edited.read_bytes())
    edited.write_bytes(mark + edited.read_bytes().replace(b"\n", end))
    before = edited.read_bytes()
    assert mdtool("reconcile", tmp_path / "guest.xml", edited) == 0 and edited.read_bytes() == before
    for path in (edited, plain):
        assert mdtool("reconcile", tmp_path / "edited.xml", path) == 0
    assert edited.read_bytes() == mark + plain.read_bytes().replace(b"\n", end)
    assert tree_from_file(edited) == tree_from_file(plain)


def test_remarks_in_odd_places_stay(edited: Path, tmp_path: Path) -> None:
    text = edited.read_text().replace("buses:\n", "buses:   # all of them\n\n  # the first\n", 1)
    text = text.replace("machine: {", "# above\nmachine:    {", 1).replace("\n---\n", "\n# at the end\n\n---\n", 1)
    text = re.sub(r"^( *)(- id: )(\S+)", r"\1# over \3\n\1\2\3   # beside \3", text, flags=re.MULTILINE)
    edited.write_text(text)
    assert mdtool("reconcile", tmp_path / "guest.xml", edited) == 0 and edited.read_text() == text
    assert mdtool("reconcile", tmp_path / "edited.xml", edited) == 0
    kept = tree_from_file(edited).by_name.keys()
    remarks = {line.strip() for line in text.splitlines() if "#" in line and not re.search(r"(over|beside) net", line)}
    assert len(kept) > 15 and remarks <= {line.strip() for line in edited.read_text().splitlines()}
    assert all(f"# over {name}\n" in edited.read_text() for name in ("net1", "pci.3", "usb"))


def waits_for_a_lock(pid: int) -> bool:
    """/proc/locks has a line with an arrow for each that waits."""
    return bool(re.search(rf"-> FLOCK .* {pid} ", Path("/proc/locks").read_text()))


def test_a_second_writer_waits(edited: Path, tmp_path: Path) -> None:
    """It starts over with what the first one left."""
    words = [sys.executable, "-m", "mdtool", "reconcile", str(tmp_path / "edited.xml"), str(edited), "--json"]
    with open(edited, "rb") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: waits_for_a_lock(second.pid), of=second)
        remarked = tmp_path / "new.yaml"
        remarked.write_text(edited.read_text().replace("buses:\n", "# the first writer was here\nbuses:\n", 1))
        os.replace(remarked, edited)
    assert second.wait(timeout=PATIENCE) == 0, second.communicate()
    second.communicate()
    assert "# the first writer was here\n" in edited.read_text()
    assert mdtool("reconcile", tmp_path / "edited.xml", edited, "--dry-run") == 0


def test_a_writer_that_is_killed_leaves_the_old_file(edited: Path, tmp_path: Path) -> None:
    before = edited.read_bytes()
    words = ["reconcile", str(tmp_path / "edited.xml"), str(edited), "--write-xml", str(tmp_path / "written.xml")]
    dies = (
        "import os, sys; os.replace = lambda *_: os.kill(os.getpid(), 9); from mdtool.cli import main; main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", dies, *words], capture_output=True, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    assert edited.read_bytes() == before and not (tmp_path / "written.xml").exists()
    assert mdtool(*words) == 0 and edited.read_bytes() != before
    assert mdtool("reconcile", tmp_path / "edited.xml", edited, "--dry-run") == 0
