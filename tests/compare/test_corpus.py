"""The corpus of faults on real QEMUs, several to a start; `make proof` starts each of them alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdtool.compare import comparison
from mdtool.machine.document import document_from_text
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.arguments import completed
from mdtool.qemu.dump import dump
from tests.compare.corpus import HOST, MACHINES, batches, is_wrong, with_faults
from tests.conftest import require
from tests.support import started


@contextmanager
def machine(words: str, folder: Path) -> Iterator[Tree]:
    """What a paused QEMU with these words is, with what its arguments say."""
    with started([*words.split(), "-S", "-display", "none"], folder) as session:
        yield completed(dump(session), session, pytest.fail)


def test_the_corpus_is_large_enough_and_says_why() -> None:
    faults = [fault for machine in MACHINES.values() for fault in machine.faults]
    assert sum(fault.node != HOST for fault in faults) >= 150
    assert all(fault.why for fault in faults if fault.node == HOST)
    assert len({(name, fault.old, fault.new) for name, one in MACHINES.items() for fault in one.faults}) == len(faults)
    assert all(fault.old in machine.words for machine in MACHINES.values() for fault in machine.faults)


@pytest.mark.parametrize("name", MACHINES)
def test_every_fault_is_named(name: str, tmp_path: Path) -> None:
    words = MACHINES[name].words
    require(words.split()[0])
    with machine(words, tmp_path) as good:
        described = document_from_text(yaml_from_tree(good), "good.yaml").tree
    with machine(words, tmp_path) as again:
        found, compared = comparison(described, again)
        assert [str(one) for one in found] == []
        assert [str(one) for one in compared.not_compared if "query-pci" not in one.why] == []
    wrong = []
    for batch in batches(MACHINES[name]):
        with machine(with_faults(words, batch), tmp_path) as other:
            found = comparison(described, other)[0]
        wrong += [f"{fault}: {[str(one) for one in found]}" for fault in batch if is_wrong(fault, found)]
    assert wrong == []
