"""The language server, driven by pygls's own client over stdio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

from mdtool.guest.devices import guest_from_bytes
from mdtool.integrations.lsp import server
from mdtool.integrations.lsp.analysis import Source
from mdtool.machine.document import tree_with
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import reconcile

NIC = "<interface type='user'><mac address='52:54:00:00:00:0{n}'/><model type='virtio'/></interface>"
XML = """<domain type='qemu'>
  <name>web01</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    {nics}
  </devices>
</domain>
"""


def xml(count: int) -> str:
    return XML.format(nics="\n    ".join(NIC.format(n=n) for n in range(count)))


def described(text: str, pins: dict[str, dict[str, int]] | None = None) -> str:
    tree = reconcile(guest_from_bytes(text.encode(), "web01.xml")).tree
    return yaml_from_tree(tree_with(tree, {name: {"pins": bag} for name, bag in (pins or {}).items()}))


class Editor(LanguageClient):
    """What an editor does: open, change, ask; and what it was last told of each file."""

    def __init__(self) -> None:
        super().__init__("tests", "1")
        self.told: dict[str, list[lsp.Diagnostic]] = {}
        self.news = asyncio.Event()
        self.versions: dict[str, int] = {}

        @self.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def published(params: lsp.PublishDiagnosticsParams) -> None:
            self.told[params.uri] = list(params.diagnostics)
            self.news.set()

    def open(self, path: Path, text: str) -> str:
        uri = path.as_uri()
        self.versions[uri] = 1
        item = lsp.TextDocumentItem(uri, "yaml" if path.suffix == ".yaml" else "xml", 1, text)
        self.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        return uri

    def change(self, uri: str, text: str) -> None:
        self.versions[uri] += 1
        identifier = lsp.VersionedTextDocumentIdentifier(uri=uri, version=self.versions[uri])
        whole = lsp.TextDocumentContentChangeWholeDocument(text)
        self.text_document_did_change(lsp.DidChangeTextDocumentParams(identifier, [whole]))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for diagnostics that satisfy a condition; as long as it takes on a loaded machine."""
        async with asyncio.timeout(120):
            while not holds():
                self.news.clear()
                await self.news.wait()

    def codes(self, uri: str) -> list[Any]:
        return [diagnostic.code for diagnostic in self.told.get(uri, [])]


def in_editor(folder: Path, job: Callable[[Editor], Awaitable[None]], *words: str) -> None:
    async def session() -> None:
        editor = Editor()
        await editor.start_io(sys.executable, "-m", "mdtool", "lsp", *words)
        try:
            await editor.initialize_async(lsp.InitializeParams(lsp.ClientCapabilities(), root_uri=folder.as_uri()))
            editor.initialized(lsp.InitializedParams())
            await job(editor)
        finally:
            await editor.shutdown_async(None)
            editor.exit(None)
            await editor.stop()

    asyncio.run(session())


def at(text: str, needle: str, more: int = 0) -> lsp.Position:
    """The place of ``needle`` in a text, in its first line that has it, and ``more`` characters on."""
    for number, row in enumerate(text.split("\n")):
        if needle in row:
            return lsp.Position(number, row.index(needle) + more)
    raise AssertionError(needle)


def applied(text: str, edits: list[Any]) -> str:
    """Edits of ASCII texts, as an editor carries them out."""
    rows = text.split("\n")
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + len(row) + 1)
    for edit in sorted(edits, key=lambda e: (-e.range.start.line, -e.range.start.character)):
        first = starts[edit.range.start.line] + edit.range.start.character
        last = starts[edit.range.end.line] + edit.range.end.character
        text = text[:first] + edit.new_text + text[last:]
    return text


def test_findings_of_both_files_appear_while_typing_and_go(tmp_path: Path) -> None:
    good = described(xml(2))

    async def job(editor: Editor) -> None:
        (tmp_path / "web01.xml").write_text(xml(2))
        uri = editor.open(tmp_path / "web01.yaml", good)
        guest = (tmp_path / "web01.xml").as_uri()
        await editor.until(lambda: uri in editor.told and guest in editor.told)
        assert editor.codes(uri) == [] and editor.codes(guest) == []
        editor.change(uri, good.replace("id: net1", "id: 1net"))
        await editor.until(lambda: editor.codes(uri) == ["schema-pattern"])
        assert editor.told[uri][0].range.start == at(good, "id: net1", 4)
        editor.change(uri, good.replace("id: net1", "id: net1: x"))  # no YAML
        await editor.until(lambda: editor.codes(uri) == ["yaml-syntax"])
        editor.change(uri, good)
        await editor.until(lambda: editor.codes(uri) == [])
        opened = editor.open(tmp_path / "web01.xml", xml(3))  # a NIC that is not in the description
        await editor.until(lambda: "not-reconciled" in editor.codes(opened))
        new = editor.told[opened][0]
        assert new.range.start == at(xml(3), NIC.format(n=2)) and "net2" in new.message
        editor.change(opened, xml(2))
        await editor.until(lambda: editor.codes(opened) == [])

    in_editor(tmp_path, job)


