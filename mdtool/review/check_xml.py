"""Guest XML checked as a description is: by the machine that it makes, and with the lines of the XML."""

from __future__ import annotations

from typing import TypeVar

from mdtool.errors import MdtoolError, Position, Report
from mdtool.guest.devices import wanted_from_guest
from mdtool.guest.model import Guest
from mdtool.machine.document import Document, document_from_known_text
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.introspect import Knowledge
from mdtool.reconcile import reconcile
from mdtool.review.check import Checked, checked

_E = TypeVar("_E", bound=MdtoolError)


def checked_guest(guest: Guest, knowledge: Knowledge | None = None) -> Checked:
    """What a reconcile says of the XML, and what the checks say of the machine that it makes.

    Raises what a reconcile raises where it makes none.
    """
    result = reconcile(guest)
    document = document_from_known_text(yaml_from_tree(result.tree), guest.file)
    found = checked(document, knowledge)
    lines = _lines(guest, document)

    def moved(one: _E) -> _E:
        before = [line for line in lines if one.at is not None and line <= one.at.line]
        at = lines[max(before)] if before else guest.domain.position
        return type(one)(one.what, at=at, expected=one.expected, remedy=one.remedy, rule=one.rule)

    warnings = (*result.warnings, *map(moved, found.warnings))
    return Checked(tuple(map(moved, found.errors)), warnings, found.skipped)


def _lines(guest: Guest, document: Document) -> dict[int, Position]:
    """Line of a node in the description -> its element in the XML; the guest's own line where no element asked for it."""
    asked = {want.origin: want.position for want in wanted_from_guest(guest, Report())}
    return {
        place.node.position.line: asked.get(place.node.origin or "") or guest.domain.position
        for place in document.tree.places
        if place.node.position is not None
    }
