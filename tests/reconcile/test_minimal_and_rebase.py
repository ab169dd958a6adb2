"""``reconcile --minimal`` and ``reconcile --rebase-machine``, held against real QEMU."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from support import SAMPLES, mdtool

from mdtool.machine.document import tree_from_file
from mdtool.resources import resource


def places(path: Path) -> dict[str, object]:
    return {place.name: place.address for place in tree_from_file(path).places}


@pytest.mark.parametrize("sample", ["web01", "legacy"])
def test_minimal_has_no_addresses_and_fills_up_again(sample: str, tmp_path: Path) -> None:
    guest, full, small = SAMPLES / sample / "guest.xml", tmp_path / "full.yaml", tmp_path / "small.yaml"
    assert mdtool("reconcile", guest, full) == 0
    assert mdtool("reconcile", guest, small, "--minimal") == 0
    text = small.read_text()
    assert "address" not in text and "multifunction" not in text
    assert set(places(small)) == set(places(full))
    assert mdtool("launch", guest, small, "--rehearse") == 0
    assert small.read_text() == text
    assert mdtool("reconcile", guest, small) == 0
    assert places(small) == places(full)
    once = small.read_bytes()
    assert mdtool("reconcile", guest, small) == 0 and small.read_bytes() == once


def test_minimal_of_a_dump(tmp_path: Path, qemu: str) -> None:
    """Built-ins and pins go; what is filled in again is where it was."""
    guest, dumped, small = SAMPLES / "legacy" / "guest.xml", tmp_path / "dumped.yaml", tmp_path / "small.yaml"
    assert mdtool("dump", guest, "--xml", guest, "-o", dumped) == 0
    assert mdtool("reconcile", guest, dumped, "-o", small, "--minimal") == 0
    assert "builtin" not in small.read_text() and "address" not in small.read_text()
    assert mdtool("reconcile", guest, small) == 0
    old, new = tree_from_file(dumped), tree_from_file(small)
    pci = {place.name: place.address for place in new.places if place.bus is not None and place.bus.type == "PCI"}
    assert len(pci) > 5 and pci == {name: old.by_name[name].address for name in pci}
    assert mdtool("launch", guest, small, "--rehearse") == 0


@pytest.fixture
def alias(tmp_path: Path) -> Path:
    """The q35 sample with the machine type's alias, which every type fits."""
    path = tmp_path / "g.xml"
    path.write_text((SAMPLES / "web01" / "guest.xml").read_text().replace("machine='pc-q35-7.2'", "machine='q35'"))
    return path


@pytest.mark.parametrize("full", [True, False])
def test_rebase(alias: Path, full: bool, capsys: pytest.CaptureFixture[str], qemu: str) -> None:
    description = alias.with_suffix(".yaml")
    before = ("dump", alias, "--xml", alias, "-o", description) if full else ("reconcile", alias, description)
    assert mdtool(*before) == 0
    hand = description.read_text().replace(
        "properties: {mac: '52:54:00:10:00:01'}", "properties: {mac: '52:54:00:10:00:01', rombar: 0}"
    )
    description.write_text(hand)
    assert mdtool("reconcile", alias, description) == 0
    old = tree_from_file(description)
    capsys.readouterr()
    assert mdtool("reconcile", alias, description, "--rebase-machine", "pc-q35-6.2", "--dry-run", "--json") == 1
    plan = json.loads(capsys.readouterr().out)
    jsonschema.validate(plan, json.loads(resource("schemas", "plan.schema.json").read_text()))
    seen = {(one["node"], one["property"]): (one["want"], one["have"]) for one in plan["machine"]}
    assert ("rng0", "vectors") in seen and ("machine", "type") not in seen
    assert tree_from_file(description) == old, "a dry run writes nothing"
    assert mdtool("reconcile", alias, description, "--rebase-machine", "pc-q35-6.2") == 0
    assert f"type: {old.machine['type']} -> pc-q35-6.2" in (said := capsys.readouterr().out) and "!  rng0: vectors" in said
    new = tree_from_file(description)
    assert new.machine["type"] == "pc-q35-6.2" and new.by_name["net0"].node.properties["rombar"] == 0
    assert {p.name: p.address for p in new.places} == {p.name: p.address for p in old.places}
    assert any(p.node.origin == "builtin" for p in new.places) == full
    once = description.read_bytes()
    assert mdtool("reconcile", alias, description) == 0 and description.read_bytes() == once
    assert mdtool("launch", alias, description, "--rehearse") == 0


def test_rebase_is_refused_where_the_xml_says_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guest, description = tmp_path / "g.xml", tmp_path / "g.yaml"
    guest.write_text((SAMPLES / "web01" / "guest.xml").read_text())
    assert mdtool("reconcile", guest, description, "--rebase-machine", "pc-q35-6.2") == 2
    assert mdtool("reconcile", guest, description) == 0
    capsys.readouterr()
    assert mdtool("reconcile", guest, description, "--rebase-machine", "pc-q35-6.2") == 2
    assert re.search(
        r"g\.xml:8:5: error: the XML says machine type pc-q35-7\.2; expected pc-q35-6\.2", capsys.readouterr().err
    )
    assert mdtool("reconcile", guest, description, "--rebase-machine", "pc-q35-9999.2x") == 2
