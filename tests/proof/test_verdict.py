"""The verdict of an audit: what counts as the same, what only as another build, and what ``--fail-on`` makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mdtool.compare import ADDRESS, FIRMWARE, IDENTITY, PCI, PROPERTY
from mdtool.proof.audit import Audit, ChangeGroup, MachineType, Qemu
from mdtool.proof.differences import ViewChange
from mdtool.proof.stream import Loaded
from mdtool.proof.verdict import DIFFERS, GONE, SAME, SAME_BUT_TEXT, TEXT, causes, fails, verdict, worst

ROM = ViewChange("pci", "01.0", "vga", "rom content", "1f", "2e", FIRMWARE)
BIOS = ViewChange("firmware", "below 4 GiB", "", "sha256", "1f", "2e", FIRMWARE)
BUILD = ViewChange("smbios", "bios", "", "version", "1.16", "1.17", FIRMWARE)
VAPIC = ViewChange("fw_cfg", "genroms/kvmvapic.bin", "", "sha256", "1f", "2e", FIRMWARE)
TABLE = ViewChange("acpi", "APIC", "", "revision", "1", "3", FIRMWARE)
SERIAL = ViewChange("smbios", "system", "", "serial", "S1", "S2", IDENTITY)
SLOT = ViewChange("pci", "01.0", "pci.1", "pcie slot control", "1c0", "3c0", PROPERTY, 0x6C)
MOVED = ViewChange("pci", "02.0", "net0", "address", "02.0", "03.0", ADDRESS)


def audit(*changes: ViewChange, known: bool = True, forward: Loaded | None = None) -> Audit:
    kind = MachineType("pc-q35-7.2", known)
    return Audit(
        Qemu("a"), Qemu("b"), ("7.2", "11.1"), kind, tuple(ChangeGroup((one,)) for one in changes), forward=forward
    )


@pytest.mark.parametrize(
    ("found", "said", "level"),
    [
        (audit(), SAME, None),
        (audit(ROM, BIOS, BUILD, VAPIC), SAME_BUT_TEXT, TEXT),
        (audit(ROM, TABLE), f"{DIFFERS}: firmware, text", FIRMWARE),
        (audit(SERIAL), f"{DIFFERS}: identity", IDENTITY),
        (audit(TABLE, SLOT, MOVED), f"{DIFFERS}: address, property, firmware", ADDRESS),
        (audit(known=False), GONE, IDENTITY),
        (audit(forward=Loaded(False, "no")), f"{DIFFERS}: its state does not load", IDENTITY),
        (
            replace(audit(ROM), backward=Loaded(False, "no")),
            f"{DIFFERS}: its state does not load back, text",
            IDENTITY,
        ),
    ],
)
def test_the_verdict(found: Audit, said: str, level: str | None) -> None:
    assert (verdict(found), worst(found)) == (said, level)


def test_fail_on() -> None:
    found = audit(ROM, SLOT)
    assert [fails(found, at) for at in (None, IDENTITY, PCI, PROPERTY, TEXT)] == [True, False, False, True, True]
    assert [fails(audit(ROM), at) for at in (None, FIRMWARE, TEXT)] == [True, False, True]
    assert not fails(audit(), None) and not fails(audit(), TEXT)
    assert fails(audit(known=False), IDENTITY)


def test_a_cause_is_listed_once_with_its_guests() -> None:
    other = ViewChange("pci", "04.0", "pci.9", "pcie slot control", "1c0", "3c0", PROPERTY, 0x6C)
    found = causes({"a": audit(ROM, SLOT), "b": audit(other), "c": audit(MOVED)})
    assert [(one.level, one.guests) for one in found] == [(ADDRESS, ("c",)), (PROPERTY, ("a", "b")), (TEXT, ("a",))]
