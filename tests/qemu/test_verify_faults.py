"""Seeded faults on a real QEMU: each one found, by node and property, and what ``-incoming`` does foretold.

And no false alarm where there is none.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mdtool.cli import main
from mdtool.compare import compare, guest_visible
from mdtool.errors import QemuError
from mdtool.launch.start import started
from mdtool.machine.document import tree_from_file
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.enumerated import verified
from mdtool.proof.migration import Refusal, load_state, refusal, save_state, target
from mdtool.qemu.dump import dump
from tests.support import ran
from tests.support_launch import MACHINES, device, prepared

Words = list[str]
Fault = Callable[[Words], Words]


def machine(words: Words, folder: Path) -> Tree:
    with started(prepared(words, "device"), directory=folder) as qemu:
        return dump(qemu.session)


def devices(words: Words) -> dict[str, int]:
    """Device id -> index of its JSON in the words."""
    found = {}
    for index, word in enumerate(words):
        if index and words[index - 1] == "-device":
            found[json.loads(word)["id"]] = index
    return found


def changed(id: str, **properties: Any) -> Fault:
    """A device with other properties; None takes one away."""

    def fault(words: Words) -> Words:
        index = devices(words)[id]
        data = json.loads(words[index]) | {key.replace("_", "-"): value for key, value in properties.items()}
        data = {key: value for key, value in data.items() if value is not None}
        return [*words[:index], json.dumps(data), *words[index + 1 :]]

    return fault


def dropped(*ids: str) -> Fault:
    def fault(words: Words) -> Words:
        gone = {index for id, index in devices(words).items() if id in ids}
        return [word for index, word in enumerate(words) if index not in gone and index + 1 not in gone]

    return fault


def added(*words: str) -> Fault:
    return lambda old: [*old, *words]


def said(old: str, new: str) -> Fault:
    def fault(words: Words) -> Words:
        assert any(old in word for word in words)
        return [word.replace(old, new) for word in words]

    return fault


def replaced(old: str, new: str) -> Fault:
    return lambda words: [new if word == old else word for word in words]


#: fault, the node that must be named, the property that must be named
Q35 = {
    "a NIC dropped": (dropped("net1"), "net1", ""),
    "a disk dropped": (dropped("scsi0-0-0-1"), "scsi0-0-0-1", ""),
    "a port dropped": (dropped("pci.10"), "pci.10", ""),
    "a channel dropped": (dropped("channel2"), "channel2", ""),
    "a NIC too many": (added(*device("e1000e", "net9", bus="pcie.0", addr="0x9")), "net9", ""),
    "a NIC moved": (changed("net8", addr="0x6"), "net8", "address"),
    "a NIC behind another port": (changed("rng0", bus="pci.10"), "rng0", "address"),
    "a function moved": (changed("pci.10", addr="0x3.0x5"), "pci.10", "address"),
    "a disk at another lun": (changed("scsi0-0-0-2", lun=5), "scsi0-0-0-2", "address"),
    "a channel at another port": (changed("channel3", nr=7), "channel3", "address"),
    "a tablet at another port": (changed("input0", port="3"), "input0", "address"),
    "a disk on another port of the HBA": (changed("sata0-0-0", bus="ide.3"), "sata0-0-0", "address"),
    "another MAC": (changed("net0", mac="52:54:00:00:00:77"), "net0", "mac"),
    "another serial number": (changed("scsi0-0-0-0", serial="other"), "scsi0-0-0-0", "serial"),
    "another NIC model": (changed("net2", driver="e1000"), "net2", "driver"),
    "another chassis": (changed("pci.4", chassis=77), "pci.4", "chassis"),
    "another port number": (changed("pci.4", port=77), "pci.4", "port"),
    "no ROM BAR": (changed("net0", rombar=0), "net0", "rombar"),
    "other vectors": (changed("net0", vectors=5), "net0", "vectors"),
    "an ACPI index": (changed("net1", acpi_index=4), "net1", "acpi-index"),
    "no hotplug on a port": (changed("pci.5", hotplug=False), "pci.5", "hotplug"),
    "a transitional device": (changed("virtio-disk0", disable_legacy="off"), "virtio-disk0", "disable-legacy"),
    "another queue size": (changed("virtio-disk0", queue_size=64), "virtio-disk0", "queue-size"),
    "another boot index": (changed("virtio-disk0", bootindex=2), "virtio-disk0", "bootindex"),
    "another channel name": (changed("channel1", name="org.example.other"), "channel1", "name"),
    "multifunction off": (changed("net8", multifunction=True), "net8", "multifunction"),
    "more USB ports": (changed("usb", p2=4), "usb", "p2"),
    "another machine type": (said("pc-q35-7.2", "pc-q35-7.1"), "machine", "type"),
    "more CPUs": (said("1,maxcpus=2", "2,maxcpus=2"), "cpu", "vcpus"),
    "another CPU feature": (said("x2apic=on", "svm=off"), "qemu64-x86_64-cpu@0:0:0", "feature-words.80000001.ecx"),
    "more memory": (replaced("64", "96"), "memory", "size"),
    "another codec address": (changed("sound0-codec0", cad=2), "sound0-codec0", "address"),
    "another ISA port": (changed("serial0", index=1), "serial0", "address"),
}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("q35")
    path = folder / "q35.yaml"
    path.write_text(yaml_from_tree(machine(MACHINES["q35"](), folder)))
    return path


def loads(words: Words, state: Path, folder: Path) -> bool:
    """What a QEMU with ``-incoming`` does: it takes the state, and the guest runs on; or it ends."""
    try:
        with started(prepared(words, "device"), directory=folder, more=["-incoming", "defer"]) as qemu:
            load_state(qemu, state)
            qemu.cont()
            return bool(qemu.execute("query-status")["status"] == "running")
    except QemuError:
        return False


@dataclass(frozen=True)
class Verified:
    """``mdtool verify``'s exit status and differences, what is foretold, and the state that it was foretold of."""

    status: int
    found: list[dict[str, Any]]
    refusal: Refusal | None
    state: Path


