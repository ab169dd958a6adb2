"""What no monitor command reports, from the arguments that a running QEMU was started with.

    tree = completed(dump(session), session, warn)

A monitor reports no SMBIOS strings, fw_cfg entries, NUMA distances or chosen CPU features; the
process's own command line, and the files for -readconfig that it names, do.  Only a dump adds them, and never a
comparison: another monitor of the same machine may be one whose process is out of sight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mdtool.commandline.option import Option
from mdtool.commandline.process import options_from_process, sha256_of
from mdtool.commandline.sections import Section, sections_from_commandline
from mdtool.errors import MdtoolError, Warned
from mdtool.machine.roles import REMEDY, credentials
from mdtool.machine.tree import SOURCES, Tree
from mdtool.machine.values import ranges
from mdtool.qemu.dump import NO_UUID, over
from mdtool.qemu.session import Session
from mdtool.records import replace

if TYPE_CHECKING:
    from mdtool.guest.model import Guest

_WHAT = "SMBIOS, fw_cfg, NUMA distances and chosen CPU features, which a monitor does not tell, are left out"


def completed(tree: Tree, session: Session, warn: Warned) -> Tree:
    """The dump of a session with what its process's arguments add; unchanged, with a warning, if they cannot be read."""
    if session.pid is None:
        warn(f"{session.source}: {_WHAT}: its process is not known here (pid:N names it)")
        return tree
    try:
        options = options_from_process(session.pid, warn)
        if _uuid(options) != tree.guest.get("uuid"):  # libvirt's note of a process is old, or of another host's guest
            raise LookupError("it is another guest's")
        sections = sections_from_commandline(options, lambda path: sha256_of(session.pid, path))
    except (OSError, LookupError, ValueError, MdtoolError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        warn(f"{session.source}: {_WHAT}: the arguments of process {session.pid} cannot be read: {why}")
        return tree
    found = replace(with_sections(tree, sections), source=SOURCES)
    for _, _, what in credentials(found):
        warn(f"{session.source}: {what}; {REMEDY}")
    return found


def _uuid(options: Iterable[Option]) -> str | None:
    recorded = [option.value if option.name == "uuid" else option.bag.get("uuid") for option in options
            if option.name == "uuid" or (option.name == "smbios" and option.bag.get("type") == "1")]  # fmt: skip
    recorded = [text.lower() for text in recorded if text]
    return recorded[-1] if recorded and recorded[-1] != NO_UUID else None


def firmware_of(guest: Guest, tree: Tree) -> dict[str, Section]:
    """What the firmware that a guest XML names holds, by its hash; a rehearsal runs none."""
    from mdtool.guest.platform.firmware import loader_of  # and all there is to know of guest XML with it

    loader = loader_of(guest, secure=bool(tree.firmware.get("secure")), rehearse=True)
    if loader is None or loader.formats[0] != "raw" or not (hash := sha256_of(None, loader.code)):
        return {}
    return {"firmware": {"sha256": hash}}


def with_sections(tree: Tree, recorded: Mapping[str, Section]) -> Tree:
    """The tree with what its command line says; NUMA nodes are known by their numbers."""
    sections: dict[str, Any] = {name: over(getattr(tree, name), recorded[name]) for name in recorded if name != "numa"}
    if properties := sections.get("machine", {}).get("properties"):
        sections["machine"]["properties"] = as_reported(properties, tree)
    if numa := _numa(tree, recorded.get("numa", {})):
        sections["numa"] = numa
    return replace(tree, **sections)


def as_reported(properties: Section, tree: Tree) -> Section:
    """Machine properties, sorted: a number as the board has it, which may have made another of it (sifive_u's msel)."""
    pins = tree.machine_pins
    return {name: pins[name] if type(pins.get(name)) is int and str(value).isdecimal() else value
            for name, value in sorted(properties.items())}  # fmt: skip


#: the keys of a NUMA node in their order
_NODE = ("id", "cpus", "memory", "memdev", "links", "caches", "initiator")


def _numa(tree: Tree, recorded: Section) -> Section:
    rows: dict[int, Section] = {}
    for row in recorded.get("nodes", ()):
        number = row.get("id", len(rows))
        known = rows.get(number, {"id": number})
        lists = {key: [*known.get(key, ()), *row[key]] for key in ("links", "caches") if key in row}
        rows[number] = {**known, **row, **lists}
    for row in rows.values():
        behind = tree.objects.get(str(row.get("memdev")))
        row |= {"memory": behind["size"]} if behind is not None else {}
    nodes: Any = tree.numa.get("nodes", ())
    shown: dict[int, Section] = {node["id"]: node for node in nodes}
    if rows and not shown:  # all CPUs are on the first node, and a monitor reports no other one
        count: Any = tree.cpu.get("maxcpus", tree.cpu.get("vcpus", 1))
        shown[0] = {"id": 0, "cpus": ranges(range(count))}
    nodes = [_ordered({**rows.get(one, {}), **_filled(shown.get(one, {}))}) for one in sorted({*rows, *shown})]
    distances = {"distances": recorded["distances"]} if "distances" in recorded else {}
    return {**tree.numa, **({"nodes": nodes} if nodes else {}), **distances}


def _filled(node: Mapping[str, Any]) -> Section:
    """A node as QEMU reported it; how much memory ``-numa node,mem=`` gave it QEMU does not report."""
    return {key: value for key, value in node.items() if key != "memory" or value}


def _ordered(node: Mapping[str, Any]) -> Section:
    node = {"memory": 0, **node}
    return {key: node[key] for key in _NODE if key in node}
