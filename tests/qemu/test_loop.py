"""The main job, end to end, on real QEMU: dump, edit the XML, reconcile, relaunch; every survivor at its address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import SAMPLES, argv_of, loads, mdtool, pci, saved, started

from mdtool.machine.document import tree_from_file

pytestmark = pytest.mark.usefixtures("qemu")


def text_of(sample: str, edited: bool = False) -> str:
    return (SAMPLES / sample / ("edited.xml" if edited else "guest.xml")).read_text()


@pytest.fixture(params=["web01", "legacy"])
def sample(request: pytest.FixtureRequest) -> str:
    """A q35 and an i440fx guest."""
    name: str = request.param
    return name


@pytest.fixture
def guest(sample: str, tmp_path: Path) -> Path:
    path = tmp_path / "guest.xml"
    path.write_text(text_of(sample))
    return path


@pytest.fixture
def described(guest: Path) -> Path:
    """The guest's full description, dumped from its rehearsed QEMU."""
    path = guest.with_suffix(".yaml")
    assert mdtool("dump", guest, "--xml", guest, "-o", path) == 0
    return path


def ids(description: Path) -> dict[str, str]:
    """{origin: id}; an origin is what stays of a device."""
    return {
        place.node.origin: place.node.id
        for place in tree_from_file(description).places
        if place.node.origin not in (None, "builtin", "hand") and place.node.id
    }


def places(guest: Path, description: Path, folder: Path) -> dict[str, str]:
    """{origin: PCI path} of the running machine."""
    with started(argv_of(guest, description, "--rehearse"), folder) as session:
        where = pci(session)
    return {origin: where[name] for origin, name in ids(description).items() if name in where}


def moved(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {o: (before[o], after[o]) for o in before.keys() & after.keys() if before[o] != after[o]}


def test_survivors_keep_their_places(sample: str, guest: Path, described: Path, tmp_path: Path) -> None:
    before = places(guest, described, tmp_path)
    old_ids = ids(described)
    guest.write_text(text_of(sample, edited=True))
    assert mdtool("reconcile", guest, described, "--dry-run") == 1
    assert mdtool("reconcile", guest, described) == 0
    after = places(guest, described, tmp_path)
    assert len(before.keys() & after.keys()) >= 6
    assert before.keys() - after.keys(), "the edit removes a NIC"
    assert any(origin.startswith("disk/") for origin in ids(described).keys() - old_ids.keys()), "the edit adds a disk"
    assert moved(before, after) == {}
    assert {o: i for o, i in ids(described).items() if o in old_ids} == {
        o: i for o, i in old_ids.items() if o in ids(described)
    }
    assert mdtool("launch", guest, described, "--rehearse") == 0


def test_without_the_description_they_move(sample: str, guest: Path, described: Path, tmp_path: Path) -> None:
    """The negative control: the same edit with the description thrown away."""
    before = places(guest, described, tmp_path)
    guest.write_text(text_of(sample, edited=True))
    described.unlink()
    assert mdtool("reconcile", guest, described) == 0
    assert moved(before, places(guest, described, tmp_path))


def test_dumps_are_the_same_bytes(guest: Path, described: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.yaml"
    assert mdtool("dump", guest, "--xml", guest, "-o", again) == 0
    assert again.read_bytes() == described.read_bytes()


def test_reconcile_twice_changes_nothing(
    sample: str, guest: Path, described: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest.write_text(text_of(sample, edited=True))
    assert mdtool("reconcile", guest, described) == 0
    once = described.read_bytes()
    capsys.readouterr()
    assert mdtool("reconcile", guest, described) == 0
    assert capsys.readouterr().out.startswith("no changes")
    assert described.read_bytes() == once


def reordered(xml: str) -> str:
    """The same guest, its interfaces turned around and everything written differently."""
    blocks = re.findall(r"    <interface .*?</interface>\n", xml, re.DOTALL)
    body = xml
    for block in blocks:
        body = body.replace(block, "")
    body = body.replace("  </devices>", "".join(reversed(blocks)) + "  </devices>")
    return body.replace("'", '"').replace("<acpi/>", "<acpi></acpi>").replace("\n    ", "\n\t")


def test_the_migration_stream_loads(guest: Path, described: Path, tmp_path: Path) -> None:
    """What did not change semantically takes the old machine's state; one address changed by hand does not."""
    stream = tmp_path / "state"
    with started(argv_of(guest, described, "--rehearse"), tmp_path) as session:
        saved(session, stream)
    guest.write_text(reordered(guest.read_text()))
    assert mdtool("reconcile", guest, described) == 0
    assert loads(argv_of(guest, described, "--rehearse"), stream, tmp_path) == ""

    tree = tree_from_file(described)
    name = next(name for origin, name in ids(described).items() if origin.startswith(("watchdog", "sound")))
    place = tree.by_name[name]
    text = described.read_text()
    at = text.index(f"id: {name}\n")
    described.write_text(text[:at] + text[at:].replace(f"address: '{place.node.address}'", "address: '1b.0'", 1))
    assert "0000:" in loads(argv_of(guest, described, "--rehearse"), stream, tmp_path)