def verify(words: Words, description: Path, folder: Path, *, boot: bool = False) -> Verified:
    monitor, state, said = folder / "guest.qmp", folder / "state", io.StringIO()
    more = ["-qmp", f"unix:{monitor},server=on,wait=off"]
    tree = tree_from_file(description)
    with started(prepared(words, "device"), directory=folder, more=more) as qemu:
        if boot:
            ran(qemu.session)
            qemu.execute("stop")
        with redirect_stdout(said):
            status = main(["verify", str(description), str(monitor), "--json"])
        there, found, _ = verified(tree, qemu.session)
        save_state(qemu.session, state)
    foretold = refusal(target(tree), state, there, found, tree)
    return Verified(status, json.loads(said.getvalue())["differences"], foretold, state)


@pytest.mark.parametrize("name", Q35)
def test_a_seeded_fault_is_found_and_what_incoming_does_is_foretold(name: str, described: Path, tmp_path: Path) -> None:
    fault, node, prop = Q35[name]
    words = MACHINES["q35"]()
    other = fault(words)
    assert other != words
    said = verify(other, described, tmp_path)
    assert said.status == 1
    assert (node, prop) in [(one["node"], one["property"]) for one in said.found], said.found
    assert (said.refusal is None) is loads(words, said.state, tmp_path)
    if said.refusal is not None:
        assert (node, prop) in [(cause.node, cause.property) for cause in said.refusal.causes], str(said.refusal)


#: faults whose state loads after reset: whether it does after the firmware ran is another matter
QUIET = [
    "a NIC dropped",
    "a disk dropped",
    "a port dropped",
    "a disk on another port of the HBA",
    "another MAC",
    "another chassis",
    "no ROM BAR",
    "an ACPI index",
    "another queue size",
    "another CPU feature",
]


@pytest.mark.parametrize("name", QUIET)
def test_of_a_machine_that_ran_it_is_foretold_too(name: str, described: Path, tmp_path: Path) -> None:
    words = MACHINES["q35"]()
    said = verify(Q35[name][0](words), described, tmp_path, boot=True)
    assert (said.refusal is None) is loads(words, said.state, tmp_path), str(said.refusal)


@pytest.mark.parametrize("boot", [False, True], ids=["at reset", "booted"])
@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_same_machine_is_foretold_to_load_and_does(name: str, boot: bool, tmp_path: Path) -> None:
    words = MACHINES[name]()
    path = tmp_path / "guest.yaml"
    path.write_text(yaml_from_tree(machine(words, tmp_path)))
    said = verify(words, path, tmp_path, boot=boot)
    assert (said.status, said.found, said.refusal) == (0, [], None)
    assert loads(words, said.state, tmp_path)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_permuted_options_are_no_fault(name: str, tmp_path: Path) -> None:
    """The -device options of a machine in any order that QEMU takes (a carrier first) are the same machine."""
    words = MACHINES[name]()
    before = machine(words, tmp_path)
    choose = random.Random(7)
    for _ in range(3):
        places = [
            index for index in devices(words).values() if "root-port" not in words[index] and '"bus": "pci' in words[index]
        ]
        mixed = choose.sample(places, len(places))
        other = list(words)
        for place, index in zip(places, mixed, strict=True):
            other[place] = words[index]
        carriers = [index for index, word in enumerate(other) if re.search(r'"driver": "(virtio-s|.*[xu]hci)', word)]
        ordered = _carriers_first(other, carriers)
        assert guest_visible(compare(before, machine(ordered, tmp_path))) == []


def _carriers_first(words: Words, carriers: list[int]) -> Words:
    first = next(index for index, word in enumerate(words) if word == "-device" and "root-port" not in words[index + 1])
    moved = [part for index in carriers for part in ("-device", words[index])]
    rest = [(index, word) for index, word in enumerate(words) if index not in carriers and index + 1 not in carriers]
    return [w for i, w in rest if i < first] + moved + [w for i, w in rest if i >= first]
