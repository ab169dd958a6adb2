"""Every way to launch gives the guest the same machine: the same dump, the same query-pci, the same migration state."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import other_root

from mdtool.errors import QemuError
from mdtool.launch.run import started
from mdtool.proof.root import rooted
from mdtool.proof.verify import compare, guest_visible
from mdtool.qemu.dump import dump
from tests.support_launch import MACHINES, prepared, saved, wait_for

OURS = ("device", "file", "monitor", "options")


def pci(answer: Any) -> Any:
    """query-pci without ids, which no guest sees and ``-net nic`` cannot give."""
    if isinstance(answer, dict):
        return {key: pci(value) for key, value in answer.items() if key != "qdev_id"}
    return [pci(item) for item in answer] if isinstance(answer, list) else answer


@pytest.fixture(params=sorted(MACHINES), scope="module")
def machine(request: pytest.FixtureRequest) -> list[str]:
    return MACHINES[request.param]()


def test_all_ways_give_the_same_machine(machine: list[str], tmp_path: Path) -> None:
    trees, seen, states = {}, {}, {}
    for via in OURS:
        with started(prepared(machine, via), directory=tmp_path) as qemu:
            trees[via] = dump(qemu.session)
            seen[via] = pci(qemu.execute("query-pci"))
            states[via] = saved(qemu, tmp_path / f"{via}.state")
    assert sum(1 for place in trees["device"].places if place.node.id) >= 20
    for via in OURS[1:]:
        assert guest_visible(compare(trees["device"], trees[via])) == [], via
        assert seen[via] == seen["device"], via
    for via, state in zip(OURS, [states[way] for way in (*OURS[1:], OURS[0])], strict=True):  # each into the next
        with started(prepared(machine, via), directory=tmp_path, more=["-incoming", "defer"]) as qemu:
            qemu.execute("migrate-incoming", uri=f"exec:cat {state}")
            wait_for(qemu, "query-status", "prelaunch")


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_all_ways_on_another_qemu_and_into_it(name: str, tmp_path: Path) -> None:
    """The same on the QEMU of another root folder, and the state of this system's loads into each of its ways."""
    old = MACHINES[name]()
    command, environment = rooted(old[:1], other_root())
    there = tmp_path / "qemu"
    module = f"QEMU_MODULE_DIR={shlex.quote(environment['QEMU_MODULE_DIR'])}"
    there.write_text(f'#!/bin/sh\n{module} exec {shlex.join(command)} "$@"\n')
    there.chmod(0o755)
    new = [str(there), *old[1:]]
    with started(prepared(old, "file"), directory=tmp_path) as qemu:
        state = saved(qemu, tmp_path / "state")
    trees = {}
    for via in OURS:
        with started(prepared(new, via), directory=tmp_path, more=["-incoming", "defer"]) as qemu:
            trees[via] = dump(qemu.session)
            if name != "virt":  # 11.1 lacks a register of 7.2's Cortex-A57, whatever the devices are
                qemu.execute("migrate-incoming", uri=f"exec:cat {state}")
                wait_for(qemu, "query-status", "prelaunch")
        assert guest_visible(compare(trees["device"], trees[via])) == [], via


def test_a_moved_device_is_found_and_its_state_refused(tmp_path: Path) -> None:
    """The negative control of the test above."""
    machine = MACHINES["q35"]()
    moved = [word.replace('"bus": "pci.9"', '"bus": "pci.10"') for word in machine]
    assert moved != machine
    with started(prepared(machine, "file"), directory=tmp_path) as qemu:
        tree, state = dump(qemu.session), saved(qemu, tmp_path / "state")
    with started(prepared(moved, "file"), directory=tmp_path) as qemu:
        assert [str(d) for d in guest_visible(compare(tree, dump(qemu.session)))] == [
            "rng0: moved: described at pci.9 00.0, is at pci.10 00.0"
        ]
    target = started(prepared(moved, "file"), directory=tmp_path, more=["-incoming", "defer"])
    with pytest.raises(QemuError, match=r"Unknown (ramblock|savevm section)"), target as qemu:
        qemu.execute("migrate-incoming", uri=f"exec:cat {state}")
        wait_for(qemu, "query-status", "prelaunch")
