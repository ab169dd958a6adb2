"""What mends a finding: a free address, multifunction, the XML's value or the description's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mdtool.errors import MdtoolError
from mdtool.integrations.lsp.analysis import Pair
from mdtool.machine.document import tree_with
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Place, Tree
from mdtool.reconcile import Options, reconcile
from mdtool.review.free import free_addresses

#: rules of ``check`` that another address mends
_ANOTHER_ADDRESS = frozenset({"address-taken", "address-reserved", "address-range", "address-form", "address-shared",
                              "multifunction", "usb-port", "usb-speed", "port-slot", "function-zero"})  # fmt: skip


class Action(NamedTuple):
    """``title`` for the menu, the whole ``text`` of ``file`` after it, and the finding that it mends (None for none)."""

    title: str
    file: str
    text: str
    mends: MdtoolError | None = None
    preferred: bool = False


def actions(pair: Pair, file: str, first: int, last: int) -> list[Action]:
    """What can be done about the findings on lines ``first`` to ``last`` (from 1) of ``file``."""
    found: list[Action] = []
    for error in pair.findings:
        if error.at is not None and error.at.file == file and first <= error.at.line <= last:
            found += _mending(pair, error)
    return found


def _mending(pair: Pair, error: MdtoolError) -> Iterator[Action]:
    assert error.at is not None
    if error.rule in ("not-reconciled", "property-conflict"):
        yield from _reconciled(pair, error)
        return
    place = pair.place_at(error.at.line)
    if place is None or pair.tree is None:
        return
    if error.rule in _ANOTHER_ADDRESS:
        yield from _moved(pair, place, error)
    if error.rule == "multifunction" and place.bus is not None and place.node.address:
        zero = next((n for n in place.bus.devices if n.address == f"{place.node.address[:2]}.0"), None)
        name = next((p.name for p in pair.tree.places if p.node is zero), None)
        if name is not None and zero is not None:
            change = {"properties": {**zero.properties, "multifunction": True}}
            yield _action(pair, f"Give {name} multifunction: true", tree_with(pair.tree, {name: change}), error)
    if error.rule == "chassis-unique" and (free := (error.expected or "").rpartition(" ")[2]).isdigit():
        change = {"properties": {**place.node.properties, "chassis": int(free)}}
        yield _action(pair, f"Give {place.name} chassis {free}", tree_with(pair.tree, {place.name: change}), error)


def _moved(pair: Pair, place: Place, error: MdtoolError) -> Iterator[Action]:
    assert pair.tree is not None
    bus = place.bus.name if place.bus is not None else ""
    for count, address in enumerate(free_addresses(pair.tree, bus, place.node.driver)[:3]):
        tree = tree_with(pair.tree, {place.name: {"address": address}})
        yield _action(pair, f"Move {place.name} to {bus} {address}", tree, error, preferred=count == 0)


def _reconciled(pair: Pair, error: MdtoolError) -> Iterator[Action]:
    if pair.guest is None or pair.tree is None or pair.document is None:
        return
    seen = {pair.document.text}
    for whose, prefer in (("XML", "xml"), ("description", "description")):
        try:
            result = reconcile(pair.guest, pair.tree, Options(prefer=prefer))
        except MdtoolError:
            continue
        title = f"Reconcile with the guest XML; where both changed, the {whose} is right"
        action = _action(pair, title, result.tree, error, preferred=prefer == "xml")
        if action.text not in seen:
            seen.add(action.text)
            yield action


def _action(pair: Pair, title: str, tree: Tree, error: MdtoolError, *, preferred: bool = False) -> Action:
    assert pair.document is not None
    return Action(title, pair.document.file, rewritten(pair.document, tree), error, preferred)
