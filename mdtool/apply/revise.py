"""A description brought up to date with its guest XML: what changes, and what that writes into which file.

    revision = revised(request)          reads, reconciles, rehearses; writes nothing
    texts = revision.texts()             what would be written, by file; empty where nothing would
    write(texts)

Nothing here touches a guest: ``apply.live`` and ``apply.relaunch`` do, between the two.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mdtool.apply.builtins import are_touched, followed
from mdtool.errors import InputError, MdtoolError, Report, Warn
from mdtool.files import is_standard, write_file, write_over
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest
from mdtool.machine.document import Document, tree_with
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import Options, reconcile
from mdtool.reconcile.plan import Plan
from mdtool.records import dataclass, field, replace
from mdtool.sources import (
    DEFAULT,
    Access,
    check_output,
    data_from_source,
    document_from_source,
    embedded_document,
    guest_from_source,
    is_file,
)

if TYPE_CHECKING:
    from mdtool.apply.rebase import Rebased


@dataclass(frozen=True)
class Request:
    """What to bring up to date.

    ``guest``        the guest XML: any source that is a text
    ``description``  its description, made where it is not there; None for the one inside of the XML
    ``output``       where the new description goes; None for where the old one is
    ``write_xml``    where the XML with every address goes; None if not wanted
    ``aliases``      what becomes of aliases there: ``kept``, ``own`` or ``ua``
    ``machine``      the machine type to change to; None to keep it
    ``minimal``      whether the description is written without addresses
    """

    guest: str
    description: str | None = None
    output: str | None = None
    write_xml: str | None = None
    aliases: str = "kept"
    machine: str | None = None
    minimal: bool = False
    options: Options = field(default_factory=Options)
    access: Access = DEFAULT

    @property
    def target(self) -> str:
        """The file that holds the new description."""
        return self.output or self.description or self.guest

    @property
    def outputs(self) -> list[str]:
        """The files that may be written."""
        return [self.target, *([self.write_xml] if self.write_xml is not None else [])]

    @property
    def inside(self) -> bool:
        """Whether the description is the one inside of the guest XML."""
        return self.description is None and self.output is None

    @property
    def rewrites_guest(self) -> bool:
        """Whether the XML with every address takes the place of the guest XML."""
        if self.write_xml is None or (is_standard(self.guest) and not self.inside):
            return False
        return _same_file(self.write_xml, self.guest)


@dataclass(frozen=True)
class Revision:
    """What a request leads to.

    ``old``       the description that there is; None for a first time
    ``tree``      the machine that the XML asks for; ``plan`` what that changes
    ``xml``       the XML with every address; None if not wanted
    ``rebase``    what another machine type means to the guest; None where it stays
    ``warnings``  what a person should read, in the order in which it was found
    """

    request: Request
    guest: Guest
    old: Document | None
    tree: Tree
    plan: Plan
    xml: str | None = None
    rebase: Rebased | None = None
    warnings: tuple[Warn, ...] = ()

    @property
    def before(self) -> Tree | None:
        return self.old.tree if self.old is not None else None

    def texts(self, tree: Tree | None = None) -> Mapping[str, str]:
        """File -> its new text, for each file that is not so already; ``tree`` is what a live change got to."""
        request = self.request
        tree = tree if tree is not None else self.tree
        if request.minimal:
            from mdtool.reconcile.minimal import minimal

            tree = minimal(tree)
        text = rewritten(self.old, tree) if self.old else yaml_from_tree(tree)
        found: dict[str, str] = {}
        if request.inside:
            from mdtool.review.embed import with_embedded

            into = self.xml if self.xml is not None and request.rewrites_guest else self.guest.source
            found[request.target] = with_embedded(into, text, request.guest)
        else:
            found[request.target] = text
        if self.xml is not None and not (request.inside and request.rewrites_guest):
            found[str(request.write_xml)] = self.xml
        return {path: new for path, new in found.items() if is_standard(path) or not _is_so(path, new, request)}


@dataclass
class _Warnings:
    """Warnings in order; those that a reader already has as text are kept as text."""

    found: list[Warn] = field(default_factory=list)

    def __call__(self, what: str) -> None:
        self.found.append(Warn(what))


def revised(request: Request) -> Revision:
    """Reconcile; raises what reading, reconciling and, for another machine type, QEMU raise."""
    _check_streams(request)
    access = replace(request.access, secrets=request.write_xml is None)
    guest = guest_from_source(request.guest, access)
    old = described(request, guest)
    before = old.tree if old else None
    result = reconcile(guest, _bare(request, guest, before) if request.machine else before, request.options)
    warnings = _Warnings([*(old.stray if old else ()), *result.warnings])
    rebase = None
    if request.machine and before:
        from mdtool.apply.rebase import rebased

        rebase = rebased(guest, before, result.tree)
    plan = Plan((rebase.step, *result.plan.steps)) if rebase else result.plan
    tree, xml = rebase.tree if rebase else result.tree, None
    if rebase is None and before is not None:
        tree, plan = _followed(guest, before, tree, plan, warnings)
    if request.write_xml:
        xml = _xml_with_places(guest, tree, request.aliases, warnings)
        again = replace(guest_from_bytes(xml.encode(), request.guest), emulator=guest.emulator)
        noted = reconcile(again, tree, request.options).tree
        tree = noted if request.rewrites_guest else _with_addresses(tree, noted)
    return Revision(request, guest, old, tree, plan, xml, rebase, tuple(warnings.found))


def described(request: Request, guest: Guest) -> Document | None:
    """The description that there is: the file, or what is inside of the guest XML; None for a first time."""
    if request.description is None:
        return embedded_document(guest.source, request.guest)
    name = request.description
    if is_file(name) and not is_standard(name) and not os.path.exists(name):
        return None
    document = document_from_source(name, replace(request.access, warn=lambda _: None))
    if document.file != name:  # inside of another XML
        raise InputError(f"{name} is guest XML, not a description", remedy="name the description, or leave it out")
    return document


def write(texts: Mapping[str, str], request: Request) -> list[str]:
    """Write what ``Revision.texts`` found; the names under which old files are kept that nothing was taken of."""
    kept = [write_one(path, text, request) for path, text in texts.items()]
    return [path for path in kept if path is not None]


def write_one(path: str, text: str, request: Request) -> str | None:
    """Write one of the files; the name under which an old file is kept that nothing was taken of."""
    if any(name is not None and _same_file(path, name) for name in (request.guest, request.description)):
        write_file(path, text)
        return None
    return write_over(path, text)


def check_outputs(request: Request) -> None:
    """Raise InputError where what a request leads to could not be written."""
    for path in request.outputs:
        check_output(path)
        if path in (request.guest, request.description) and not is_standard(path) and stat.S_ISFIFO(_mode(path)):
            raise InputError(
                f"{path} is a pipe, and was read", remedy="name the file for the result with -o", rule="source"
            )


def _mode(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_mode
    return 0


def _check_streams(request: Request) -> None:
    """Standard output is one file."""
    if is_standard(request.write_xml) and is_standard(request.target) and not request.inside:
        what = "both the description and the XML would go to standard output"
        raise InputError(what, remedy="name a file for one of them", rule="standard-output")


def _same_file(one: str, other: str) -> bool:
    both_streams = is_standard(one) and is_standard(other)
    return one == other or both_streams or os.path.realpath(one) == os.path.realpath(other)


def _is_so(path: str, text: str, request: Request) -> bool:
    """Whether a file, the revision of one in git, or a pipe that was read, holds a text already."""
    if is_file(path) and not os.path.isfile(path) and path not in (request.guest, request.description):
        return False
    with suppress(InputError):
        return data_from_source(path, replace(request.access, texts={})) == text.encode()
    return False


def _bare(request: Request, guest: Guest, old: Tree | None) -> Tree:
    if old is None:
        raise InputError(f"{request.description} is not there: there is no machine type to change")
    from mdtool.apply.rebase import bare

    return bare(guest, old, str(request.machine))


def _followed(guest: Guest, before: Tree, tree: Tree, plan: Plan, warn: _Warnings) -> tuple[Tree, Plan]:
    """The tree with the built-ins that its sections make; as it is where QEMU cannot be asked."""
    if not are_touched(before, tree):
        return tree, plan
    try:
        return followed(guest, before, tree, plan)
    except MdtoolError as error:
        warn(f"the built-ins stay as described, since a rehearsal cannot show what becomes of them: {error}")
        return tree, plan


def _with_addresses(tree: Tree, noted: Tree) -> Tree:
    """The tree with the addresses that the XML with every address says: it and the one without are the same guest."""
    changes = {}
    for name, place in noted.by_name.items():
        old, address = tree.by_name.get(name), place.node.applied.get("@address")
        if old is not None and address is not None and old.node.origin == place.node.origin:
            changes[name] = {"applied": {"@address": address, **old.node.applied}}
    return tree_with(tree, changes)


def _xml_with_places(guest: Guest, tree: Tree, aliases: str, warn: _Warnings) -> str:
    from mdtool.guest.write import unwritten, xml_with_places  # most requests want no XML

    if manual := unwritten(tree):
        warn(f"the written XML has no element for what is manual in the description: {', '.join(manual)}")
    return xml_with_places(guest.source, guest, tree, wanted_from_guest(guest, Report()), aliases=aliases)
