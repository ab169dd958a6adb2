"""``--via hints``: an opaque file with addresses only, applied over fresh guest XML (Solution 5 of 2009).

    {"mdtool": "hints/1", "machine": {"type": "pc-q35-7.2", "arch": "x86_64"},
     "hints": [{"origin": "interface/52:54:00:11:22:33", "driver": "virtio-net-pci", "id": "net0",
                "bus": "pci.1", "address": "00.0"}, ...]}

For those who make fresh XML without addresses at every start and keep a blob beside it.  There is no configuration in
it: a hint for a device that is gone is ignored, and a device without a hint gets a place that no hint holds.  Addresses
that are kept for devices that were removed stand under ``retired``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.compare import compare
from mdtool.errors import ConflictError, InputError, MdtoolError, MonitorError, Position, Report
from mdtool.files import text_from_file
from mdtool.machine.buses.kinds import bus_of_the_machine
from mdtool.machine.document import HINTS, check_kind
from mdtool.machine.machines import is_other_board, is_version
from mdtool.machine.tree import BUILTIN, MANUAL, Bus, Node, Place, Retired, Tree
from mdtool.machine.writer import data_from_retired
from mdtool.records import replace

if TYPE_CHECKING:
    from mdtool.guest.model import Guest
    from mdtool.qemu.process import QemuProcess
    from mdtool.qemu.session import Session

FORMAT = "hints/1"
_NUMBERS = ("bus_nr", "chassis", "chassis_nr", "multifunction", "port")
IMPLIED = "@implied"  # in a node's applied: no XML element asked for it, so none has to keep it


def hints_from_tree(tree: Tree) -> str:
    """The hints of a description, as the text of their file."""
    return _text(tree, [place for place in tree.places if place.node.origin not in (None, BUILTIN, MANUAL)])


def hints_of_machine(described: Tree, machine: Tree) -> tuple[str, list[str]]:
    """The hints of a machine that is no longer as it was launched, and the devices whose element is unknown.

    ``machine`` is its dump, linked to the XML as far as that has its devices.  What is still there is hinted as it was
    described; a NIC that came is known by its MAC, and anything else once the XML has it.
    """
    found = compare(described, machine)
    gone = {one.node for one in found if one.property == "" and one.have is None}
    came = {one.node for one in found if one.property == "" and one.want is None}
    moved = {one.node: described.by_name[one.node].node.origin for one in found if one.property == "address"}
    stayed = [place for place in described.places if place.name not in gone and place.name not in moved]
    new = [place._replace(node=replace(place.node, origin=moved.get(place.name) or _origin(place.node)))
           for place in machine.places if place.name in came or place.name in moved]  # fmt: skip
    hinted = [place for place in (*stayed, *new) if place.node.origin not in (None, BUILTIN, MANUAL)]
    unknown = [place.name for place in new if place.node.origin is None]
    return _text(described, hinted), unknown


def _origin(node: Node) -> str | None:
    mac = node.properties.get("mac") or node.pins.get("mac")
    return node.origin or (f"interface/{mac}" if mac else None)


def _text(tree: Tree, places: Sequence[Place]) -> str:
    rows = [_hint(place) for place in places]
    head = json.dumps({key: tree.machine[key] for key in ("type", "arch") if key in tree.machine})
    lines = ",\n ".join(json.dumps(row) for row in rows)
    kept = ",\n ".join(json.dumps(data_from_retired(retired)) for retired in tree.retired)
    retired = f',\n "retired": [\n {kept}]' if kept else ""
    return f'{{"mdtool": "{FORMAT}", "machine": {head}, "hints": [\n {lines}]{retired}}}\n'


def _hint(place: Place) -> dict[str, Any]:
    node = place.node
    row: dict[str, Any] = {"origin": node.origin, "driver": node.driver, "id": node.id}
    row |= {"bus": place.bus.name if place.bus else None, "address": node.address}
    row |= {"buses": {bus.name: bus.type for bus in node.buses}} if node.buses else {}
    if node.applied.get(IMPLIED):
        # A port's numbers are its address in a hotplug slot's terms, and no XML element says them again.
        row |= {"implied": {name: node.properties[name] for name in _NUMBERS if name in node.properties}}
    return {key: value for key, value in row.items() if value is not None}


def tree_from_hints(path: str | Path) -> Tree:
    """A description that knows addresses and nothing else, for ``reconcile`` to fill from the XML.

    Raises InputError if the file is no hints file, or is of a later version.
    """
    return hints_from_text(text_from_file(path), str(path))


def hints_from_text(text: str, file: str) -> Tree:
    """The same of a text, as an annotation holds it; ``file`` is for errors."""
    check_kind(text, file, HINTS)
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()  # half a character is no text
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        what = f"not a hints file: {getattr(error, 'msg', 'nested too deeply')}"
        raise InputError(what, at=Position(file, line, column), rule="hints-syntax") from None
    if not isinstance(data, dict) or data.get("mdtool") != FORMAT:
        at, expected = Position(file, 1), f'"mdtool": "{FORMAT}"'
        raise InputError("not a hints file of this version", at=at, expected=expected, rule="hints-syntax")
    from mdtool.machine.schema import validate_hints

    validate_hints(data, text, file)
    tree = _tree(data.get("machine", {}), data["hints"])
    return replace(tree, retired=tuple(Retired(**row) for row in data.get("retired", ())))


def fitted(hints: Tree, guest: Guest) -> Tree:
    """Hints for a guest whose XML names another version of their machine type: its board has the same places.

    Raises ConflictError for another board.
    """
    described, named = str(hints.machine.get("type")), guest.machine
    if is_other_board(named, described, guest.arch):
        raise ConflictError(
            f"the XML wants machine type {named}, the hints are of {described}",
            at=guest.domain.at("os/type"),
            remedy="remove the hints, and every device gets a new place; or change the XML back",
            rule="machine-type",
        )
    return replace(hints, machine={**hints.machine, "type": named}) if is_version(named) else hints


def _tree(machine: Mapping[str, Any], rows: list[dict[str, Any]]) -> Tree:
    on: dict[str | None, list[dict[str, Any]]] = {}
    provided = {name for row in rows for name in row.get("buses", {})}
    for row in rows:
        on.setdefault(row.get("bus"), []).append(row)

    def bus(name: str, kind: str) -> Bus:
        return Bus(name, kind, tuple(node(row) for row in on.pop(name, [])))

    def node(row: dict[str, Any]) -> Node:
        numbers = dict(row.get("implied", {}))
        applied = {IMPLIED: True, **numbers} if "implied" in row else {}
        made = Node(row["driver"], row.get("id"), row.get("address"), row["origin"], numbers, applied=applied)
        return replace(made, buses=tuple(bus(name, str(kind)) for name, kind in row.get("buses", {}).items()))

    loose = tuple(node(row) for row in on.pop(None, []))
    tops = [name for name in on if name not in provided and name is not None]
    buses = tuple(replace(bus_of_the_machine(name), devices=bus(name, "").devices) for name in tops)
    return Tree(machine=dict(machine), buses=buses, devices=loose)


# --- as long as the guest runs --------------------------------------------------------------------------------------

#: how often QEMU is asked what is plugged in: it reports a device that went, and none that came (7.2 and 11.1)
ASK_SECONDS = 1.0


def exported_while_it_runs(
    qemu: QemuProcess, guest: Path, described: Tree, write: Callable[[str], None], say: Callable[[str], None]
) -> None:
    """Write the hints again whenever a device came or went, until QEMU ends.

    ``guest`` is the XML file, read again each time: a plugged device gets its element there, sooner or later.
    What cannot be written is reported; the guest runs on.
    """
    known = _seen(qemu.session, guest)
    unknown: list[str] = []
    while not qemu.ends_within(ASK_SECONDS):
        try:
            went = any(event["event"] == "DEVICE_DELETED" for event in qemu.session.events())
            now = _seen(qemu.session, guest)
            if went or now[0] != known[0] or (unknown and now != known):
                unknown = _export(qemu.session, guest, described, write, say, unknown)
            known = now
        except MonitorError as error:
            if qemu.process.poll() is None:
                say(f"warning: hints will no longer be updated: {error.what}")
            return


def _seen(session: Session, guest: Path) -> tuple[list[Any], int]:
    """What is plugged in, by id and type, and the time of the XML: one command, a millisecond."""
    plugged = session.execute("qom-list", {"path": "/machine/peripheral"})
    try:
        return plugged, guest.stat().st_mtime_ns
    except OSError:
        return plugged, 0


def _export(
    session: Session,
    path: Path,
    described: Tree,
    write: Callable[[str], None],
    say: Callable[[str], None],
    before: list[str],
) -> list[str]:
    from mdtool.guest.devices import guest_from_file
    from mdtool.qemu.dump import dump
    from mdtool.reconcile import linked

    machine = dump(session)
    try:
        machine = linked(guest_from_file(path), machine, Report())
    except MdtoolError as error:
        say(f"warning: {path} was not read for the hints: {error.what}")
    text, unknown = hints_of_machine(described, machine)
    try:
        write(text)
    except MdtoolError as error:
        say(f"warning: {error.what}")
    if new := [name for name in unknown if name not in before]:
        say(f"no hint for {', '.join(new)} until {path} has it")
    return unknown
