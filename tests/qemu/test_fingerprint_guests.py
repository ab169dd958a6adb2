"""Fingerprints of guest XML and of descriptions: every way of launch, with and without the XML, the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import require

from mdtool.cli import main
from mdtool.document import document_from_text, yaml_from_tree
from mdtool.launch.rehearse import prepared_rehearsal
from mdtool.launch.run import Prepared
from mdtool.proof.alone import argv_from_description
from mdtool.proof.compare import compare
from mdtool.proof.fingerprint import Fingerprint, fingerprint_from_argv
from mdtool.proof.names import node_names
from mdtool.proof.ways import fingerprint_from_prepared

SAMPLES = Path(__file__).parents[2] / "samples"
GUESTS = ["web01", "legacy"]


def prepared(name: str, via: str) -> Prepared:
    require("qemu-system-x86_64")
    return prepared_rehearsal(SAMPLES / name / "guest.xml", None, via=via)


@pytest.fixture(scope="module", params=GUESTS)
def guest(request: pytest.FixtureRequest) -> tuple[str, Fingerprint]:
    name = str(request.param)
    return name, fingerprint_from_prepared(prepared(name, "device"))


@pytest.mark.parametrize("via", ["file", "options", "monitor"])
def test_every_way_of_launch_shows_the_same_machine(guest: tuple[str, Fingerprint], via: str) -> None:
    name, reference = guest
    found = compare(reference, fingerprint_from_prepared(prepared(name, via)))
    assert found == [], "\n".join(map(str, found))


def test_a_description_alone_shows_what_its_guest_xml_shows(guest: tuple[str, Fingerprint]) -> None:
    name, reference = guest
    whole = prepared(name, "device")
    tree = document_from_text(yaml_from_tree(whole.tree), "guest.yaml").tree
    alone = argv_from_description(tree, binary=whole.binary)
    assert alone.stand_ins == {}
    found = compare(reference, fingerprint_from_argv(alone.argv), node_names(tree))
    assert found == [], "\n".join(map(str, found))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("qemu-system-x86_64")
    xml = str(SAMPLES / "web01" / "guest.xml")
    description, stored = tmp_path / "web01.yaml", tmp_path / "web01.json"
    description.write_text(yaml_from_tree(prepared("web01", "device").tree))
    assert main(["fingerprint", xml, "--json", "-o", str(stored)]) == 0
    assert main(["fingerprint", str(description), "--against", str(stored)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["fingerprint", str(description)]) == 0
    assert capsys.readouterr().out.startswith("machine pc-q35-")
    text = description.read_text()
    assert "52:54:00:10:00:01" in text
    description.write_text(text.replace("mac: '52:54:00:10:00:01'", "mac: '52:54:00:10:00:09'"))
    assert main(["fingerprint", str(description), "--against", str(stored)]) == 1
    assert "net0 (virtio 02.1/00.0): mac: 52:54:00:10:00:01 -> 52:54:00:10:00:09" in capsys.readouterr().out


def test_a_stored_fingerprint_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("qemu-system-x86_64")
    xml = str(SAMPLES / "legacy" / "guest.xml")
    assert main(["fingerprint", xml, "--against", str(tmp_path / "nothing.json")]) == 2
    (tmp_path / "other.json").write_text("{}")
    assert main(["fingerprint", xml, "--against", str(tmp_path / "other.json")]) == 2
    assert "is no fingerprint" in capsys.readouterr().err
