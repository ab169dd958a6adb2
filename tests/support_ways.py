"""A guest XML of twenty and more devices, launched in each of the six ways, and its state moved between them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mdtool.guest.devices import guest_from_file
from mdtool.guest.model import Guest
from mdtool.launch.context import LaunchContext
from mdtool.launch.hints import hints_from_tree, tree_from_hints
from mdtool.launch.libvirt import NAMESPACE, launched_by_libvirt, manual_overrides, xml_for_libvirt
from mdtool.launch.prepare import Prepared, prepared, wanted_by
from mdtool.launch.run import Settings
from mdtool.launch.start import started
from mdtool.launch.ways import WAYS
from mdtool.machine.tree import Tree
from mdtool.qemu.session import Session, session_from_source
from mdtool.qemu.virsh import Virsh
from mdtool.reconcile import reconcile
from tests.support_waiting import until

GUESTS = {path.stem: path for path in sorted((Path(__file__).parent / "qemu" / "ways").glob("*.xml"))}
DIRECT = tuple(name for name, way in WAYS.items() if not way.by_libvirt)
ALL = tuple(WAYS)

Execute = Callable[..., Any]


@dataclass(frozen=True)
class Machine:
    """A paused machine: its session, and how to give it a command so that a QEMU that dies says why."""

    session: Session
    execute: Execute

    def ram(self) -> list[str]:
        """Names and sizes of its RAM blocks, by which a migration stream finds them."""
        lines = self.session.hmp("info ramblock").splitlines()[1:]
        return sorted(" ".join((name, used)) for name, _page, _unit, _offset, used, *_ in map(str.split, lines))

    def pci(self) -> Any:
        """query-pci without ids, which no guest sees: ``-net nic`` gives none, and libvirt others."""
        return _without_ids(self.execute("query-pci"))

    def load(self, state: Path) -> None:
        """Give a state to a machine that waits for one.  By a socket, since libvirt's QEMU may run no program."""
        with socket.socket(socket.AF_UNIX) as stream:
            where = state.with_name(f"{uuid.uuid4().hex[:6]}.in")
            self.execute("migrate-incoming", uri=f"unix:{where}")
            stream.connect(str(where))
            with suppress(OSError):  # QEMU refuses what it has read so far: it says so, and ends
                stream.sendall(state.read_bytes())
        until(lambda: self.execute("query-status")["status"] != "inmigrate", told=lambda: "the state was not loaded")


def _without_ids(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: _without_ids(value) for key, value in answer.items() if key != "qdev_id"}
    return [_without_ids(item) for item in answer] if isinstance(answer, list) else answer


@dataclass(frozen=True)
class Ways:
    """A guest XML whose disks are there, under a name of its own, and the description made of it.

    ``fresh`` is the XML in another order and without addresses, which is what hints are applied over.
    """

    guest: Guest
    fresh: Guest
    tree: Tree
    folder: Path

    @classmethod
    def of(cls, xml: Path, folder: Path) -> Self:
        text = (
            xml.read_text().replace("<name>ways<", f"<name>mdtool-{uuid.uuid4().hex[:8]}<").replace("/disks/", f"{folder}/")
        )
        for name in re.findall(rf"<source file='{folder}/(.)'/>", text):
            with (folder / name).open("wb") as file:
                file.truncate(1440 << 10)
        path, fresh = folder / "guest.xml", folder / "fresh.xml"
        path.write_text(text)
        fresh.write_text(_reordered(text))
        guest = guest_from_file(path)
        return cls(guest, guest_from_file(fresh), reconcile(guest, None).tree, folder)

    def prepared(self, via: str, *, tree: Tree | None = None, binary: str | None = None) -> Prepared:
        """The launch in one of the direct ways, with the guest's own host side."""
        guest, described = self.guest, tree or self.tree
        if WAYS[via].hints:
            hints = self.folder / "hints"
            hints.write_text(hints_from_tree(described))
            guest = self.fresh
            described = reconcile(guest, tree_from_hints(hints)).tree
        return prepared(
            guest,
            described,
            wanted_by(guest, described),
            via=via,
            context=LaunchContext(runtime=self.folder, binary=binary),
        )

    @contextmanager
    def paused(self, via: str, *, incoming: bool = False, **settings: Any) -> Iterator[Machine]:
        """The machine before its first instruction, launched in one of the six ways; ``incoming`` waits for a state."""
        if WAYS[via].by_libvirt:
            with self._of_libvirt(incoming) as machine:
                yield machine
            return
        more = ["-incoming", "defer"] if incoming else []
        with started(self.prepared(via, **settings), directory=self.folder, more=more) as qemu:
            yield Machine(qemu.session, qemu.execute)

    @contextmanager
    def _of_libvirt(self, incoming: bool) -> Iterator[Machine]:
        name, wanted = self.guest.name, wanted_by(self.guest, self.tree)
        try:
            if incoming:
                source = Path(self.guest.file).read_bytes()
                text = xml_for_libvirt(source, self.guest, self.tree, wanted, manual_overrides(self.tree, wanted))
                name += f"-{uuid.uuid4().hex[:4]}"
                Virsh()("create", "--paused", str(self._waiting(name, text)))
            else:
                launched_by_libvirt(self.guest, self.tree, wanted, settings=Settings(paused=True))
            with session_from_source(f"libvirt:{name}") as session:
                yield Machine(session, lambda command, **arguments: session.execute(command, arguments or None))
        finally:
            for words in (("destroy", name), ("undefine", name)):
                subprocess.run(["virsh", "-q", *words], capture_output=True, check=False)

    def _waiting(self, name: str, text: str) -> Path:
        """The XML of a guest that waits for a state; with disks and a uuid of its own, so that several may wait at once."""
        own = self.folder / name
        own.mkdir()
        own.chmod(0o777)
        for disk in (path for path in self.folder.iterdir() if len(path.name) == 1):
            shutil.copyfile(disk, own / disk.name)
        text = text.replace(f"{self.folder}/", f"{own}/").replace(f"<name>{self.guest.name}<", f"<name>{name}<")
        text = text.replace(str(self.guest.uuid), str(uuid.uuid4()))
        waits = "".join(f"<q:arg value='{word}'/>" for word in ("-incoming", "defer"))
        path = own / "guest.xml"
        path.write_text(text.replace("</domain>", f"<q:commandline xmlns:q='{NAMESPACE}'>{waits}</q:commandline></domain>"))
        return path


def _reordered(text: str) -> str:
    """The XML without addresses, disks and NICs the other way round; what is known by its turn alone keeps it."""
    head, devices, tail = re.split(r"(?<=<devices>\n)|(?=  </devices>)", text)
    elements = re.split(r"^(?=    <\w)", devices, flags=re.MULTILINE)[1:]
    named = [element.startswith(("    <disk", "    <interface")) for element in elements]
    turned = iter([element for element, turns in zip(elements, named, strict=True) if turns][::-1])
    mixed = [next(turned) if turns else element for element, turns in zip(elements, named, strict=True)]
    return head + re.sub(r"\n *<address[^>]*/>", "", "".join(mixed)) + tail
