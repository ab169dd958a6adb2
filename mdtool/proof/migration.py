"""Whether a machine's state loads into the described machine: by trying it, and saying whose fault it is where not.

QEMU is the judge.  It names a RAM block or a section by the device's PCI path (``0000:00:02.2:00.0/virtio-net-pci.rom``),
and that path is the way to a node.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option, options_from_words
from mdtool.compare import Difference, ways
from mdtool.errors import MdtoolError, QemuError
from mdtool.launch.device import handover
from mdtool.launch.prepare import Prepared
from mdtool.launch.rehearse import rehearsal
from mdtool.machine.tree import Tree
from mdtool.proof.standalone import argv_from_description, binary_of
from mdtool.qemu.process import QemuProcess
from mdtool.qemu.session import Refused, Session
from mdtool.records import dataclass
from mdtool.text import pattern

SECONDS = 120.0
#: run states in which a guest does not move, so that its state can be taken without harm
PAUSED = frozenset({"prelaunch", "paused", "inmigrate", "shutdown"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the state does not load: QEMU's words, the node that they are about, and what is other about it."""

    words: str
    node: str | None = None
    causes: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        text = f"the state does not load: {self.words}"
        if self.node is not None:
            text += f"\n  QEMU speaks of {self.node}"
        return text + "".join(f"\n  {cause}" for cause in self.causes)

    def data(self) -> dict[str, Any]:
        return {"loads": False, "words": self.words, "node": self.node, "causes": [cause.data() for cause in self.causes]}


def save_state(session: Session, path: Path, *, stop: bool = False) -> None:
    """Write a paused machine's state to a file; a running one is stopped first where ``stop`` allows it, else refused.

    The machine is as before, but for the run state: QEMU calls it ``postmigrate``, and ``cont`` takes it from there.
    Until then QEMU gives the state to no other client.
    """
    status = session.execute("query-status")["status"]
    if status == "postmigrate":
        raise MdtoolError(
            f"{session.source}: the state of this paused guest was taken already, and QEMU gives it once",
            remedy="let it run for a moment (cont, stop)",
            rule="guest-migrated",
        )
    if status not in PAUSED:
        if not stop:
            raise MdtoolError(
                f"{session.source}: the guest runs, and to take its state it has to be stopped for a moment",
                remedy="pause it, or allow it with --stop",
                rule="guest-runs",
            )
        session.execute("stop")
    try:
        with _received(path) as uri:
            session.execute("migrate", {"uri": uri})
            wait_until(session, "query-migrate", "completed")
    finally:
        if status not in PAUSED:
            session.execute("cont")


@contextmanager
def _received(path: Path) -> Iterator[str]:
    """A migration URI whose state arrives in ``path``: a socket, since a sandbox ends a QEMU that would run a program."""
    with tempfile.TemporaryDirectory(prefix="mdtool-") as folder, socket.socket(socket.AF_UNIX) as listener:
        os.chmod(folder, 0o711)  # QEMU may run as another user
        address = f"{folder}/state"
        listener.bind(address)
        os.chmod(address, 0o666)
        listener.listen(1)
        listener.settimeout(SECONDS)

        def receive() -> None:
            with suppress(OSError), open(path, "wb") as state, listener.accept()[0].makefile("rb") as stream:
                shutil.copyfileobj(stream, state)

        reader = threading.Thread(target=receive, daemon=True)
        reader.start()
        try:
            yield f"unix:{address}"
        finally:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as nobody:
                nobody.connect(address)  # if QEMU did not connect, the reader still waits for a client
            reader.join(SECONDS)


def wait_until(session: Session, command: str, status: str, seconds: float = SECONDS) -> None:
    """Wait for ``command`` to say ``status``; raises QemuError where it says that it failed, or does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = session.execute(command)
        if answer.get("status") == status:
            return
        if answer.get("status") == "failed":
            raise QemuError(f"{command}: {answer.get('error-desc', 'failed')}", rule="migration")
        time.sleep(0.02)
    raise QemuError(f"{command}: no '{status}' within {seconds:g} s", rule="migration")


def load_state(qemu: QemuProcess, path: Path) -> None:
    """Load a state into a QEMU that was started with ``-incoming defer``; raises QemuError with its words."""
    qemu.execute("migrate-incoming", uri=f"exec:cat '{path}'")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        answer: Any = qemu.execute("query-status")
        if answer["status"] != "inmigrate":
            return
        time.sleep(0.02)
    raise QemuError(f"the state was not loaded within {SECONDS:g} s", rule="migration")


def target(tree: Tree, binary: str | None = None) -> Prepared:
    """The described machine with nothing of a host behind it, from its description alone."""
    line = argv_from_description(tree, binary=binary or binary_of(tree))
    options = tuple(_with_user_network(option) for option in options_from_words(line.argv[1:]))
    return Prepared(
        tree, line.argv[0], options, handover(options), substitutes=frozenset({*line.substitutes, *line.left_out})
    )


def _with_user_network(option: Option) -> Option:
    """-netdev user has a section of its own in the state, one more thing that the target has to have."""
    if option.name != "netdev" or option.id is None:
        return option
    return option.with_bag({"type": "user", "id": option.id, "restrict": True})


def foretold(
    description: Tree,
    session: Session,
    machine: Tree,
    differences: Sequence[Difference] = (),
    *,
    stop: bool = False,
    binary: str | None = None,
) -> Refusal | None:
    """Will the state of the machine behind ``session`` load into the described one?  None where it will.

    ``machine`` is its dump, and ``differences`` are what it has otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="mdtool-") as folder:
        state = Path(folder) / "state"
        try:
            save_state(session, state, stop=stop)
        except (Refused, QemuError) as error:  # a device that cannot migrate at all
            return Refusal(error.what, blamed(error.what, machine))
        return refusal(target(description, binary), state, machine, differences, description)


