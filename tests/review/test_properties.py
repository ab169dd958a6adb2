"""Whatever a description says, as long as its schema takes it: nothing crashes, and what must hold holds."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdtool.machine.document import document_from_text
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.review.check import checked
from mdtool.review.diff import diff
from mdtool.review.embed import embedded_in, with_embedded
from mdtool.review.merge3 import merged_text
from mdtool.review.names import names
from mdtool.review.show import text, view
from mdtool.review.svg import svg
from mdtool.review.textconv import lines
from tests.review.corpus import PC, Q35, Edit, Row

ADDRESSES = st.one_of(
    st.none(),
    st.sampled_from(["00.0", "05.0", "05.1", "1f.2", "0", "1", "1.2", "0:0:0", "0:7:1", "3f8", "fe.0.0001", "zz", ""]),
    st.text("0123456789abcdef.:", max_size=6),
)
DRIVERS = st.sampled_from(
    re.split(
        " ",
        "e1000 virtio-net-pci virtio-blk-pci scsi-hd ide-hd usb-tablet usb-hub usb-ccid virtserialport hda-duplex isa-serial "
        "pcie-root-port pci-bridge pxb-pcie qemu-xhci usb-ehci virtio-serial-pci virtio-scsi-pci nvme VGA vmgenid nobody-knows "
        "intel-iommu",
    )
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 70), st.sampled_from(["on", "x", "52:54:00:00:00:01", "0x10", ""])
)
NAMES = st.sampled_from(
    re.split(
        " ",
        "mac bootindex multifunction chassis chassis_nr slot port acpi-index p2 max_ports name bus_nr masterbus firstport "
        "logical_block_size ports netdev serial",
    )
)
ROWS = st.builds(
    Row,
    DRIVERS,
    st.sampled_from(
        ["pcie.0", "pci.0", "rp1", "rp4", "br1", "scsi0.0", "vs.0", "xhci.0", "hda.0", "ide.1", "isa.0", "elsewhere", None]
    ),
    ADDRESSES,
    st.one_of(st.none(), st.sampled_from(["net0", "net1", "new", "usb"])),
    st.dictionaries(NAMES, VALUES, max_size=3),
)
TREES = st.builds(
    lambda machine, rows: Edit("again", machine, tuple(rows)).tree(), st.sampled_from([Q35, PC]), st.lists(ROWS, max_size=4)
)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same(one: Tree, two: Tree) -> bool:
    return not diff(one, two, everything=True) and not diff(two, one, everything=True)


@QUICK
@given(TREES)
def test_nothing_crashes(tree: Tree) -> None:
    words = yaml_from_tree(tree)
    document = document_from_text(words, "guest.yaml")
    for error in (found := checked(document)).errors + found.warnings:
        assert error.at is not None, error
        assert error.rule
    assert names(document.tree) is not None
    assert len(text(view(document.tree)).splitlines()) > len(document.tree.places)
    assert ElementTree.fromstring(svg(view(document.tree), "x")) is not None
    assert all("\n" not in line for line in lines(document.tree))
    xml = "<domain><name>g</name></domain>"
    assert embedded_in(with_embedded(xml, words).encode(), "guest.xml") == words


@QUICK
@given(TREES, TREES)
def test_a_diff_is_empty_for_the_same_and_symmetric(one: Tree, two: Tree) -> None:
    assert same(one, one)
    there, back = diff(one, two, everything=True), diff(two, one, everything=True)
    assert bool(there) == bool(back)
    assert view(two, one)


@QUICK
@given(TREES, TREES)
def test_a_merge_with_an_unchanged_side_is_the_other_side(one: Tree, two: Tree) -> None:
    base, other = yaml_from_tree(one), yaml_from_tree(two)
    for found in (merged_text(base, other, base), merged_text(base, base, other)):
        if not checked(document_from_text(other, "x")).errors:
            assert not found.conflicts
            assert same(document_from_text(found.text, "x").tree, document_from_text(other, "x").tree)


@QUICK
@given(TREES, TREES, TREES)
def test_a_merge_never_loses_a_side(base: Tree, ours: Tree, theirs: Tree) -> None:
    found = merged_text(*map(yaml_from_tree, (base, ours, theirs)))
    assert found.text
    if not found.conflicts:
        assert document_from_text(found.text, "guest.yaml")
