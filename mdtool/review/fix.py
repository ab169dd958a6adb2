"""What mends a finding of ``check``: for a person to choose from, and for ``check --fix`` where there is one right answer.

A row (``Mend``) is a rule of ``check`` and how it is mended.  Nothing here chooses hardware: a device that has no place
gets the next free one, and what QEMU needs beside it is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mdtool.errors import MdtoolError
from mdtool.machine.document import Document, document_from_text, tree_with
from mdtool.machine.edit import rewritten
from mdtool.machine.positions import place_at
from mdtool.machine.tree import Place, Tree
from mdtool.qemu.introspect import Knowledge
from mdtool.records import NamedTuple
from mdtool.review.check import checked
from mdtool.review.free import free_addresses

CHOICES = 3  # addresses that are offered
MOST = 1000  # findings that ``fixed`` mends at most


class Fix(NamedTuple):
    """``title`` says what is done; ``tree`` is the description after it."""

    title: str
    tree: Tree


Mend = Callable[[Tree, Place, MdtoolError], Iterator[Fix]]


def _another_address(tree: Tree, place: Place, _: MdtoolError) -> Iterator[Fix]:
    bus = place.bus.name if place.bus is not None else ""
    for address in free_addresses(tree, bus, place.node.driver)[:CHOICES]:
        yield Fix(f"move {place.name} to {bus} {address}", tree_with(tree, {place.name: {"address": address}}))


def _multifunction(tree: Tree, place: Place, error: MdtoolError) -> Iterator[Fix]:
    """Function 0 of the slot announces the others; or the device goes to a slot of its own."""
    slot = str(place.node.address)[:2]
    for other in tree.places:
        if other.bus is place.bus and other.node.address == f"{slot}.0":
            change = {"properties": {**other.node.properties, "multifunction": True}}
            yield Fix(f"give {other.name} multifunction: true", tree_with(tree, {other.name: change}))
    yield from _another_address(tree, place, error)


def _free_number(name: str) -> Mend:
    """A number that no other device has."""

    def mend(tree: Tree, place: Place, _: MdtoolError) -> Iterator[Fix]:
        taken = {str(p.node.value(name)) for p in tree.places}
        free = next(count for count in range(1, len(tree.places) + 2) if str(count) not in taken)
        change = {"properties": {**place.node.properties, name: free}}
        yield Fix(f"give {place.name} {name}: {free}", tree_with(tree, {place.name: change}))

    return mend


#: rule of ``check`` -> what mends it, the best first
MENDS: dict[str, Mend] = {
    "address-taken": _another_address,
    "address-reserved": _another_address,
    "address-form": _another_address,
    "address-range": _another_address,
    "address-shared": _another_address,
    "function-zero": _another_address,
    "port-slot": _another_address,
    "usb-port": _another_address,
    "usb-speed": _another_address,
    "multifunction": _multifunction,
    "chassis-unique": _free_number("chassis"),
    "chassis-given": _free_number("chassis_nr"),
    "bridge-unique": _free_number("chassis_nr"),
}
#: rules with one right answer: QEMU refuses what is there, and its author cannot have meant another place
AUTOMATIC = frozenset(
    {"address-taken", "address-reserved", "usb-port", "multifunction", "chassis-unique", "chassis-given", "bridge-unique"}
)


def fixes(document: Document, error: MdtoolError) -> Iterator[Fix]:
    """What can be done about a finding of ``check``, the best first; nothing for most rules."""
    mend = MENDS.get(error.rule or "")
    place = place_at(document.tree, error.at.line) if error.at is not None else None
    if mend is not None and place is not None:
        yield from mend(document.tree, place, error)


def fixed(document: Document, knowledge: Knowledge | None = None) -> tuple[Document, list[str]]:
    """The description with everything mended that has one right answer, and what was done, a line each."""
    done: list[str] = []
    for _ in range(MOST):
        found = checked(document, knowledge)
        errors = [error for error in (*found.errors, *found.warnings) if error.rule in AUTOMATIC]
        fix = next((fix for error in errors for fix in fixes(document, error)), None)
        if fix is None:
            break
        document = document_from_text(rewritten(document, fix.tree), document.file)
        done.append(fix.title)
    return document, done
