"""Guests of a libvirt host described in a folder: their XML and their machines, and whether all of it is in step.

adopted(name, folder, connect)   describe one guest; nothing in the guest changes
status_of(name, folder, ...)     one guest of the folder, held against libvirt and against what runs
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from mdtool.apply.define import SHUT_OFF, differences
from mdtool.compare import comparison, guest_visible
from mdtool.errors import InputError, MdtoolError, Report
from mdtool.files import locked, write_file
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.model import Guest
from mdtool.machine.document import document_from_file
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.dump import dump
from mdtool.qemu.session import session_from_source
from mdtool.qemu.virsh import Virsh
from mdtool.reconcile import linked, reconcile, updated
from mdtool.reconcile.plan import Action, Plan
from mdtool.records import dataclass
from mdtool.review.plan import summary
from mdtool.sources import Access, tree_from_source

RUNS = ("running", "paused", "idle", "in shutdown", "pmsuspended")


class State(Enum):
    """How a guest of a folder stands; the value is what a person reads."""

    IN_STEP = "in step"
    EDITED = "XML edited, not reconciled"
    AHEAD = "not defined in libvirt yet"
    DRIFTED = "the running machine differs"
    POWER_CYCLE = "needs a power cycle"
    NOT_ADOPTED = "not adopted"
    GONE = "gone from libvirt"
    BROKEN = "cannot be read"


@dataclass(frozen=True, slots=True)
class Status:
    """One guest: how it stands, and in what it is not in step."""

    name: str
    state: State
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f": {'; '.join(self.details[:3])}" + (f" and {len(self.details) - 3} more" if len(self.details) > 3 else "")
        return f"{self.name:<24} {self.state.value}{more if self.details else ''}"

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"name": self.name, "state": self.state.name.lower().replace("_", "-"), "details": list(self.details)}


def files_of(name: str, folder: Path) -> tuple[Path, Path]:
    """Where the XML and the description of a guest are.  Raises InputError for a name that would leave the folder."""
    if "/" in name or name in (".", "..") or "\0" in name:
        raise InputError(f"{name!r} is no name for a file", rule="guest-name")
    return folder / f"{name}.xml", folder / f"{name}.yaml"


# --- adopting --------------------------------------------------------------------------------------------------------


def adopted(name: str, folder: Path, connect: str | None = None) -> str:
    """Write the XML that libvirt keeps of a guest and the description of its machine; what became of it, in a few words.

    A guest that runs is dumped, another one rehearsed.  A description that is there is updated in place, and XML that
    somebody edited and did not reconcile is left alone.  Secrets of the XML (a VNC password) stay with libvirt.
    """
    virsh = Virsh(connect)
    domain = virsh.named(name)
    xml_file, yaml_file = files_of(name, folder)
    xml = virsh.xml_for_file(domain)
    running = virsh.state(domain) in RUNS
    with locked(yaml_file):
        if _is_edited(xml_file, yaml_file):
            return "edited, left alone"
        guest = guest_from_bytes(xml.encode(), str(xml_file))
        tree = _machine(guest, xml, name, running=running, connect=connect)
        old = document_from_file(yaml_file) if yaml_file.exists() else None
        if old is not None:
            tree = updated(old.tree, tree)
        result = reconcile(guest, tree)
        if not result.plan:
            tree = result.tree
        text = rewritten(old, tree) if old is not None else yaml_from_tree(tree)
        before = [path.read_bytes() if path.exists() else b"" for path in (xml_file, yaml_file)]
        write_file(xml_file, xml)
        write_file(yaml_file, text)
    if result.plan:
        return f"{'dumped' if running else 'rehearsed'}; its next start changes it: {summary(result.plan)}"
    if before == [xml.encode(), text.encode()]:
        return "as it was"
    return "dumped" if running else "rehearsed"


def _machine(guest: Guest, xml: str, name: str, *, running: bool, connect: str | None) -> Tree:
    if not running:
        import tempfile

        with tempfile.NamedTemporaryFile("w", suffix=".xml", encoding="utf-8") as file:
            file.write(xml)
            file.flush()
            return tree_from_source(file.name)
    tree = tree_from_source(f"libvirt:{name}", Access(connect))
    report = Report()
    tree = linked(guest, tree, report)
    report.done()
    return tree


def _is_edited(xml_file: Path, yaml_file: Path) -> bool:
    if not (xml_file.exists() and yaml_file.exists()):
        return False
    guest = guest_from_bytes(xml_file.read_bytes(), str(xml_file))
    return bool(reconcile(guest, document_from_file(yaml_file).tree).plan)


# --- status ----------------------------------------------------------------------------------------------------------


def status_of(name: str, folder: Path, known: Sequence[str] | None, connect: str | None = None) -> Status:
    """How a guest stands; ``known`` are libvirt's guests, None where libvirt is not to be asked."""
    xml_file, yaml_file = files_of(name, folder)
    try:
        if not xml_file.exists() or not yaml_file.exists():
            missing = xml_file if not xml_file.exists() else yaml_file
            return Status(name, State.NOT_ADOPTED, () if known and name in known else (f"{missing} is not there",))
        tree = document_from_file(yaml_file).tree
        guest = guest_from_bytes(xml_file.read_bytes(), str(xml_file))
        if steps := _changes(reconcile(guest, tree).plan):
            return Status(name, State.EDITED, steps)
        if known is None:
            return Status(name, State.IN_STEP)
        if name not in known:
            return Status(name, State.GONE)
        return _against_libvirt(name, tree, Virsh(connect))
    except MdtoolError as error:
        return Status(name, State.BROKEN, (str(error).splitlines()[0],))


def _against_libvirt(name: str, tree: Tree, virsh: Virsh) -> Status:
    domain = virsh.named(name)
    if steps := differences(virsh.public_xml(domain), tree):
        return Status(name, State.AHEAD, tuple(steps))
    if virsh.state(domain) == SHUT_OFF:
        return Status(name, State.IN_STEP)
    with session_from_source(f"libvirt:{name}", connect=virsh.connect) as session:
        found = guest_visible(comparison(tree, dump(session))[0])
    if not found:
        return Status(name, State.IN_STEP)
    pending = differences(virsh("dumpxml", domain), tree)
    return Status(name, State.POWER_CYCLE if pending else State.DRIFTED, tuple(map(str, found)))


def _changes(plan: Plan) -> tuple[str, ...]:
    return tuple(f"{step.action.value} {step.name}" for step in plan.steps if step.action is not Action.KEEP)


def names_in(folder: Path) -> list[str]:
    """The guests of a folder: its guest XML and its descriptions, by name."""
    found = {path.stem for path in folder.glob("*.yaml")} | {path.stem for path in folder.glob("*.xml")}
    return sorted(name for name in found if not name.startswith("."))


def guests_of(virsh: Virsh) -> list[str]:
    """All guests that libvirt has, running or not."""
    return sorted(line for line in virsh("list", "--all", "--name").split("\n") if line.strip())
