"""The three views of ``mdtool verify``, on real machines: expanders, bridges behind bridges, before and after firmware."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mdtool.compare import ADDRESS, ENUMERATED, FEATURES, FIRMWARE, IDENTITY, PCI, SECTIONS_VIEW, TREE, compare
from mdtool.launch.start import started
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.enumerated import enumeration, verified
from mdtool.qemu.dump import dump
from mdtool.qemu.process import QemuProcess
from tests.support import pci, run_mdtool
from tests.support_dump import MACHINES as OTHERS
from tests.support_dump import binary_of, session_of
from tests.support_launch import COMMON, device, prepared


def _device(driver: str, id: str, **properties: Any) -> list[str]:
    """With underscores in names as they are, as bridges have them."""
    return ["-device", json.dumps({"driver": driver, "id": id, **properties})]


def q35() -> list[str]:
    """An expander whose bus number is no other's business, and three bridges in a row."""
    words = ["qemu-system-x86_64", *COMMON, "-machine", "pc-q35-7.2,smm=off"]
    words += _device("pxb-pcie", "pci.7", bus="pcie.0", addr="0x6", bus_nr=254)
    words += _device("pxb-pcie", "pci.9", bus="pcie.0", addr="0x7", bus_nr=200)
    words += device("pcie-root-port", "pci.1", bus="pcie.0", addr="0x2", chassis=1, port=16)
    words += device("pcie-pci-bridge", "pci.2", bus="pci.1", addr="0x0")
    words += _device("pci-bridge", "pci.3", bus="pci.2", addr="0x1", chassis_nr=3)
    words += device("e1000", "net0", bus="pci.3", addr="0x2")
    words += device("pcie-root-port", "pci.8", bus="pci.7", addr="0x0", chassis=8, port=16)
    words += device("virtio-rng-pci", "rng0", bus="pci.8", addr="0x0")
    words += device("pcie-root-port", "pci.10", bus="pci.9", addr="0x0", chassis=9, port=17)
    return words + device("virtio-rng-pci", "rng1", bus="pci.10", addr="0x0")


def pc() -> list[str]:
    words = ["qemu-system-x86_64", *COMMON, "-machine", "pc-i440fx-7.2"]
    words += _device("pxb", "pci.7", bus="pci.0", addr="0x6", bus_nr=200)
    words += device("virtio-rng-pci", "rng0", bus="pci.7", addr="0x1")
    words += _device("pci-bridge", "pci.3", bus="pci.0", addr="0x8", chassis_nr=3)
    words += _device("pci-bridge", "pci.4", bus="pci.3", addr="0x1", chassis_nr=4)
    return words + device("e1000", "net0", bus="pci.4", addr="0x2")


MACHINES = {"q35": q35, "pc": pc}


def mdtool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_mdtool("verify", folder / "guest.yaml", folder / "guest.qmp", *words)


@pytest.mark.parametrize("name", MACHINES)
def test_expanders_and_bridges_behind_bridges_verify_clean(name: str, tmp_path: Path) -> None:
    """Before firmware ran nothing behind a bridge is enumerated, and that is said; after it, all of it is compared."""
    more = ["-qmp", f"unix:{tmp_path}/guest.qmp,server=on,wait=off"]
    with started(prepared(MACHINES[name](), "device"), directory=tmp_path, more=more) as qemu:
        tree = dump(qemu.session)
        (tmp_path / "guest.yaml").write_text(yaml_from_tree(tree))
        before = mdtool(tmp_path, "--json")
        assert set(pci(qemu.session)) > {"net0", "rng0"}  # SeaBIOS numbered all of it
        after, text = mdtool(tmp_path, "--json"), mdtool(tmp_path)
    assert [before.returncode, after.returncode, text.returncode] == [0, 0, 0], before.stdout + after.stdout + after.stderr
    unbooted, booted = (
        {view["view"]: view for view in json.loads(done.stdout)["compared"]["views"]} for done in (before, after)
    )
    assert unbooted.keys() == booted.keys() == {TREE, SECTIONS_VIEW, ENUMERATED, FEATURES}
    functions = sum(place.bus is not None and place.bus.type.upper().startswith(("PCI", "PXB")) for place in tree.places)
    assert booted[ENUMERATED]["omitted"] == []
    assert f" {functions} functions" in booted[ENUMERATED]["compared"]
    (omitted,) = unbooted[ENUMERATED]["omitted"]
    assert "no firmware has numbered" in omitted["why"] and "pci." in omitted["why"]
    assert f"{ENUMERATED}: " in text.stdout and f"{FEATURES}: " in text.stdout


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[QemuProcess, Tree]]:
    with started(prepared(q35(), "device"), directory=tmp_path_factory.mktemp("q35")) as qemu:
        tree = dump(qemu.session)
        pci(qemu.session)
        yield qemu, tree


def _changed(bus: Bus, id: str, change: dict[str, Any] | None) -> Bus:
    """The bus with one node changed wherever it is; without it where there is no change."""
    nodes = [
        replace(node, **(change or {}), buses=tuple(_changed(inner, id, change) for inner in node.buses))
        if node.id == id
        else replace(node, buses=tuple(_changed(inner, id, change) for inner in node.buses))
        for node in bus.devices
        if node.id != id or change is not None
    ]
    return replace(bus, devices=tuple(nodes))


def changed(tree: Tree, id: str, change: dict[str, Any] | None) -> Tree:
    return replace(tree, buses=tuple(_changed(bus, id, change) for bus in tree.buses))


