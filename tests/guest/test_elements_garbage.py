"""Whatever a guest XML says, reading its devices ends in devices and faults with positions, never in a traceback."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_elements import CASES, NAMES

from mdtool.errors import Report
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest

GARBAGE = ("", " ", "0", "-1", "0x", "0xffffffffffffffff", "99999999999999999999999", "1.2.3", "on", "yes", "²", "é",
           "virtio-transitional", "../../etc/passwd", "a" * 5000, "9" * 5000, "none", "NaN", "1e9", "\t", "%s", "{}")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_garbage(name: str, seed: int) -> None:
    draw = random.Random(seed)
    domain = ET.parse(CASES / f"{name}.xml").getroot()
    inside = list(domain.find("devices").iter())  # type: ignore[union-attr]
    for element in draw.sample(inside, min(len(inside), 4)):
        match draw.randrange(4):
            case 0 if element.attrib:
                element.set(draw.choice(sorted(element.attrib)), draw.choice(GARBAGE))
            case 1 if element.attrib:
                del element.attrib[draw.choice(sorted(element.attrib))]
            case 2:
                element.text = draw.choice(GARBAGE)
            case _:
                for child in list(element)[: draw.randrange(3)]:
                    element.remove(child)
    report = Report()
    wanted = wanted_from_guest(guest_from_bytes(ET.tostring(domain), "guest.xml"), report)
    assert len({one.origin for one in wanted}) == len(wanted)
    assert all(fault.at is not None for fault in report.errors + report.warnings)
