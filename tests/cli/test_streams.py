"""Standard streams that the caller closed, and texts that are none: an error or nothing, and never the wrong file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mdtool.cli import main
from tests.support_waiting import PATIENCE

YAML = "mdtool: machine/1\nmachine: {type: pc-q35-7.2, arch: x86_64}\nbuses:\n  pcie.0: {type: PCIE, devices: []}\n"


@pytest.mark.parametrize(
    ("words", "closed", "status", "said"),
    [
        ("show g.yaml", ">&-", 2, "error: output: Bad file descriptor\n"),
        ("textconv g.yaml", ">&-", 2, "error: output: Bad file descriptor\n"),
        ("diff g.yaml g.yaml", ">&-", 0, ""),
        ("names -", "<&-", 2, "error: cannot read -: Bad file descriptor\n"),
        ("names nonesuch", "2>&-", 2, ""),
    ],
)
def test_a_closed_stream_is_no_fault_of_mdtools(words: str, closed: str, status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(YAML)
    line = f"{sys.executable} -m mdtool {words} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (status, said)
    assert (tmp_path / "g.yaml").read_text() == YAML


@pytest.mark.parametrize("before", [b"\xff\xfex", YAML.encode()], ids=["opened", "saved"])
def test_a_text_that_is_none_is_named_and_kept(
    before: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("g.yaml", "g.xml"):
        (tmp_path / name).write_bytes(before)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf '\\377\\376x' > \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["edit", str(tmp_path / "g.yaml")]) == 2
    assert "error: not UTF-8 [utf-8]" in capsys.readouterr().err
    assert (tmp_path / "g.yaml").read_bytes() == before
    kept = [path.read_bytes() for path in tmp_path.glob("mdtool-edit-*/*")]
    assert kept == ([] if before != YAML.encode() else [b"\xff\xfex"])
