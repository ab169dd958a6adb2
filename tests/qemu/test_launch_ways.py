"""All six ways to launch give the guest the same machine: the same dump, the same query-pci, the same RAM blocks, and the
migration state of each loads into the next one, and in `make matrix` into each."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdtool.compare import HOST, compare, guest_visible
from mdtool.errors import QemuError
from mdtool.machine.document import tree_with
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.migration import save_state
from mdtool.qemu.dump import dump
from mdtool.qemu.root import rooted
from tests.conftest import other_root
from tests.support_ways import ALL, DIRECT, GUESTS, Ways

#: a device of each guest, and a free place for it
ELSEWHERE = {"pc": ("balloon0", "1e.0"), "q35": ("sound0", "1e.0"), "virt": ("pci.3", "1e.0")}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a libvirt's QEMU, which may be another user's, finds disks and makes a socket; short, for the socket."""
    made = Path(tempfile.mkdtemp(prefix="md"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def loads(guest: Ways, via: str, state: Path) -> None:
    try:
        with guest.paused(via, incoming=True) as machine:
            machine.load(state)
    except QemuError as error:
        raise AssertionError(f"the state of {state.stem} does not load into {via}: {error}") from None


@pytest.mark.parametrize("name", sorted(GUESTS))
@pytest.mark.usefixtures("libvirt")
def test_all_six_ways_give_the_same_machine(name: str, folder: Path) -> None:
    guest = Ways.of(GUESTS[name], folder)
    trees, pci, ram, states = {}, {}, {}, {}
    for via in ALL:
        with guest.paused(via) as machine:
            trees[via], pci[via], ram[via] = dump(machine.session), machine.pci(), machine.ram()
            states[via] = folder / f"{via}.state"
            save_state(machine.session, states[via])
    first = trees["device"]
    assert sum(1 for place in first.places if place.node.id) >= 20
    for via in ALL:
        found = compare(first, trees[via])
        assert [str(one) for one in found if (one.property, one.severity) != ("id", HOST)] == [], via
        assert (pci[via], ram[via]) == (pci["device"], ram["device"]), via
        # An id shows to nobody in the guest; only ``-net nic`` and a device with an override have another one.
        assert via == "options" or [str(one) for one in found] == [], via
    assert len({yaml_from_tree(trees[via]) for via in ("device", "file", "monitor", "hints")}) == 1
    # Whatever loads a state is of the same form as what made it, and so on around.
    following = dict(zip(ALL, (*ALL[1:], ALL[0]), strict=True))
    for via, into in itertools.product(ALL, ALL):
        if into == following[via] or os.environ.get("MDTOOL_QEMU_ROOT"):
            loads(guest, into, states[via])


@pytest.mark.parametrize("name", sorted(GUESTS))
def test_a_moved_device_is_found_and_its_state_refused(name: str, folder: Path) -> None:
    """The negative control of the test above."""
    guest = Ways.of(GUESTS[name], folder)
    device, address = ELSEWHERE[name]
    moved = tree_with(guest.tree, {device: {"address": address}})
    with guest.paused("file") as machine:
        tree = dump(machine.session)
        save_state(machine.session, state := folder / "state")
    for via in ("device", "hints"):
        with guest.paused(via, tree=moved) as machine:
            found = guest_visible(compare(tree, dump(machine.session)))
        assert [(one.node, one.property) for one in found] == [(device, "address")]
        refusing = guest.paused(via, tree=moved, incoming=True)
        with pytest.raises(QemuError, match=r"Unknown (ramblock|savevm section)"), refusing as machine:
            machine.load(state)


@pytest.mark.parametrize("name", sorted(GUESTS))
def test_all_ways_on_another_qemu_and_into_it(name: str, folder: Path) -> None:
    """The same on the QEMU of another root folder, and the state of this system's loads into each of its ways."""
    guest = Ways.of(GUESTS[name], folder)
    program = "qemu-system-aarch64" if name == "virt" else "qemu-system-x86_64"
    command, environment = rooted([program], other_root())
    there = folder / "qemu"
    module = f"QEMU_MODULE_DIR={shlex.quote(environment['QEMU_MODULE_DIR'])}"
    there.write_text(f'#!/bin/sh\n{module} exec {shlex.join(command)} "$@"\n')
    there.chmod(0o755)
    with guest.paused("file") as machine:
        save_state(machine.session, state := folder / "state")
    trees, pci, ram = {}, {}, {}
    for via in DIRECT:
        with guest.paused(via, incoming=True, binary=str(there)) as machine:
            trees[via], pci[via], ram[via] = dump(machine.session), machine.pci(), machine.ram()
            if name != "virt":  # 11.1 lacks a register of 7.2's Cortex-A57, whatever the devices are
                machine.load(state)
        assert guest_visible(compare(trees["device"], trees[via])) == [], via
        assert (pci[via], ram[via]) == (pci["device"], ram["device"]), via
