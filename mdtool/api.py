"""The public functions of mdtool, which ``import mdtool`` gives: what the commands do, and nothing that prints or exits.

Sources are those of the commands (``mdtool.sources``); what cannot be done raises ``MdtoolError`` with positions.
"""

from __future__ import annotations

import os

from mdtool.compare import Difference, comparison, guest_visible
from mdtool.errors import MdtoolError, Report, Warn
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest
from mdtool.guest.write import xml_with_places
from mdtool.machine.document import Document, document_from_text
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import Options, reconcile
from mdtool.reconcile.plan import Plan, Step
from mdtool.records import dataclass
from mdtool.review.check import Checked, checked
from mdtool.sources import Access, document_from_source, guest_from_source, tree_from_source

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Reconciled:
    """What ``reconcile_guest`` leads to.

    ``tree``      the machine that the XML asks for
    ``plan``      what that changes; false where nothing does
    ``warnings``  what the XML says and was deliberately left out
    """

    guest: Guest
    tree: Tree
    plan: Plan
    warnings: tuple[Warn, ...] = ()

    def xml(self, aliases: str = "kept") -> str:
        """The guest XML with the address of every device; ``aliases`` is ``kept``, ``own`` or ``ua``."""
        return xml_with_places(
            self.guest.source, self.guest, self.tree, wanted_from_guest(self.guest, Report()), aliases=aliases
        )


@dataclass(frozen=True)
class Comparison:
    """What two machines have otherwise, the worst first; and what could not be compared, with the reason."""

    differences: tuple[Difference, ...]
    not_compared: tuple[str, ...]

    @property
    def visible(self) -> tuple[Difference, ...]:
        """The differences that a guest sees."""
        return tuple(guest_visible(self.differences))

    def __bool__(self) -> bool:
        return bool(self.differences)


def load(source: Source, *, connect: str | None = None) -> Document:
    """A description: a file, ``REV:PATH``, or the one inside of guest XML; ``.tree`` is its machine."""
    return document_from_source(os.fspath(source), Access(connect))


def loads(text: str, name: str = "description") -> Document:
    """A description in a text; ``name`` is what errors call it."""
    return document_from_text(text, name)


def dump(source: Source, *, connect: str | None = None, qemu: str | None = None) -> Tree:
    """The machine that a source is: a monitor, a process, a guest of libvirt, guest XML or a script that is rehearsed."""
    return tree_from_source(os.fspath(source), Access(connect, qemu))


def dumps(tree: Tree, document: Document | None = None) -> str:
    """The text of a description; with the document that it was made of, the comments and the order of that one."""
    return rewritten(document, tree) if document is not None else yaml_from_tree(tree)


def load_guest(source: Source, *, connect: str | None = None) -> Guest:
    """Guest XML (libvirt domain XML): a file, ``REV:PATH`` or ``libvirt:NAME``."""
    return guest_from_source(os.fspath(source), Access(connect))


def loads_guest(text: str | bytes, name: str = "guest XML") -> Guest:
    """Guest XML in a text; ``name`` is what errors call it."""
    return guest_from_bytes(text.encode() if isinstance(text, str) else text, name)


def reconcile_guest(guest: Guest, tree: Tree | None = None, options: Options | None = None) -> Reconciled:
    """Bring a machine up to date with its guest XML; without one, make it.  Nothing is started and no file is touched."""
    result = reconcile(guest, tree, options)
    return Reconciled(guest, result.tree, result.plan, tuple(result.warnings))


def compare_trees(described: Tree, machine: Tree) -> Comparison:
    """Hold a machine against its description, or two descriptions against each other."""
    found, compared = comparison(described, machine)
    omitted = [f"{one}" for view in compared.views for one in view.omitted]
    return Comparison(tuple(found), tuple(omitted))


def check(document: Document) -> Checked:
    """What QEMU would refuse in a description (``.errors``), and what would trouble a guest (``.warnings``)."""
    return checked(document)


__all__ = [
    "Checked",
    "Comparison",
    "Difference",
    "Document",
    "Guest",
    "MdtoolError",
    "Options",
    "Plan",
    "Reconciled",
    "Step",
    "Tree",
    "Warn",
    "check",
    "compare_trees",
    "dump",
    "dumps",
    "load",
    "load_guest",
    "loads",
    "loads_guest",
    "reconcile_guest",
]
