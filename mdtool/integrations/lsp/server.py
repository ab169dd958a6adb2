"""The language server: handlers that fetch texts, ask the pure modules beside, and translate.

An exception in a handler is an error of that request (pygls logs it and answers with it), and never the server's end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from mdtool import __version__
from mdtool.errors import InputError, MdtoolError, Position
from mdtool.integrations.lsp import protocol
from mdtool.integrations.lsp.actions import actions
from mdtool.integrations.lsp.analysis import Source, SourcePair, paired
from mdtool.integrations.lsp.completion import completions, xml_completions
from mdtool.integrations.lsp.cursor import cursor_at
from mdtool.integrations.lsp.hover import hover
from mdtool.integrations.lsp.navigation import definition, foldings, outline, references, renamed
from mdtool.machine.document import document_from_text
from mdtool.machine.tree import Tree
from mdtool.qemu.introspect import Knowledge, binary_of, knowledge
from mdtool.text import pattern

_DESCRIPTION = pattern(r"^mdtool:\s*['\"]?machine/", re.MULTILINE)
_DOMAIN = pattern(r"<domain[\s>]")
_ARCH = pattern(r"^machine:.*?\barch:\s*['\"]?(\w+)", re.MULTILINE | re.DOTALL)
_VALUE_END = pattern(r"[,}]")
_YAML, _XML = (".yaml", ".yml"), (".xml",)


class Server(LanguageServer):
    """What the server remembers: the last readable tree of each description, and what each QEMU knows."""

    def __init__(self, qemu: Callable[[str], str] = binary_of) -> None:
        super().__init__("mdtool", __version__)
        self.qemu = qemu
        self.trees: dict[str, Tree] = {}
        self.known: dict[str, Knowledge | None] = {}
        self.last: tuple[object, SourcePair] | None = None
        self.due: set[str] = set()

    # --- texts ---

    def text(self, file: str) -> str | None:
        """A file as the editor has it, else as it is on disk; None where it is neither."""
        uri = protocol.uri_of(file)
        if uri in self.workspace.text_documents:
            return str(self.workspace.text_documents[uri].source)
        try:
            return Path(file).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None

    def source(self, files: Sequence[str], is_ours: re.Pattern[str]) -> Source | None:
        for file in files:
            text = self.text(file)
            if text is not None and is_ours.search(text):
                return Source(file, text)
        return None

    def pair(self, uri: str) -> SourcePair:
        """The description and the guest XML beside it, ``web01.yaml`` and ``web01.xml``, of which ``uri`` is one."""
        file = protocol.file_of(uri)
        stem = str(Path(file).with_suffix(""))
        description = self.source([file] if file.endswith(_YAML) else [stem + end for end in _YAML], _DESCRIPTION)
        xml = self.source([file] if file.endswith(_XML) else [stem + end for end in _XML], _DOMAIN)
        arch = _ARCH.search(description.text[:4000]) if description is not None else None
        known = self.known.get(arch[1]) if arch is not None else None
        key = description, xml, id(known)
        if self.last is None or self.last[0] != key:
            self.last = key, _paired(description, xml, known)
        pair = self.last[1]
        if pair.tree is not None and pair.description is not None:
            self.trees[pair.description.file] = pair.tree
        if arch is not None and arch[1] not in self.known:
            self.known[arch[1]] = None
            asyncio.ensure_future(self._learn(arch[1], uri))  # noqa: RUF006  (it ends with the server)
        return pair

    async def _learn(self, arch: str, uri: str) -> None:
        """Ask the QEMU of an architecture what it has, or its cache, while the editor goes on."""
        with suppress(MdtoolError, OSError):
            loop = asyncio.get_running_loop()
            self.known[arch] = await loop.run_in_executor(None, knowledge, self.qemu(arch))
            self.publish(uri)

    # --- diagnostics ---

    def changed(self, uri: str) -> None:
        """Publish soon: after what is already in the queue, so that fast typing costs one reading and not ten."""
        if uri not in self.due:
            self.due.add(uri)
            asyncio.get_running_loop().call_soon(self.publish, uri)

    def publish(self, uri: str) -> None:
        self.due.discard(uri)
        pair = self.pair(uri)
        for source in (pair.description, pair.xml):
            if source is None:
                continue
            rows = source.text.split("\n")
            here = [error for error in pair.findings if error.at is not None and error.at.file == source.file]
            found = [protocol.diagnostic(error, rows) for error in here]
            params = lsp.PublishDiagnosticsParams(uri=protocol.uri_of(source.file), diagnostics=found)
            self.text_document_publish_diagnostics(params)

    def texts(self, pair: SourcePair) -> dict[str, str]:
        return {source.file: source.text for source in (pair.description, pair.xml) if source is not None}


def _paired(description: Source | None, xml: Source | None, known: Knowledge | None) -> SourcePair:
    """``paired``; a fault of mdtool itself is a finding, so that the server lives on and the person knows."""
    try:
        return paired(description, xml, known)
    except Exception as error:
        source = description or xml
        at = Position(source.file if source is not None else "", 1)
        fault = MdtoolError(f"cannot be checked: {type(error).__name__} in mdtool itself", at=at, rule="internal")
        return SourcePair(description, xml, findings=(fault,), knowledge=known)


class Where(Protocol):
    """What all requests about a position have."""

    @property
    def text_document(self) -> lsp.TextDocumentIdentifier: ...
    @property
    def position(self) -> lsp.Position: ...


def _place(pair: SourcePair, params: Where) -> tuple[str, int, int]:
    """(file, line, column) from 1."""
    file = protocol.file_of(params.text_document.uri)
    text = next((s.text for s in (pair.description, pair.xml) if s is not None and s.file == file), "")
    rows = text.split("\n")
    line = params.position.line
    row = rows[line] if line < len(rows) else ""
    return file, line + 1, protocol.column_of(row, params.position.character) + 1


def made(qemu: Callable[[str], str] = binary_of) -> Server:
    """A server with all its handlers; ``qemu`` names the binary to ask for an architecture."""
    server = Server(qemu)

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def edited(params: lsp.DidChangeTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def kept(params: lsp.DidSaveTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        empty = lsp.PublishDiagnosticsParams(uri=params.text_document.uri, diagnostics=[])
        server.text_document_publish_diagnostics(empty)

    _reading(server)
    _changing(server)
    return server


def _reading(server: Server) -> None:
    """Requests that show something."""

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[":", " ", "'", '"', "{"]))
    def complete(params: lsp.CompletionParams) -> lsp.CompletionList:
        pair = server.pair(params.text_document.uri)
        file, line, column = _place(pair, params)
        text = server.text(file) or ""
        if pair.xml is not None and file == pair.xml.file:
            offset = sum(len(row) + 1 for row in text.split("\n")[: line - 1]) + column - 1
            items = xml_completions(pair, text, offset)
        else:
            items = completions(pair, pair.tree or server.trees.get(file), cursor_at(text, line - 1, column - 1))
        return lsp.CompletionList(is_incomplete=False, items=[protocol.completion_item(item) for item in items])

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hovered(params: lsp.HoverParams) -> lsp.Hover | None:
        pair = server.pair(params.text_document.uri)
        file, line, column = _place(pair, params)
        if pair.description is None or file != pair.description.file:
            return None
        row = pair.description.text.split("\n")[line - 1]
        end = _VALUE_END.search(row, column - 1)  # the value of the key, wherever on it the mouse is
        cursor = cursor_at(pair.description.text, line - 1, end.start() if end is not None else len(row))
        text = hover(pair, _saved(file), cursor, line)
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text)) if text else None

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def defined(params: lsp.DefinitionParams) -> list[lsp.Location]:
        pair = server.pair(params.text_document.uri)
        return [protocol.location(span, server.texts(pair)) for span in definition(pair, *_place(pair, params))]

    @server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def referred(params: lsp.ReferenceParams) -> list[lsp.Location]:
        pair = server.pair(params.text_document.uri)
        return [protocol.location(span, server.texts(pair)) for span in references(pair, *_place(pair, params))]

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def symbols(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        pair = server.pair(params.text_document.uri)
        rows = pair.description.text.split("\n") if pair.description is not None else []
        return [protocol.document_symbol(symbol, rows) for symbol in outline(pair)]

    @server.feature(lsp.TEXT_DOCUMENT_FOLDING_RANGE)
    def folded(params: lsp.FoldingRangeParams) -> list[lsp.FoldingRange]:
        pair = server.pair(params.text_document.uri)
        return [lsp.FoldingRange(first - 1, last - 1) for first, last in foldings(outline(pair))]

    @server.feature(lsp.TEXT_DOCUMENT_CODE_LENS)
    def lenses(params: lsp.CodeLensParams) -> list[lsp.CodeLens]:
        """What a guest calls each NIC and disk, above it."""
        pair = server.pair(params.text_document.uri)
        rows = pair.description.text.split("\n") if pair.description is not None else []
        return [
            lsp.CodeLens(protocol.range_of(rows, at), lsp.Command(f"the guest calls it {name}", ""))
            for node, name in pair.called.items()
            if (at := pair.where.get((node, ""))) is not None
        ]


def _changing(server: Server) -> None:
    """Requests that answer with edits."""

    @server.feature(lsp.TEXT_DOCUMENT_RENAME)
    def rename(params: lsp.RenameParams) -> lsp.WorkspaceEdit:
        pair = server.pair(params.text_document.uri)
        return protocol.workspace_edit(renamed(pair, params.position.line + 1, params.new_name), server.texts(pair))

    @server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
    def may_rename(params: lsp.PrepareRenameParams) -> lsp.Range | None:
        pair = server.pair(params.text_document.uri)
        try:
            edits = renamed(pair, params.position.line + 1, "a-new-name")
        except InputError:
            return None
        own = next((edit.span for edit in edits if edit.span.at.line == params.position.line + 1), None)
        return protocol.range_of(server.texts(pair)[own.at.file].split("\n"), own.at, own.length) if own else None

    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION)
    def act(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        pair = server.pair(params.text_document.uri)
        file, texts = protocol.file_of(params.text_document.uri), server.texts(pair)
        found = actions(pair, file, params.range.start.line + 1, params.range.end.line + 1)
        return [
            lsp.CodeAction(
                title=action.title,
                kind=lsp.CodeActionKind.QuickFix,
                diagnostics=[protocol.diagnostic(action.mends, texts[file].split("\n"))] if action.mends else None,
                is_preferred=action.preferred or None,
                edit=protocol.whole(action.file, texts[action.file], action.text),
            )
            for action in found
        ]


def _saved(file: str) -> Tree | None:
    """The tree of the file on disk; None if it is not a description."""
    try:
        return document_from_text(Path(file).read_text(encoding="utf-8"), file).tree
    except (OSError, ValueError, MdtoolError):
        return None
