"""``mdtool reconcile GUEST.xml``: the description lives inside of the guest XML."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import SAMPLES, mdtool

from mdtool.machine.document import document_from_text
from mdtool.review.embed import embedded


def test_one_file_is_enough(qemu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guest, beside = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    shutil.copy(SAMPLES / "web01" / "guest.xml", guest)
    assert mdtool("reconcile", guest, beside) == 0
    assert mdtool("reconcile", guest) == 0
    inside = embedded(guest)
    assert inside is not None
    assert document_from_text(inside, "x").tree == document_from_text(beside.read_text(), "x").tree
    assert mdtool("launch", guest, "--rehearse") == 0

    # The first NIC goes: the others stay where they are, which an XML alone could not say.
    text = guest.read_text()
    start, end = text.index("    <!-- management -->"), text.index("    <!-- the web -->")
    guest.write_text(text[:start] + text[end:])
    capsys.readouterr()
    assert mdtool("launch", guest, "--rehearse") == 2, "not up to date"
    assert "is not up to date" in capsys.readouterr().err
    assert mdtool("reconcile", guest) == 0
    assert "1 to remove, 26 kept" in capsys.readouterr().out
    now = document_from_text(str(embedded(guest)), "x").tree
    before = document_from_text(inside, "x").tree
    for name in ("net1", "net2", "balloon0", "rng0"):
        assert now.by_name[name].address == before.by_name[name].address
    once = guest.read_bytes()
    assert mdtool("reconcile", guest) == 0
    assert guest.read_bytes() == once
