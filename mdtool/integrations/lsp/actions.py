"""What mends a finding: a free address, multifunction, the XML's value or the description's."""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.errors import MdtoolError
from mdtool.integrations.lsp.analysis import SourcePair
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Tree
from mdtool.reconcile import Options, reconcile
from mdtool.records import NamedTuple
from mdtool.review.fix import fixes


class CodeAction(NamedTuple):
    """``title`` for the menu, the whole ``text`` of ``file`` after it, and the finding that it mends (None for none)."""

    title: str
    file: str
    text: str
    mends: MdtoolError | None = None
    preferred: bool = False


def actions(pair: SourcePair, file: str, first: int, last: int) -> list[CodeAction]:
    """What can be done about the findings on lines ``first`` to ``last`` (from 1) of ``file``."""
    found: list[CodeAction] = []
    for error in pair.findings:
        if error.at is not None and error.at.file == file and first <= error.at.line <= last:
            found += _mending(pair, error)
    return found


def _mending(pair: SourcePair, error: MdtoolError) -> Iterator[CodeAction]:
    assert error.at is not None
    if error.rule in ("not-reconciled", "property-conflict"):
        yield from _reconciled(pair, error)
        return
    if pair.document is not None:
        for count, fix in enumerate(fixes(pair.document, error)):
            yield _action(pair, fix.title[0].upper() + fix.title[1:], fix.tree, error, preferred=count == 0)


def _reconciled(pair: SourcePair, error: MdtoolError) -> Iterator[CodeAction]:
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


def _action(pair: SourcePair, title: str, tree: Tree, error: MdtoolError, *, preferred: bool = False) -> CodeAction:
    assert pair.document is not None
    return CodeAction(title, pair.document.file, rewritten(pair.document, tree), error, preferred)
