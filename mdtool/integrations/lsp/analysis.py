"""A description and the guest XML beside it as one thing: what each says, and what ``check`` and ``reconcile`` find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from mdtool.errors import Errors, MdtoolError, Position, Report, Warn
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest, Wanted
from mdtool.machine.document import Document, document_from_text
from mdtool.machine.positions import Positions, place_at, positions
from mdtool.machine.tree import Place, Tree
from mdtool.qemu.introspect import Knowledge
from mdtool.reconcile import Result, reconcile
from mdtool.reconcile.plan import Action, Plan
from mdtool.records import NamedTuple, dataclass, field, replace
from mdtool.review.check import checked
from mdtool.review.names import names
from mdtool.review.plan import text_from_step


class Source(NamedTuple):
    """A text as an editor has it, and the name of its file."""

    file: str
    text: str


@dataclass(frozen=True)
class SourcePair:
    """A description and its guest XML, either of which may be missing or unreadable.

    ``findings`` are errors and warnings of both, each with a position in one of them; ``where`` has the positions of
    the description.
    """

    description: Source | None = None
    xml: Source | None = None
    document: Document | None = None
    guest: Guest | None = None
    result: Result | None = None
    findings: tuple[MdtoolError, ...] = ()
    knowledge: Knowledge | None = None
    wanted: tuple[Wanted, ...] = field(default=(), repr=False)
    where: Positions = field(default_factory=dict, repr=False)

    @property
    def tree(self) -> Tree | None:
        return self.document.tree if self.document is not None else None

    @cached_property
    def elements(self) -> Mapping[str, Wanted]:
        """Origin -> what the XML says of it; devices that are not in the XML are left out."""
        return {one.origin: one for one in self.wanted if one.element is not None}

    @cached_property
    def called(self) -> Mapping[str, str]:
        """Node -> what a Linux guest calls it, for NICs and disks."""
        return {named.node: named.name for named in names(self.tree)} if self.tree is not None else {}

    def place_at(self, line: int) -> Place | None:
        """The node that ``line`` of the description (from 1) is in."""
        return place_at(self.tree, line) if self.tree is not None else None

    def place_of(self, origin: str) -> Place | None:
        """The node that stands for an XML element."""
        return next((p for p in self.tree.places if p.node.origin == origin), None) if self.tree is not None else None

    def element_at(self, line: int, column: int) -> Wanted | None:
        """What the XML element around a position of the XML (from 1) asks for; the innermost one that asks for a device."""
        assert self.xml is not None
        offset = _offset(self.xml.text, line, column)
        around = [
            one for one in self.elements.values() if one.element and one.element.span[0] <= offset < one.element.span[1]
        ]
        return max(around, key=lambda one: one.element.span[0] if one.element else 0, default=None)


def paired(description: Source | None, xml: Source | None, knowledge: Knowledge | None = None) -> SourcePair:
    """Read both and hold them against each other; what cannot be read is among the findings."""
    report = Report()
    document, guest, wanted, result = None, None, [], None
    if description is not None:
        with report.step():
            document = document_from_text(description.text, description.file)
            found = checked(document, knowledge)
            for error in (*found.errors, *found.warnings):
                report.error(error)
    if xml is not None:
        with report.step():
            guest = guest_from_bytes(xml.text.encode(errors="surrogatepass"), xml.file)
            wanted = wanted_from_guest(guest, Report())
            result = reconcile(guest, document.tree if document is not None else None)
            for warning in result.warnings:
                report.error(warning)
    where = positions(document) if document is not None else {}
    findings = list(_flat(report.errors))
    if description is not None and document is not None and result is not None:
        findings += _steps(result.plan, description.file, where)
    fallback = description or xml
    placed = tuple(_placed(error, fallback.file if fallback else "") for error in findings)
    return SourcePair(description, xml, document, guest, result, placed, knowledge, tuple(wanted), where)


def _flat(errors: Iterable[MdtoolError]) -> Iterator[MdtoolError]:
    for error in errors:
        if isinstance(error, Errors):
            yield from _flat(error.errors)
        else:
            yield error


def _placed(error: MdtoolError, file: str) -> MdtoolError:
    if error.at is None:
        error.at = Position(file, 1)
    return error


def _steps(plan: Plan, file: str, where: Positions) -> Iterator[Warn]:
    """What reconcile would change: at the node, and at the XML element where there is one."""
    for step in plan.steps:
        if step.action is Action.KEEP:
            continue
        what = f"not reconciled with the guest XML: {' '.join(text_from_step(replace(step, at=None)).split())}"
        bus = step.where[0] if step.where else ""
        at = where.get((step.name, "")) or where.get((bus, "bus")) or Position(file, 1)
        yield Warn(what, at=at, rule="not-reconciled")
        if step.at is not None:
            yield Warn(what, at=step.at, rule="not-reconciled")


def _offset(text: str, line: int, column: int) -> int:
    """The byte offset of a position from 1, as spans of elements count."""
    rows = text.split("\n")
    before = sum(len(row.encode(errors="surrogatepass")) + 1 for row in rows[: line - 1])
    return before + (len(rows[line - 1][: column - 1].encode(errors="surrogatepass")) if line <= len(rows) else 0)
