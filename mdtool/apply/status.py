"""How the guests of a folder stand: files, libvirt and the machine that runs, held against each other.

found = statuses(folder, names, held)     in the order of ``names``

A guest that was in step and whose texts are the same bytes still is: that is kept in the cache (the machine that runs is
asked each time).  libvirt is asked once for all guests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any

from mdtool.cache import known_hash, remember_hash
from mdtool.errors import InputError, MdtoolError
from mdtool.pool import each
from mdtool.qemu.virsh import RUNS, Held, Virsh
from mdtool.records import NamedTuple


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


class Status(NamedTuple):
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
        raise InputError(f"{name!r} is not a valid file name", rule="guest-name")
    return folder / f"{name}.xml", folder / f"{name}.yaml"


def names_in(folder: Path) -> list[str]:
    """The guests of a folder: its guest XML and its descriptions, by name."""
    found = {path.stem for path in folder.glob("*.yaml")} | {path.stem for path in folder.glob("*.xml")}
    return sorted(name for name in found if not name.startswith("."))


def statuses(folder: Path, names: Sequence[str], held: Mapping[str, Held] | None, virsh: Virsh) -> list[Status]:
    """How each guest stands; ``held`` is what libvirt has (``Virsh.held``), None where it is not to be asked."""
    found = {name: status for name in names if (status := _unchanged(name, folder, held)) is not None}
    rest = [(name, held and _only(held, name)) for name in names if name not in found]

    def lost(one: tuple[str, Mapping[str, Held] | None]) -> Status:
        return Status(one[0], State.BROKEN, ("the process that looked at it ended",))

    found |= {status.name: status for status in each(partial(_looked_at, folder, virsh), rest, lost)}
    return [found[name] for name in names]


def _looked_at(folder: Path, virsh: Virsh, one: tuple[str, Mapping[str, Held] | None]) -> Status:
    return status_of(one[0], folder, one[1], virsh)


def _only(held: Mapping[str, Held], name: str) -> dict[str, Held]:
    return {name: held[name]} if name in held else {}


def _unchanged(name: str, folder: Path, held: Mapping[str, Held] | None) -> Status | None:
    """In step, where it was and nothing changed; None where one has to look."""
    try:
        if held is not None and (name not in held or held[name].state in RUNS):
            return None
        return Status(name, State.IN_STEP) if known_hash(_mark(name, folder, held)) else None
    except (MdtoolError, OSError):
        return None


def status_of(name: str, folder: Path, held: Mapping[str, Held] | None, virsh: Virsh) -> Status:
    """How a guest stands; ``held`` is None where libvirt is not to be asked."""
    try:
        xml_file, yaml_file = files_of(name, folder)
        missing = [str(path) for path in (xml_file, yaml_file) if not path.exists()]
        if missing:
            return Status(name, State.NOT_ADOPTED, () if held and name in held else (f"{missing[0]} is not there",))
        if held is not None and name not in held:
            texts = _texts_in_step(name, folder, None)
            return texts if texts.state is not State.IN_STEP else Status(name, State.GONE)
        found = _texts_in_step(name, folder, held)
        if found.state is State.IN_STEP and held is not None and held[name].state in RUNS:
            return _running(name, yaml_file, held[name], virsh)
        return found
    except MdtoolError as error:
        return Status(name, State.BROKEN, (str(error).splitlines()[0],))


def _texts_in_step(name: str, folder: Path, held: Mapping[str, Held] | None) -> Status:
    """Whether XML, description and what libvirt keeps are one guest."""
    mark = _mark(name, folder, held)
    if not known_hash(mark):
        from mdtool.apply.define import differences, steps_between, undefined
        from mdtool.guest.devices import guest_from_bytes
        from mdtool.machine.document import document_from_file

        xml_file, yaml_file = files_of(name, folder)
        tree, xml = document_from_file(yaml_file).tree, xml_file.read_bytes()
        guest = guest_from_bytes(xml, str(xml_file))
        if steps := steps_between(guest, tree):
            return Status(name, State.EDITED, tuple(steps))
        if held is not None and (more := differences(held[name].kept, tree) or undefined(guest, tree, held[name].kept)):
            return Status(name, State.AHEAD, tuple(more))
        remember_hash(mark)
        remember_hash(written_mark(xml))
    return Status(name, State.IN_STEP)


def _running(name: str, yaml_file: Path, held: Held, virsh: Virsh) -> Status:
    from mdtool.compare import comparison, guest_visible
    from mdtool.machine.document import document_from_file
    from mdtool.qemu.dump import dump
    from mdtool.qemu.session import session_from_source

    tree = document_from_file(yaml_file).tree
    with session_from_source(f"libvirt:{name}", connect=virsh.connect) as session:
        found = guest_visible(comparison(tree, dump(session))[0])
    if not found:
        return Status(name, State.IN_STEP)
    from mdtool.apply.define import differences

    pending = differences(held.live, tree)
    return Status(name, State.POWER_CYCLE if pending else State.DRIFTED, tuple(map(str, found)))


def written_mark(xml: bytes) -> str:
    """What guest XML is known by that was in step with libvirt: nobody edited it since."""
    return "written-" + hashlib.sha256(xml).hexdigest()


def _mark(name: str, folder: Path, held: Mapping[str, Held] | None) -> str:
    """What the texts of a guest, and the mdtool that looked at them, are known by."""
    texts = [path.read_bytes() for path in files_of(name, folder)]
    texts.append(held[name].kept.encode() if held is not None else b"")
    parts = (_program(), *(hashlib.sha256(text).hexdigest() for text in texts))
    return "status-" + hashlib.sha256(" ".join(parts).encode()).hexdigest()


@cache
def _program() -> str:
    """Which mdtool this is: another one may find something else."""
    modules = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return hashlib.sha256(repr([(str(path), path.stat().st_mtime_ns) for path in modules]).encode()).hexdigest()