def test_an_action_mends_a_taken_slot(tmp_path: Path) -> None:
    good = described(xml(2))
    rows = good.split("\n")
    first, second = _ports(rows)
    bad = "\n".join([*rows[:second], rows[first], *rows[second + 1 :]])

    async def job(editor: Editor) -> None:
        uri = editor.open(tmp_path / "web01.yaml", bad)
        await editor.until(lambda: "address-taken" in editor.codes(uri))
        found = next(d for d in editor.told[uri] if d.code == "address-taken")
        assert found.range.start.line == second
        params = lsp.CodeActionParams(lsp.TextDocumentIdentifier(uri), found.range, lsp.CodeActionContext([found]))
        actions = await editor.text_document_code_action_async(params)
        assert actions
        move = next(action for action in actions if action.title.startswith("Move "))
        assert isinstance(move, lsp.CodeAction) and move.is_preferred and move.edit and move.edit.changes
        mended = applied(bad, list(move.edit.changes[uri]))
        changed = [n for n, (old, new) in enumerate(zip(bad.split("\n"), mended.split("\n"), strict=True)) if old != new]
        assert changed == [second]
        editor.change(uri, mended)
        await editor.until(lambda: editor.codes(uri) == [])

    in_editor(tmp_path, job)


def _ports(rows: list[str]) -> tuple[int, int]:
    """The lines of the addresses of two root ports."""
    found = [n for n, row in enumerate(rows) if "driver: pcie-root-port" in row]
    lines = [next(m for m in range(n, n + 3) if "address:" in rows[m]) for n in found]
    return lines[0], lines[1]


def test_an_action_takes_the_values_of_the_xml(tmp_path: Path) -> None:
    old, new = described(xml(2)), described(xml(3))

    async def job(editor: Editor) -> None:
        (tmp_path / "web01.xml").write_text(xml(3))
        uri = editor.open(tmp_path / "web01.yaml", old)
        await editor.until(lambda: "not-reconciled" in editor.codes(uri))
        found = editor.told[uri][0]
        params = lsp.CodeActionParams(lsp.TextDocumentIdentifier(uri), found.range, lsp.CodeActionContext([found]))
        actions = await editor.text_document_code_action_async(params)
        assert actions and isinstance(actions[0], lsp.CodeAction) and actions[0].edit and actions[0].edit.changes
        text = applied(old, list(actions[0].edit.changes[uri]))
        editor.change(uri, text)
        await editor.until(lambda: editor.codes(uri) == [])
        assert "id: net2" in text and new.count("pcie-root-port") >= text.count("pcie-root-port")

    in_editor(tmp_path, job)


def test_a_rename_changes_both_documents(tmp_path: Path) -> None:
    good = described(xml(2), {"net1": {"rombar": 1}, "pci.2": {"rombar": 1}})

    async def job(editor: Editor) -> None:
        uri = editor.open(tmp_path / "web01.yaml", good)
        await editor.until(lambda: editor.codes(uri) == [] and uri in editor.told)
        for old, new, count in (("net1", "lan", 3), ("pci.2", "pci.77", 4)):
            params = lsp.RenameParams(lsp.TextDocumentIdentifier(uri), at(good, f"id: {old}", 5), new)
            edit = await editor.text_document_rename_async(params)
            assert edit and edit.changes
            text = applied(good, list(edit.changes[uri]))
            assert len(edit.changes[uri]) == count
            assert f'"{new}"' in text and f'"{old}"' not in text
            editor.change(uri, text)
            await editor.until(lambda: editor.codes(uri) == [])
            editor.change(uri, good)
        params = lsp.RenameParams(lsp.TextDocumentIdentifier(uri), at(good, "id: net1", 5), "net0")
        with pytest.raises(Exception, match="taken"):
            await editor.text_document_rename_async(params)

    in_editor(tmp_path, job)


