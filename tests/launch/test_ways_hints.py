"""Hints: addresses only, over fresh XML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdtool.errors import InputError, MdtoolError
from mdtool.guest.devices import guest_from_bytes, guest_from_file
from mdtool.launch.hints import hints_from_text, hints_from_tree, tree_from_hints
from mdtool.machine.tree import Tree
from mdtool.reconcile import reconcile
from mdtool.resources import resource

SAMPLES = Path(__file__).parents[2] / "samples"


def addresses(tree: Tree) -> dict[str, tuple[str, str] | None]:
    return {str(place.node.origin): place.address for place in tree.places}


def exported(guest: Path, path: Path) -> Path:
    path.write_text(hints_from_tree(reconcile(guest_from_file(guest)).tree))
    return path


@pytest.mark.parametrize("name", ["web01", "legacy"])
def test_hints_over_the_same_xml_are_the_same_machine(name: str, tmp_path: Path) -> None:
    guest = SAMPLES / name / "guest.xml"
    tree = reconcile(guest_from_file(guest)).tree
    hinted = reconcile(guest_from_file(guest), tree_from_hints(exported(guest, tmp_path / "hints"))).tree
    assert addresses(hinted) == addresses(tree)
    assert {p.name: p.node.properties for p in hinted.places} == {p.name: p.node.properties for p in tree.places}


@pytest.mark.parametrize("name", ["web01", "legacy"])
def test_survivors_keep_their_places_and_new_devices_go_around_them(name: str, tmp_path: Path) -> None:
    guest, edited = SAMPLES / name / "guest.xml", guest_from_file(SAMPLES / name / "edited.xml")
    before = addresses(reconcile(guest_from_file(guest)).tree)
    after = addresses(reconcile(edited, tree_from_hints(exported(guest, tmp_path / "hints"))).tree)
    survivors = [origin for origin in after if origin in before]
    assert len(survivors) > 5 and survivors != list(before)
    assert {origin: after[origin] for origin in survivors} == {origin: before[origin] for origin in survivors}
    fresh = addresses(reconcile(edited).tree)  # the negative control: without hints something moves
    assert {origin: fresh.get(origin) for origin in survivors} != {origin: before[origin] for origin in survivors}


@pytest.mark.parametrize(
    ("machine", "words", "section"),
    [
        ("pc-q35-7.2", "<cpu mode='custom' match='exact'><model>EPYC</model></cpu>", "cpu"),
        ("pc-q35-7.2", "<maxMemory slots='4' unit='MiB'>2048</maxMemory>", "numa"),
        ("pc-q35-8.0", "", "features"),
    ],
)
def test_what_libvirt_chooses_of_a_section_hints_leave_to_it(machine: str, words: str, section: str) -> None:
    """A CPU's removed features, the node that memory hotplug needs, the chipset's watchdog: hints know of no section."""
    kind = f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
    xml = f"<domain type='qemu'><name>g</name><memory unit='MiB'>256</memory>{kind}{words}<devices/></domain>"
    guest = guest_from_bytes(xml.encode(), "guest.xml")
    tree = reconcile(guest).tree
    hinted = reconcile(guest, hints_from_text(hints_from_tree(tree), "hints")).tree
    assert getattr(hinted, section) == getattr(tree, section) != {}


def test_the_file_holds_no_configuration_and_fits_its_schema(tmp_path: Path) -> None:
    import jsonschema

    data = json.loads(exported(SAMPLES / "web01" / "guest.xml", tmp_path / "hints").read_text())
    jsonschema.validate(data, json.loads(resource("schemas", "hints.schema.json").read_text()))
    assert "properties" not in json.dumps(data)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not a hints file"),
        ("[]", "not a hints file of this version"),
        ('{"mdtool": "hints/2", "hints": []}', "not a hints file of this version"),
        ('{"mdtool": "hints/1", "hints": [{"origin": "x"}]}', "'driver' is a required property"),
        ('{"mdtool": "hints/1", "hints": [{"origin": "x", "driver": "e1000", "mac": "y"}]}', "'mac' was unexpected"),
        ('{"mdtool": "hints/1", "hints": 7}', "7 is not of type 'array'"),
    ],
)
def test_what_is_no_hints_file_is_told(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "hints"
    path.write_text(text)
    with pytest.raises(InputError, match=what) as caught:
        tree_from_hints(path)
    assert caught.value.at is not None and caught.value.at.file == str(path)


def test_a_hints_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        tree_from_hints(tmp_path / "none")


@pytest.mark.parametrize("address", ["x", "", "pcie.0", "20.0", "03.8", "\x00"])
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    guest = SAMPLES / "web01" / "guest.xml"
    data = json.loads(exported(guest, tmp_path / "hints").read_text())
    row = next(row for row in data["hints"] if row.get("id") == "pci.12")
    (tmp_path / "hints").write_text(json.dumps({**data, "hints": [{**one, "address": address} if one is row else one
                                                                  for one in data["hints"]]}))  # fmt: skip
    with pytest.raises(MdtoolError, match=r"pci\.12: there is no .* on pcie\.0: it has slots 00\.0 to 1f\.7"):
        reconcile(guest_from_file(guest), tree_from_hints(tmp_path / "hints"))
