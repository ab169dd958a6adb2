"""The corpus of faults, each started on a real QEMU and held against the description of the good machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdtool.compare import EFFECTIVE, comparison, guest_visible, noticed
from mdtool.machine.document import document_from_text
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.arguments import completed
from mdtool.qemu.dump import dump
from tests.compare.corpus import HOST, MACHINES, Fault
from tests.conftest import require
from tests.support import started

#: faults of one machine in one test, so that workers share them
CHUNK = 40
CHUNKS = [(name, at) for name, machine in MACHINES.items() for at in range(0, len(machine.faults), CHUNK)]


@contextmanager
def machine(words: str, folder: Path) -> Iterator[Tree]:
    """What a paused QEMU with these words is, with what its arguments say."""
    with started([*words.split(), "-S", "-display", "none"], folder) as session:
        yield completed(dump(session), session, pytest.fail)


def with_fault(words: str, fault: Fault) -> str:
    assert fault.old in words, fault
    return words.replace(fault.old, fault.new, 1) if fault.old else f"{words} {fault.new}"


def test_the_corpus_is_large_enough_and_says_why() -> None:
    faults = [fault for machine in MACHINES.values() for fault in machine.faults]
    assert sum(fault.node != HOST for fault in faults) >= 150
    assert all(fault.why for fault in faults if fault.node == HOST)
    assert len({(name, fault.old, fault.new) for name, one in MACHINES.items() for fault in one.faults}) == len(faults)


@pytest.mark.parametrize(("name", "first"), CHUNKS)
def test_every_fault_is_named(name: str, first: int, tmp_path: Path) -> None:
    words = MACHINES[name].words
    require(words.split()[0])
    with machine(words, tmp_path) as good:
        described = document_from_text(yaml_from_tree(good), "good.yaml").tree
    with machine(words, tmp_path) as again:
        found, compared = comparison(described, again)
        assert [str(one) for one in found] == []
        assert [str(one) for one in compared.not_compared if "query-pci" not in one.why] == []
    wrong = []
    for fault in MACHINES[name].faults[first : first + CHUNK]:
        with machine(with_fault(words, fault), tmp_path) as other:
            found = noticed(comparison(described, other)[0])
        named = [one for one in found if one.node == fault.node]
        if found if fault.node == HOST else not named:
            wrong.append(f"{fault.old} => {fault.new}: {[str(one) for one in found]}")
        # A launch stops for what is no host's doing; what two hosts make of one CPU or disk it reports.
        stops = guest_visible(found)
        assert stops or all(one.severity == EFFECTIVE for one in found), fault
    assert wrong == []