def test_completion_hover_definition_outline(tmp_path: Path, qemu: str) -> None:
    good = described(xml(2))
    row = next(row for row in good.split("\n") if "properties" in row and "52:54:00:00:00:01" in row)
    typing = good.replace(row, row.rstrip().rstrip("}") + ", dis")

    async def job(editor: Editor) -> None:
        (tmp_path / "web01.xml").write_text(xml(2))
        uri = editor.open(tmp_path / "web01.yaml", good)
        document = lsp.TextDocumentIdentifier(uri)
        wrong = good.replace("driver: virtio-net-pci", "driver: virtio-nat-pci")
        editor.change(uri, wrong)
        await editor.until(lambda: "driver-known" in editor.codes(uri))  # QEMU was asked

        async def complete(text: str, where: lsp.Position) -> list[str]:
            editor.change(uri, text)
            found = await editor.text_document_completion_async(lsp.CompletionParams(document, where))
            assert isinstance(found, lsp.CompletionList)
            return [item.label for item in found.items]

        place = at(typing, ", dis", 5)
        assert "disable-legacy" in await complete(typing, place)
        editor.change(uri, good)
        drivers = await complete(good, at(good, "driver: virtio-net-pci", 14))
        assert "virtio-net-pci" in drivers and "usb-tablet" not in drivers
        root = at(good, "driver: pcie-root-port")
        blank = "\n".join(r if n != root.line + 1 else "      address: " for n, r in enumerate(good.split("\n")))
        free = await complete(blank, lsp.Position(root.line + 1, 15))
        assert free and "00.0" not in free and all(address.endswith(".0") for address in free)
        editor.change(uri, good)

        shown = await editor.text_document_hover_async(lsp.HoverParams(document, at(good, "id: net1", 5)))
        assert shown and isinstance(shown.contents, lsp.MarkupContent)
        assert "enp" in shown.contents.value and NIC.format(n=1) in shown.contents.value
        found = await editor.text_document_definition_async(lsp.DefinitionParams(document, at(good, "id: net1", 5)))
        assert isinstance(found, list) and isinstance(found[0], lsp.Location)
        assert found[0].uri == (tmp_path / "web01.xml").as_uri()
        assert found[0].range.start == at(xml(2), NIC.format(n=1))
        back = lsp.DefinitionParams(lsp.TextDocumentIdentifier(found[0].uri), at(xml(2), "0:01'"))
        node = await editor.text_document_definition_async(back)
        assert isinstance(node, list) and isinstance(node[0], lsp.Location) and node[0].uri == uri
        assert node[0].range.start.line == at(good, "id: net1").line

        symbols = await editor.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
        buses = next(symbol for symbol in symbols or () if symbol.name == "buses")
        assert isinstance(buses, lsp.DocumentSymbol) and buses.children
        assert buses.children[0].name == "pcie.0"
        lenses = await editor.text_document_code_lens_async(lsp.CodeLensParams(document))
        assert lenses and any(lens.command and "enp" in lens.command.title for lens in lenses)
        folds = await editor.text_document_folding_range_async(lsp.FoldingRangeParams(document))
        assert folds and all(fold.end_line > fold.start_line for fold in folds)

    in_editor(tmp_path, job)


HOSTILE = [
    "mdtool: machine/1\n" + "[" * 100_000,
    "mdtool: machine/1\na: &a [*a]\n",
    "mdtool: machine/1\nbuses: {pci.0: {type: " + "9" * 5000 + "}}\n",
    "mdtool: machine/1\n\x00\x1b[2J",
    "mdtool: machine/1\nmachine: {type: '\ud800'}\n",
    "mdtool: machine/1\nmachine: 5\nbuses: []\n",
]


def test_a_hostile_document_does_not_end_the_server(tmp_path: Path) -> None:
    good = described(xml(1))

    async def job(editor: Editor) -> None:
        uri = editor.open(tmp_path / "web01.yaml", good)
        document = lsp.TextDocumentIdentifier(uri)
        await editor.until(lambda: uri in editor.told)
        for text in HOSTILE:
            editor.change(uri, text.encode(errors="replace").decode())
            await editor.until(lambda: editor.codes(uri) != [])
            for line in (0, 1, 2):
                await editor.text_document_completion_async(lsp.CompletionParams(document, lsp.Position(line, 9)))
            editor.change(uri, good)
            await editor.until(lambda: editor.codes(uri) == [])

    in_editor(tmp_path, job)


@pytest.mark.parametrize("binary", ["/bin/false", "/no/such/qemu"])
def test_a_qemu_that_dies_or_is_not_there_costs_what_only_it_knows(tmp_path: Path, binary: str) -> None:
    good = described(xml(1))

    async def job(editor: Editor) -> None:
        uri = editor.open(tmp_path / "web01.yaml", good)
        await editor.until(lambda: uri in editor.told)
        for _ in range(3):
            editor.change(uri, good.replace("id: net0", "id: 0net"))
            await editor.until(lambda: editor.codes(uri) == ["schema-pattern"])
            editor.change(uri, good)
            await editor.until(lambda: editor.codes(uri) == [])

    in_editor(tmp_path, job, "--qemu", binary)


def test_a_fault_of_mdtool_itself_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server, "paired", broken)
    pair = server._paired(Source("/x/web01.yaml", "mdtool: machine/1"), None, None)
    assert [(error.rule, str(error.at)) for error in pair.findings] == [("internal", "/x/web01.yaml:1:1")]
