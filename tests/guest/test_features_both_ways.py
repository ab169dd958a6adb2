"""<features> that an import writes are read back as the options that it was made of: one table, both ways."""

from __future__ import annotations

from typing import Any

import pytest

from mdtool.commandline.option import options_from_words
from mdtool.errors import Report
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.platform import sections_from_guest
from mdtool.guest.platform.cpu import HYPERV, SWITCHES, enlightenment
from mdtool.guest.platform.machine import FEATURES
from mdtool.importer.domain import clock
from mdtool.importer.features import features
from mdtool.importer.option_list import OptionList
from mdtool.machine.tree import Tree

ARCH = {"pseries": "ppc64", "virt": "aarch64", "q35": "x86_64"}
DOMAIN = """<domain type='kvm'><name>web01</name><memory unit='GiB'>1</memory>
<os><type arch='{arch}' machine='{machine}-7.2'>hvm</type></os>{features}<cpu><model>m</model></cpu></domain>"""


def read_back(machine: str, cpu: str, properties: dict[str, Any]) -> dict[str, Any]:
    arch = ARCH[machine]
    name = "pc-q35" if machine == "q35" else machine
    tree = Tree(machine={"type": f"{name}-7.2", "arch": arch, "properties": properties})
    said = OptionList(options_from_words(["-cpu", f"m{cpu}"]))
    text = features(said, tree, arch, False) + clock(said, tree)
    guest = guest_from_bytes(DOMAIN.format(arch=arch, machine=name, features=text).encode(), "web01.xml")
    report = Report()
    sections = sections_from_guest(guest, report)
    assert not report.errors, text
    return {**sections["machine"].get("properties", {}), **sections["cpu"].get("features", {})}


@pytest.mark.parametrize("row", FEATURES, ids=lambda row: row.name)
def test_each_machine_property_comes_back(row: Any) -> None:
    machine = "q35" if row.name in ("smm", "vmport", "kernel_irqchip", "i8042") else "pseries"
    for value in (True, False) if row.values is None else row.values.values():
        found = read_back(machine, "", {row.name: value})
        assert str(found[row.name]) in (str(value), "on" if value else "off"), row.name
    assert row.name not in read_back(machine, "", {})


def test_each_switch_of_the_cpu_comes_back() -> None:
    for name, values in SWITCHES.values():
        for value in values.values():
            assert read_back("q35", f",{name}={'on' if value else 'off'}", {})[name] is value
        assert name not in read_back("q35", "", {})


def test_each_timer_comes_back() -> None:
    for words, name, value in (
        ("kvmclock=off", "kvmclock", False),
        ("hv_time", "hv-time", True),
        ("tsc-frequency=2000000000", "tsc-frequency", 2_000_000_000),
    ):
        assert read_back("q35", f",{words}", {})[name] == value
        assert name not in read_back("q35", "", {})


def test_each_enlightenment_comes_back() -> None:
    names = [
        enlightenment(*parts) for name, inner in HYPERV.items() for parts in ((name,), *((name, one) for one in inner))
    ]
    found = read_back("q35", "".join(f",{name}=on" for name in names), {})
    assert all(found[name] is True for name in names)
    assert (
        read_back("q35", ",hv-spinlocks=0x1fff,hv-vendor-id=abc,hv-passthrough=on", {}).items()
        >= {
            "hv-spinlocks": "0x1fff",
            "hv-vendor-id": "abc",
            "hv-passthrough": True,
        }.items()
    )
