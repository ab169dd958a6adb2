"""Clean relaunches and no false alarm: guests of many kinds, in every way, before and after firmware ran.

Each way once for each guest; `make soak` relaunches a hundred times.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mdtool.compare import cpu_flags, guest_visible
from mdtool.launch.prepare import Prepared
from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
from mdtool.launch.start import counts, started
from mdtool.launch.ways import DIRECT
from mdtool.machine.document import tree_from_file
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.enumerated import verified
from mdtool.proof.migration import target
from mdtool.qemu.dump import as_planned, dump
from tests.qemu import test_verify_views as views
from tests.support import ran
from tests.support_launch import MACHINES, prepared

ROOT = Path(__file__).parents[2]
XML = [
    *(ROOT / "samples" / name / "guest.xml" for name in ("web01", "legacy")),
    *(
        ROOT / "tests" / "cases" / f"fresh-{name}" / "guest.xml"
        for name in ("q35", "i440fx", "many-nics", "everything-usb")
    ),
]
WORDS: dict[str, Callable[[], list[str]]] = {**MACHINES, "pxb": views.pc, "pxb-pcie": views.q35}
SOAK = "MDTOOL_SOAK" in os.environ
RELAUNCHES = {"xml": 8, "words": 11} if SOAK else {"xml": 4, "words": 5}  # of each guest


def relaunches(source: Path | str, folder: Path) -> Iterator[tuple[Tree, Prepared]]:
    """The description of a guest as a first start gave it, written and read, and machines that are to be the same."""
    if isinstance(source, Path):
        first = prepared_rehearsal(source)
        with rehearsal(first) as qemu:
            tree = reread(as_planned(dump(qemu.session), first.tree, first.substitutes), folder)
        for number in range(RELAUNCHES["xml"]):
            yield tree, prepared_rehearsal(source, tree, via=DIRECT[number % len(DIRECT)])
    else:
        words = WORDS[source]()
        with started(prepared(words, "device"), directory=folder) as qemu:
            tree = reread(dump(qemu.session), folder)
        for number in range(RELAUNCHES["words"]):
            yield tree, prepared(words, DIRECT[number % len(DIRECT)], tree) if number % 2 else target(tree)


def reread(tree: Tree, folder: Path) -> Tree:
    path = folder / "guest.yaml"
    path.write_text(yaml_from_tree(tree))
    return tree_from_file(path)


@pytest.mark.parametrize("source", [*XML, *WORDS], ids=[path.parent.name for path in XML] + list(WORDS))
def test_no_false_alarm(source: Path | str, tmp_path: Path) -> None:
    done = 0
    for number, (tree, again) in enumerate(relaunches(source, tmp_path)):
        with rehearsal(again) as qemu:
            if number % 4 == 3:
                ran(qemu.session)
            _, found, compared = verified(tree, qemu.session)
        # A dump has the CPU's model and its bits, not which of these somebody chose: words have that, and the XML.
        told = isinstance(source, Path) or number % 2
        alarms = [one for one in guest_visible(found) + (cpu_flags(found) if told else []) if counts(one, again)]
        assert [str(one) for one in alarms] == [], number
        assert compared.nodes == len(tree.places)
        done += 1
    assert done == RELAUNCHES["xml" if isinstance(source, Path) else "words"]


def test_they_are_many() -> None:
    assert len(XML) * RELAUNCHES["xml"] + len(WORDS) * RELAUNCHES["words"] >= (100 if SOAK else 49)
