"""Each element of guest XML becomes the devices that libvirt 9.0 makes of it.

    elements/NAME.xml   a guest
    elements/NAME.txt   a line a device: what it stands for, its driver, its properties as JSON, and those of the host
                        side, which are no part of the description; faults after it

The properties in NAME.txt were compared with the ``-device`` options that libvirt 9.0 writes for QEMU 7.2, where libvirt
takes the guest at all.  ``pytest --regenerate`` writes them anew: read what changed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdtool.errors import Report
from mdtool.guest.devices import guest_from_file, wanted_from_guest
from mdtool.guest.elements import ROWS
from mdtool.guest.elements_page import page
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.table import ElementContext

pytestmark = pytest.mark.usefixtures("older_libvirt")
CASES = Path(__file__).parent / "elements"
NAMES = sorted(path.stem for path in CASES.glob("*.xml"))


def wanted_of(name: str) -> tuple[Guest, list[Wanted], Report]:
    report = Report()
    guest = guest_from_file(CASES / f"{name}.xml")
    return guest, wanted_from_guest(guest, report), report


def line_of(wanted: Wanted) -> str:
    driver = wanted.driver or "(the machine's own)"
    said = f"{wanted.origin}: {driver} {json.dumps(dict(sorted(wanted.properties.items())))}"
    return f"{said} host {json.dumps(dict(sorted(host.items())))}" if (host := wanted.facts.get("host")) else said


@pytest.mark.parametrize("name", NAMES)
def test_devices(name: str, request: pytest.FixtureRequest) -> None:
    _, wanted, report = wanted_of(name)
    found = [*map(line_of, wanted), *(str(fault).replace(f"{CASES}/", "") for fault in report.errors + report.warnings)]
    text = "".join(f"{line}\n" for line in found)
    golden = CASES / f"{name}.txt"
    if request.config.getoption("--regenerate"):
        golden.write_text(text)
    assert golden.is_file(), "run pytest --regenerate and read what it wrote"
    assert text == golden.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_unique(name: str) -> None:
    _, wanted, _ = wanted_of(name)
    origins = [one.origin for one in wanted]
    assert len(set(origins)) == len(origins)
    assert all(one.kind == one.origin.partition("/")[0] for one in wanted if "/" not in one.kind)


def used() -> set[tuple[str, str]]:
    """(element, choice) of every device in the cases, parts included."""
    found = set()
    for name in NAMES:
        guest, wanted, _ = wanted_of(name)
        found |= {(one.kind.rpartition("/")[2], one.facts["choice"]) for one in wanted if "choice" in one.facts}
        # What makes no device of its own is used where the element stands
        found |= {(element.tag, choice_of(guest, element.tag, element)) for element in guest.devices if element.tag in ROWS}
    return found


def choice_of(guest: Guest, tag: str, element: object) -> str:
    row = ROWS[tag]
    context = ElementContext(guest, element, Report())  # type: ignore[arg-type]
    for choose in (row.choose, row.absent):
        choice = choose(context) if callable(choose) else context.get(choose) if "@" in choose else choose
        if choice:
            return choice
    return ""


def test_every_row_is_used() -> None:
    """Each driver that a row can choose is chosen in some case."""
    seen = used()
    rows = [*ROWS.values(), *(part for row in ROWS.values() for part in row.parts)]
    unused = set()
    for row in rows:
        if callable(row.drivers):
            if not any(tag == row.element for tag, _ in seen):
                unused.add((row.element, ""))
        else:
            unused |= {(row.element, choice) for choice in row.drivers} - seen
    assert not unused


def test_every_property_is_used() -> None:
    """Each property that a row can set is set in some case."""
    seen: set[tuple[str, str]] = set()
    for name in NAMES:
        _, wanted, _ = wanted_of(name)
        seen |= {(one.kind, prop) for one in wanted for prop in (*one.properties, *one.facts.get("host", ()))}
    unused = {(row.element, prop) for row in ROWS.values() for prop in row.props} - seen
    assert not unused


def test_page_is_of_today() -> None:
    """docs/elements.md is what the table makes."""
    docs = Path(__file__).parents[2] / "docs" / "elements.md"
    assert docs.read_text() == page(), "python -m mdtool.guest.elements_page > docs/elements.md"