def refusal(
    prepared: Prepared,
    state: Path,
    source: Tree,
    differences: Sequence[Difference] = (),
    description: Tree | None = None,
) -> Refusal | None:
    """Load ``state`` into a rehearsal of the described machine; None where it loads.

    ``source`` is the tree of the machine that the state is of, ``differences`` what it has otherwise.
    """
    try:
        with rehearsal(prepared, more=["-incoming", "defer"]) as qemu:
            load_state(qemu, state)
    except QemuError as error:
        words = error.what.removeprefix("QEMU refused to start: ").splitlines()
        node = blamed(error.what, source) or blamed(error.what, description or source)
        return Refusal("; ".join(words), node, _causes(node, differences, (source, description or source)))
    return None


def _causes(node: str | None, differences: Sequence[Difference], trees: Sequence[Tree]) -> tuple[Difference, ...]:
    """Of the differences those of the node; of what is behind it (a controller has its ports in its own state); all."""
    behind = {below for tree in trees for below in _behind(tree, node)}
    own = [one for one in differences if one.node == node]
    return tuple(own or [one for one in differences if one.node in behind] or differences)


def _behind(tree: Tree, name: str | None) -> Iterator[str]:
    listed = ways(tree)
    if name in listed:
        yield from (other for other, way in listed.items() if way[: len(listed[name])] == listed[name])


_PCI_PATH = pattern(
    r"\b[0-9a-f]{4}:[0-9a-f]{2}:(?P<rest>[0-9a-f]{2}\.[0-7](?::[0-9a-f]{2}\.[0-7])*)/(?:(?P<on>[0-9.:]+)/)?"
)
_BLOCK = pattern(r"(?:ramblock \"|Size mismatch: |Length mismatch: )(?P<name>[^\":]+)")
_SECTION = pattern(r"savevm section or instance '(?P<name>[^'/]+)'")
_MACHINE = pattern(r"Machine type received|Received SMBIOS|target page bits")
#: what a section that has no path is about: a section of the description
_SECTIONS = {"cpu_common": "cpu", "cpu": "cpu", "apic": "cpu", "spapr_cpu": "cpu"}
#: and the driver of the only devices that have such a one
_DRIVERS = {"serial": "isa-serial", "parallel_isa": "isa-parallel", "fdc": "isa-fdc", "hpet": "hpet", "pvpanic": "pvpanic"}


def blamed(words: str, tree: Tree) -> str | None:
    """The node, or the section of the description, that QEMU's words are about; None where they name none.

    >>> from mdtool.machine.tree import Bus, Node
    >>> tree = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="03.0"),)),))
    >>> blamed("Unknown savevm section or instance '0000:00:03.0/e1000' 0", tree)
    'net0'
    >>> blamed("Unknown savevm section or instance 'cpu_common' 1", tree)
    'cpu'
    """
    if found := _PCI_PATH.search(words):
        return _at_path(found["rest"].split(":"), found["on"], tree)
    if _MACHINE.search(words):
        return "machine"
    if found := _BLOCK.search(words):
        behind = found["name"].removeprefix("mem").removeprefix("shm")  # libvirt's ids: memdimm0 is behind dimm0
        return behind if behind in tree.by_name else "numa" if found["name"].startswith("ram-node") else "memory"
    if found := _SECTION.search(words):
        driver = _DRIVERS.get(found["name"])
        nodes = [place.name for place in tree.places if place.node.driver == driver]
        return _SECTIONS.get(found["name"]) or (nodes[0] if len(nodes) == 1 else None)
    return None


def _at_path(addresses: list[str], on: str | None, tree: Tree) -> str | None:
    """The node at a PCI path, or what is at ``on`` of its bus: ``0:0:5`` of a SCSI bus, ``3`` of a USB one."""
    by_way = {way: name for name, way in ways(tree).items()}
    for way, name in by_way.items():
        if way[0] in ("pci.0", "pcie.0", "pci") and list(way[2::2]) == addresses:
            return by_way.get((*way, "0", on or ""), name)
    return None
