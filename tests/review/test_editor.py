"""The schema in a real yaml-language-server: what editors underline, complete and explain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import lacking
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE

GOOD = """\
# yaml-language-server: $schema=machine.schema.json
mdtool: machine/1
machine: {type: pc-q35-7.2, arch: x86_64}
buses:
  pcie.0:
    type: PCIE
    devices:
    - driver: e1000
      address: '03.0'
      properties:
        acpi-index: 0
"""


class Server:
    """yaml-language-server over stdio: the little of LSP that an editor needs."""

    def __init__(self, command: str, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen([command, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.messages: list[dict[str, Any]] = []
        self.arrived = threading.Condition()
        self.number = 0
        threading.Thread(target=self._read, daemon=True).start()
        self.ask("initialize", {"processId": None, "rootUri": folder.as_uri(), "capabilities": {}})
        self.tell("initialized", {})

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while head := stream.readline():
            length = int(head.split(b":")[1])
            while stream.readline().strip():
                pass
            message = json.loads(stream.read(length))
            if "id" in message and "method" in message:  # it asks us: for its configuration, and whether it may register
                count = len(message["params"].get("items", ())) if isinstance(message.get("params"), dict) else 0
                self._send({"id": message["id"], "result": [{"validate": True, "hover": True, "completion": True}] * count})
            with self.arrived:
                self.messages.append(message)
                self.arrived.notify_all()

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self.process.stdin.flush()

    def tell(self, method: str, params: dict[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        self.number += 1
        number = self.number
        self._send({"id": number, "method": method, "params": params})
        return self.wait(lambda m: m.get("id") == number and "method" not in m).get("result")

    def wait(self, wanted: Any, seconds: float = PATIENCE) -> dict[str, Any]:
        end = time.monotonic() + seconds
        with self.arrived:
            while True:
                for message in self.messages:
                    if wanted(message):
                        self.messages.remove(message)
                        return message
                if not self.arrived.wait(1.0) and self.process.poll() is not None:
                    raise EOFError("the server ended")
                if time.monotonic() > end:
                    raise AssertionError("the server does not answer")

    def diagnostics(self, name: str, text: str) -> list[str]:
        """What is underlined in a file with this text: ``line: message``."""
        path = self.folder / name
        path.write_text(text)
        uri = path.as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        found = self.wait(
            lambda m: m.get("method") == "textDocument/publishDiagnostics" and m["params"]["uri"].endswith(name)
        )
        return [f"{d['range']['start']['line'] + 1}: {d['message']}" for d in found["params"]["diagnostics"]]

    def at(self, method: str, name: str, line: int, column: int) -> Any:
        position = {"line": line - 1, "character": column - 1}
        return self.ask(method, {"textDocument": {"uri": (self.folder / name).as_uri()}, "position": position})


@pytest.fixture
def server(tmp_path: Path, qemu: str) -> Iterator[Server]:
    command = os.environ.get("MDTOOL_YAML_LS") or shutil.which("yaml-language-server")
    if not command:
        lacking("yaml-language-server", "npm install -g yaml-language-server, or MDTOOL_YAML_LS=PATH")
    schema = tmp_path / "machine.schema.json"
    assert run_mdtool("schema", "--qemu", qemu, "-o", schema).returncode == 0
    try:
        found = Server(str(command), tmp_path)
    except (EOFError, BrokenPipeError):
        lacking("a yaml-language-server that runs here", "it needs Node.js 20 or later: see nodejs.org")
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


def test_an_editor(server: Server) -> None:
    assert server.diagnostics("good.yaml", GOOD) == []
    for fault, line, words in (
        (("acpi-index: 0", "acpi-indx: 0"), 11, "acpi-indx"),
        (("acpi-index: 0", "acpi-index: -1"), 11, "minimum"),
        (("acpi-index: 0", "multifunction: maybe"), 11, "on"),
        (("address:", "adress:"), 9, "adress"),
        (("machine/1", "machine/9"), 2, "machine/1"),
    ):
        found = server.diagnostics(f"bad{line}{words[:2]}.yaml", GOOD.replace(*fault))
        assert any(said.startswith(f"{line}: ") and words in said for said in found), (fault, found)
    hover = server.at("textDocument/hover", "good.yaml", 11, 11)
    assert "uint32" in json.dumps(hover)
    hover = server.at("textDocument/hover", "good.yaml", 9, 9)
    assert "slot.function" in json.dumps(hover)
    half = GOOD + "        auto\n"
    server.diagnostics("half.yaml", half)
    offered = server.at("textDocument/completion", "half.yaml", 12, 13)
    labels = {item["label"] for item in offered["items"]}
    assert "multifunction" in labels
    assert "netdev" not in labels
    server.diagnostics("driver.yaml", GOOD.replace("driver: e1000", "driver: virtio-"))
    offered = server.at("textDocument/completion", "driver.yaml", 8, 22)
    assert "virtio-net-pci" in {item["label"] for item in offered["items"]}
