"""From a change in an editor to the diagnostics of it: `mdtool lsp` for 60 and 300 nodes, beside yaml-language-server.

yaml-language-server checks the JSON Schema alone; MDTOOL_YAML_LS names it, and without it that column is left out.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from lsprotocol import types as lsp  # noqa: E402
from pygls.lsp.client import LanguageClient  # noqa: E402

from mdtool.guest.devices import guest_from_bytes  # noqa: E402
from mdtool.machine.writer import yaml_from_tree  # noqa: E402
from mdtool.reconcile import reconcile  # noqa: E402

ROUNDS = 20
XML = """<domain type='qemu'><name>g</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>{}</devices></domain>"""
NIC = "<interface type='user'><mac address='52:54:00:00:{:02x}:{:02x}'/><model type='virtio'/></interface>"


def described(nodes: int) -> tuple[str, int]:
    xml = XML.format("".join(NIC.format(n // 256, n % 256) for n in range((nodes - 5) // 2)))
    tree = reconcile(guest_from_bytes(xml.encode(), "g.xml")).tree
    return yaml_from_tree(tree), len(tree.places)


async def latencies(words: list[str], text: str, folder: Path) -> list[float]:
    """Seconds from each change to the diagnostics that follow it."""
    client, news = LanguageClient("bench", "1"), asyncio.Event()

    @client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    def published(_: lsp.PublishDiagnosticsParams) -> None:
        news.set()

    await client.start_io(*words)
    path = folder / "g.yaml"
    path.write_text(text)
    uri = path.as_uri()
    await client.initialize_async(lsp.InitializeParams(lsp.ClientCapabilities(), root_uri=folder.as_uri()))
    client.initialized(lsp.InitializedParams())
    client.text_document_did_open(lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri, "yaml", 1, text)))
    await news.wait()
    await asyncio.sleep(3)  # what QEMU knows, or a schema, is read once
    found = []
    for count in range(ROUNDS):
        row = text.replace("id: net0", f"id: nic{count}") if count % 2 else text.replace("id: net0", "id: 0net")
        identifier = lsp.VersionedTextDocumentIdentifier(uri=uri, version=count + 2)
        params = lsp.DidChangeTextDocumentParams(identifier, [lsp.TextDocumentContentChangeWholeDocument(row)])
        news.clear()
        start = time.perf_counter()
        client.text_document_did_change(params)
        await news.wait()
        found.append(time.perf_counter() - start)
        await asyncio.sleep(0.05)
    await client.shutdown_async(None)
    client.exit(None)
    await client.stop()
    return found


def main() -> None:
    others = os.environ.get("MDTOOL_YAML_LS")
    for nodes in (60, 300):
        text, count = described(nodes)
        with tempfile.TemporaryDirectory() as folder:
            ours = asyncio.run(latencies([sys.executable, "-m", "mdtool", "lsp"], text, Path(folder)))
            line = f"{count} nodes: mdtool lsp {statistics.median(ours) * 1000:.0f} ms (slowest {max(ours) * 1000:.0f})"
            if others:
                theirs = asyncio.run(latencies([others, "--stdio"], text, Path(folder)))
                line += f", yaml-language-server {statistics.median(theirs) * 1000:.0f} ms"
            print(line)


if __name__ == "__main__":
    main()