@pytest.mark.parametrize(
    ("id", "change", "node", "prop", "severity"),
    [
        ("net0", {"address": "05.0"}, "net0", "address", ADDRESS),
        ("rng0", None, "rng0", "", IDENTITY),
        ("pci.3", {"address": "1e.0"}, "pci.3", "address", ADDRESS),
        ("pci.8", {"address": "00.3"}, "pci.8", "address", ADDRESS),
    ],
)
def test_what_the_guest_enumerates_otherwise_is_named(
    booted: tuple[QemuProcess, Tree], id: str, change: dict[str, Any] | None, node: str, prop: str, severity: str
) -> None:
    """By query-pci alone: the other views are not asked."""
    qemu, tree = booted
    answer = qemu.execute("query-pci")
    assert enumeration(tree, tree, answer)[0] == []
    found, _ = enumeration(changed(tree, id, change), tree, answer)
    assert (node, prop, severity) in [(d.node, d.property, d.severity) for d in found]


def test_a_function_that_is_described_and_not_there_is_missing(booted: tuple[QemuProcess, Tree]) -> None:
    qemu, tree = booted
    port = next(place.node for place in tree.places if place.node.id == "pci.1")
    more = replace(port, id="pci.77", address="09.0", buses=(), properties={})
    described = replace(tree, buses=tuple(_with(bus, "pcie.0", more) for bus in tree.buses))
    found, _ = enumeration(described, tree, qemu.execute("query-pci"))
    assert [str(d) for d in found] == [
        "pci.77: missing: described is pcie-root-port at pcie.0 09.0, and the machine has none"
    ]


def test_a_place_that_nobody_described_is_not_compared(booted: tuple[QemuProcess, Tree]) -> None:
    """A device of <qemu:commandline> without addr=: QEMU chooses its place, and it is no other device."""
    qemu, tree = booted
    rng = replace(tree.by_name["rng0"].node, address=None)
    left = changed(tree, "rng0", None)
    found, view = enumeration(replace(left, devices=(*left.devices, rng)), tree, qemu.execute("query-pci"))
    assert found == []
    assert "rng0" in str(view.omitted)


def _with(bus: Bus, name: str, node: Node) -> Bus:
    return replace(bus, devices=(*bus.devices, node)) if bus.name == name else bus


def test_root_buses_are_known_by_what_is_on_them_not_by_number(booted: tuple[QemuProcess, Tree]) -> None:
    """The numbers of two expanders exchanged: a difference of two properties, and of nothing that is enumerated."""
    qemu, tree = booted
    other = changed(changed(tree, "pci.7", {"properties": {"bus_nr": 200}}), "pci.9", {"properties": {"bus_nr": 254}})
    assert enumeration(other, tree, qemu.execute("query-pci"))[0] == []
    _, found, _ = verified(other, qemu.session)
    assert [(d.node, d.property) for d in found] == [("pci.7", "bus_nr"), ("pci.9", "bus_nr")]


def test_what_two_views_show_is_said_once(booted: tuple[QemuProcess, Tree]) -> None:
    qemu, tree = booted
    _, found, _ = verified(changed(tree, "net0", {"address": "05.0"}), qemu.session)
    assert [(d.node, d.property) for d in found] == [("net0", "address")]


@pytest.mark.parametrize(
    ("fact", "value", "prop", "severity"),
    [
        ("id", "8086:100f", "PCI id", PCI),
        ("sub", "1af4:1101", "PCI subsystem id", PCI),
        ("class", "SCSI controller", "PCI class", PCI),
        ("bar0", "mem 65536", "bar0", PCI),
        ("bar1", "mem 64", "bar1", PCI),
        ("rom", 65536, "ROM size", FIRMWARE),
    ],
)
def test_what_a_function_is_is_held_against_the_dump_and_against_query_pci(
    booted: tuple[QemuProcess, Tree], fact: str, value: Any, prop: str, severity: str
) -> None:
    qemu, tree = booted
    net0 = tree.by_name["net0"].node
    assert net0.pci[fact] != value
    other = changed(tree, "net0", {"pci": {**net0.pci, fact: value}})
    for found in (compare(other, tree), enumeration(other, tree, qemu.execute("query-pci"))[0]):
        assert [(d.node, d.property, d.want, d.severity) for d in found] == [("net0", prop, value, severity)]
    assert len(verified(other, qemu.session)[1]) == 1


def test_a_description_without_pci_facts_says_that_they_were_not_compared(booted: tuple[QemuProcess, Tree]) -> None:
    """As one made from XML alone, or one whose property a hand changed since."""
    qemu, tree = booted
    for change in ({"pci": {}}, {"properties": {**tree.by_name["net0"].node.properties, "rombar": 0}}):
        _, _, compared = verified(changed(tree, "net0", change), qemu.session)
        view = next(view for view in compared.views if view.name == ENUMERATED)
        assert [omitted.what for omitted in view.omitted] == ["class, ids, BARs and ROM of 1 functions (net0)"]


@pytest.mark.parametrize("name", ["microvm", "s390", "pseries", "riscv"])
def test_machines_of_other_kinds_verify_clean(name: str, tmp_path: Path) -> None:
    arch, options = OTHERS[name]
    with session_of(binary_of(arch), options, tmp_path) as session:
        tree = dump(session)
        _, found, compared = verified(tree, session)
    assert found == []
    view = next(view for view in compared.views if view.name == ENUMERATED)
    functions = sum(bool(place.node.pci) for place in tree.places)
    assert f"place of {functions} functions" in view.compared
    assert [omitted.why for omitted in view.omitted] == (["the machine has no PCI"] if name == "microvm" else [])
