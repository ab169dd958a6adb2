"""The XML read back and tried: what an element asks for that QEMU has not, and what a rehearsal has otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdtool.errors import Errors, MdtoolError, QemuError, Report
from mdtool.guest.choices import as_described
from mdtool.guest.model import Guest, Wanted
from mdtool.importer.devices import ImportedDevice
from mdtool.launch.argv import ordered
from mdtool.launch.rehearse import rehearsal
from mdtool.machine.document import tree_with
from mdtool.machine.drivers import same_driver
from mdtool.machine.tree import MANUAL, Node, Tree
from mdtool.machine.values import same
from mdtool.reconcile import linked, reconcile
from mdtool.records import replace


def _elements_of(
    entries: Sequence[ImportedDevice], guest: Guest, wanted: Sequence[Wanted]
) -> Iterator[tuple[ImportedDevice, Wanted | None]]:
    """Each device with an element, and what the XML wants by it."""
    of: dict[int, Wanted] = {}
    for want in wanted:
        if want.element is not None:
            of.setdefault(id(want.element), want)
    elements = [element for element in guest.devices if element.tag != "emulator"]
    for entry, element in zip((entry for entry in entries if entry.made is not None), elements, strict=False):
        yield entry, of.get(id(element))


def others_of(entries: Sequence[ImportedDevice], guest: Guest, wanted: Sequence[Wanted]) -> frozenset[int]:
    """The devices whose element asks for another one."""
    return frozenset(
        id(entry.device)
        for entry, want in _elements_of(entries, guest, wanted)
        if want is None
        or not (entry.on_board or same_driver(want.driver, entry.device.driver) or _is_substituted(want, entry))
    )


def moved(entries: Sequence[ImportedDevice], guest: Guest, tree: Tree) -> frozenset[int]:
    """The devices that the XML would have somewhere else: libvirt knows no such place (slot 0 of a POWER machine)."""
    try:
        changed = {step.name for step in reconcile(guest, tree).plan.changes}
    except MdtoolError as error:
        lines = {one.at.line for one in (error.errors if isinstance(error, Errors) else [error]) if one.at is not None}
        elements = [element for element in guest.devices if element.tag != "emulator"]
        made = zip((entry for entry in entries if entry.made is not None), elements, strict=False)
        found = frozenset(id(entry.device) for entry, element in made if element.position.line in lines)
        if not found:  # of no one element: libvirt knows no such machine, and each device stays an option
            found = frozenset(id(entry.device) for entry in entries if entry.made is not None and not entry.on_board)
        if not found:
            raise
        return found
    return frozenset(id(entry.device) for entry in entries if entry.device.id in changed)


def _is_substituted(want: Wanted, entry: ImportedDevice) -> bool:
    return entry.given is not None and want.driver == entry.given.bag.get("driver")


def linked_tree(tree: Tree, guest: Guest, wanted: Sequence[Wanted], entries: Sequence[ImportedDevice]) -> Tree:
    """The tree with each node's element as its origin, and what the XML says as already applied."""
    from mdtool.guest.platform import sections_from_guest

    changes: dict[str, dict[str, Any]] = {}
    for entry, want in _elements_of(entries, guest, wanted):
        if want is not None and not entry.on_board and entry.device.id in tree.by_name:
            changes[entry.device.id] = {"origin": want.origin}
            changes |= {part: {"origin": f"{want.origin}/codec/{n}"} for n, part in enumerate(entry.parts)}
    for entry in entries:
        if entry.made is None and entry.device.id in tree.by_name:
            changes[entry.device.id] = {"origin": f"commandline/{entry.device.id}" if entry.verbatim else MANUAL}
    tree = linked(guest, tree_with(tree, changes), Report())
    # What the XML implies and the guest has otherwise is the guest's: like a manual change of what the XML set.
    asked = {want.origin: want for want in wanted}
    nodes = (place.node for place in tree.places if place.node.origin in asked)
    tree = tree_with(tree, {node.id or "": _kept(node, asked[node.origin or ""]) for node in nodes})
    sections = sections_from_guest(as_described(guest, tree), Report())
    return replace(tree, applied={**tree.applied, **{f"@{name}": section for name, section in sections.items()}})


def _kept(node: Node, want: Wanted) -> dict[str, Any]:
    have = {**node.pins, **node.properties}
    asked = dict(want.properties)
    if want.facts.get("device_id") is True:
        asked["device_id"] = f"drive-{node.id}"
    other = {name: have[name] for name, value in asked.items() if name in have and not same(have[name], value)}
    return {"applied": asked, "properties": {**node.properties, **other}}


def settled(guest: Guest, tree: Tree, report: Report) -> tuple[Tree, bool]:
    """The description, tried: it is rehearsed, and what QEMU then has otherwise becomes a choice of the description's.

    Beside it whether the rehearsal is the same machine.

    QEMU's short forms set properties that -device does not (-nic leaves a virtio NIC without MSI-X), and no option says so.
    What still differs after that is reported.
    """
    from mdtool.compare import guest_visible
    from mdtool.launch.rehearse import prepared_rehearsal
    from mdtool.launch.start import checked

    for last in (False, True):
        prepared = prepared_rehearsal(guest, tree, via="device")
        try:
            with rehearsal(prepared) as qemu:
                found = guest_visible(checked(qemu, prepared)[0])
        except QemuError as error:  # a device that another process serves cannot be had without it
            what = f"the import could not be tried, so the result is not verified: {error.what[:300]}"
            report.warn(what, remedy="mdtool launch --paused compares it, with its host", rule="import")
            return tree, False
        changes: dict[str, dict[str, Any]] = {}
        for one in found:
            place = tree.by_name.get(one.node)
            if place is not None and not last and place.node.id is not None and one.property in place.node.pins:
                changes.setdefault(one.node, {})[one.property] = place.node.pins[one.property]
            elif last:
                report.warn(f"{one}: a launch ends with this", remedy="please report it, with the script", rule="import")
        if not found:
            break
        tree = tree_with(tree, {name: _chosen(tree.by_name[name].node, bag) for name, bag in changes.items()})
    return tree, not found


def warn_of_subchannels(entries: Sequence[ImportedDevice], tree: Tree, report: Report) -> None:
    """s390x: QEMU numbers subchannels in the order in which devices are created, and libvirt has an order of its own."""
    held = {entry.device.id: entry for entry in entries if "subch_id" in entry.device.properties}
    places = ordered(tree, [f"commandline/{entry.device.id}" for entry in entries if entry.verbatim])
    made = [held[place.node.id] for place in places if place.node.id in held]
    before = [str(entry.device.properties["subch_id"]) for entry in made]
    for entry, old, new in zip(made, before, sorted(before), strict=True):
        if old != new:
            what = f"{entry.device.id}: subchannels are numbered as devices are created: {new} from now on, {old} before"
            report.warn(what, at=entry.at, rule="import")


def _chosen(node: Node, bag: Mapping[str, Any]) -> dict[str, Any]:
    pins = {key: value for key, value in node.pins.items() if key not in bag}
    return {"properties": {**node.properties, **bag}, "pins": pins}
