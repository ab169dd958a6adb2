"""Values of mdtool as values of the Language Server Protocol: lines and characters from 0, characters as UTF-16 units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lsprotocol import types as lsp
from pygls import uris

from mdtool.errors import MdtoolError, Position
from mdtool.integrations.lsp.completion import Completion
from mdtool.integrations.lsp.navigation import Edit, Span, Symbol
from mdtool.text import pattern

_SEVERITIES = {"error": lsp.DiagnosticSeverity.Error, "warning": lsp.DiagnosticSeverity.Warning}
_KINDS = {
    "key": lsp.CompletionItemKind.Field,
    "value": lsp.CompletionItemKind.EnumMember,
    "driver": lsp.CompletionItemKind.Class,
    "address": lsp.CompletionItemKind.Value,
    "property": lsp.CompletionItemKind.Property,
    "bus": lsp.CompletionItemKind.Reference,
}
_SYMBOLS = {
    "section": lsp.SymbolKind.Namespace,
    "bus": lsp.SymbolKind.Module,
    "device": lsp.SymbolKind.Object,
}
#: what a finding's mark covers: a word, a quoted text, a tag
_TOKEN = pattern(r"'[^']*'|\"[^\"]*\"|<?[^\s,{}\[\]>]+")


def file_of(uri: str) -> str:
    return uris.to_fs_path(uri) or uri


def uri_of(file: str) -> str:
    return uris.from_fs_path(file) or file


def units(row: str, column: int) -> int:
    """Characters before ``column`` (from 0) as UTF-16 units."""
    return len(row[:column].encode("utf-16-le", errors="surrogatepass")) // 2


def column_of(row: str, character: int) -> int:
    """UTF-16 units as characters from 0."""
    text = row.encode("utf-16-le", errors="surrogatepass")[: 2 * character]
    return len(text.decode("utf-16-le", errors="replace"))


def range_of(rows: Sequence[str], at: Position, length: int | None = None) -> lsp.Range:
    """``length`` characters from a position; the token there where none is given."""
    line = min(max(at.line - 1, 0), max(len(rows) - 1, 0))
    row = rows[line] if rows else ""
    start = min(at.column - 1, len(row))
    if length is None:
        token = _TOKEN.match(row, start)
        length = len(token[0]) if token is not None else max(len(row) - start, 0)
    first, last = units(row, start), units(row, start + length)
    return lsp.Range(lsp.Position(line, first), lsp.Position(line, last))


def diagnostic(error: MdtoolError, rows: Sequence[str]) -> lsp.Diagnostic:
    expected = f"; expected {error.expected}" if error.expected else ""
    remedy = f"\n{error.remedy}" if error.remedy else ""
    return lsp.Diagnostic(
        range=range_of(rows, error.at or Position("", 1)),
        message=f"{error.what}{expected}{remedy}",
        severity=_SEVERITIES[error.severity],
        code=error.rule,
        source="mdtool",
    )


def completion_item(item: Completion) -> lsp.CompletionItem:
    return lsp.CompletionItem(
        label=item.label,
        insert_text=item.insert,
        kind=_KINDS[item.kind],
        detail=item.detail or None,
        documentation=item.documentation or None,
    )


def location(span: Span, texts: Mapping[str, str]) -> lsp.Location:
    return lsp.Location(uri_of(span.at.file), range_of(texts.get(span.at.file, "").split("\n"), span.at, span.length))


def workspace_edit(edits: Iterable[Edit], texts: Mapping[str, str]) -> lsp.WorkspaceEdit:
    changes: dict[str, list[lsp.TextEdit]] = {}
    for span, text in edits:
        rows = texts.get(span.at.file, "").split("\n")
        edit = lsp.TextEdit(range_of(rows, span.at, span.length), text)
        changes.setdefault(uri_of(span.at.file), []).append(edit)
    return lsp.WorkspaceEdit(changes=changes)


def whole(file: str, old: str, new: str) -> lsp.WorkspaceEdit:
    """The lines that differ, as one edit: the cursor and the rest of the file stay where they are."""
    before, after = old.split("\n"), new.split("\n")
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    tail = 0
    while tail < min(len(before), len(after)) - same and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    text = "\n".join([*after[same : len(after) - tail], ""]) if tail else "\n".join(after[same:])
    last = len(before) - tail
    end = lsp.Position(last, 0) if tail else lsp.Position(len(before) - 1, units(before[-1], len(before[-1])))
    return lsp.WorkspaceEdit(changes={uri_of(file): [lsp.TextEdit(lsp.Range(lsp.Position(same, 0), end), text)]})


def document_symbol(symbol: Symbol, rows: Sequence[str]) -> lsp.DocumentSymbol:
    last = min(symbol.last, len(rows))
    row = rows[last - 1] if rows else ""
    own = rows[symbol.first - 1] if symbol.first <= len(rows) else ""
    return lsp.DocumentSymbol(
        name=symbol.name,
        detail=symbol.detail,
        kind=_SYMBOLS[symbol.kind],
        range=lsp.Range(lsp.Position(symbol.first - 1, 0), lsp.Position(last - 1, units(row, len(row)))),
        selection_range=lsp.Range(
            lsp.Position(symbol.first - 1, 0),
            lsp.Position(symbol.first - 1, units(own, len(own)) if symbol.first != last else units(row, len(row))),
        ),
        children=[document_symbol(child, rows) for child in symbol.children],
    )
