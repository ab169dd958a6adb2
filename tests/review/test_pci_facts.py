"""What a PCI device is beyond its properties, in diffs and in merges: class, ids, BARs and ROM, as any other pin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mdtool.machine.document import document_from_text
from mdtool.machine.pci import pci_facts, properties_digest
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.review.diff import diff
from mdtool.review.merge3 import merged_text
from mdtool.review.textconv import lines

FACTS = {"class": "Ethernet controller", "id": "1af4:1041", "bar1": "mem 4096", "rom": 262144}


def tree(facts: dict[str, Any] = FACTS, video: dict[str, Any] | None = None, **properties: Any) -> Tree:
    """A NIC with these PCI facts, which were read with these properties, and a video card."""
    nic = Node("virtio-net-pci", "net0", "03.0", properties={"mac": "52:54:00:00:00:01", **properties}, pins={"vectors": 4})
    nic = replace(nic, pci={**facts, "of": properties_digest(nic)} if facts else {})
    card = Node("VGA", "video0", "02.0", properties=video or {}, pins={"vgamem_mb": 16})
    return Tree(machine={"type": "pc-i440fx-7.2"}, buses=(Bus("pci.0", "PCI", (card, nic)),))


def facts_of(text: str) -> dict[str, Any]:
    return dict(pci_facts(document_from_text(text, "merged.yaml").tree.by_name["net0"].node))


def merge(base: Tree, ours: Tree, theirs: Tree) -> tuple[dict[str, Any], list[str]]:
    done = merged_text(*map(yaml_from_tree, (base, ours, theirs)), "guest.yaml")
    return facts_of(done.text), list(done.conflicts)


def test_a_diff_has_each_of_them() -> None:
    other = {**FACTS, "class": "Network controller", "bar1": "mem 8192", "rom": 131072}
    found = {(c.property, c.old, c.new, c.severity) for c in diff(tree(), tree(other)).changes}
    assert found == {
        ("PCI class", "Ethernet controller", "Network controller", "pci"),
        ("bar1", "mem 4096", "mem 8192", "pci"),
        ("ROM size", 262144, 131072, "firmware"),
    }
    assert not diff(tree(), tree())


def test_what_one_side_does_not_know_is_no_difference() -> None:
    assert not diff(tree(), tree({}))
    assert not diff(tree({}), tree())
    by_hand = replace(tree().by_name["net0"].node, properties={"mac": "52:54:00:00:00:01", "rombar": 0})
    stale = replace(tree(), buses=(Bus("pci.0", "PCI", (tree().by_name["video0"].node, by_hand)),))
    assert [c.property for c in diff(tree(), stale).changes] == ["rombar"]  # what it will be then nobody knows


def test_git_shows_the_pins_of_a_driver_in_short_lines() -> None:
    shown = [line for line in lines(tree()) if line.startswith("virtio-net-pci ~ ")]
    assert all(fact in shown[0] for fact in (" vectors=4", " pci:class=Ethernet controller", " pci:rom=262144"))
    assert "of=" not in shown[0] and len(shown) == 1
    assert not any("pci:" in line for line in lines(tree({})))


def test_a_merge_takes_the_side_that_changed_them() -> None:
    other = {**FACTS, "rom": 131072}
    assert merge(tree(), tree(other), tree()) == (other, [])
    assert merge(tree(), tree(), tree(other)) == (other, [])
    assert merge(tree(), tree(other), tree({**FACTS, "rom": 65536})) == (other, [])  # as of other pins, ours


def test_a_merge_keeps_what_fits_the_merged_properties() -> None:
    """Their rombar brings their facts along; both sides' properties together nobody has read yet."""
    without = {key: value for key, value in FACTS.items() if key != "rom"}
    assert merge(tree(), tree(video={"xres": 800}), tree(without, rombar=0)) == (without, [])
    assert merge(tree(), tree(without, rombar=0), tree(video={"xres": 800})) == (without, [])
    assert merge(tree(), tree(without, rombar=0), tree(FACTS, mq=True)) == ({}, [])
