"""Real editors: Neovim's client drives the server, and the extension for VS Code is one that vsce packs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from test_lsp import _ports, described, xml

from tests.conftest import lacking, require
from tests.support_waiting import PATIENCE

EXTENSION = Path(__file__).parents[2] / "editors" / "vscode"


def test_neovim_shows_mends_and_renames(tmp_path: Path) -> None:
    nvim = require("nvim")
    good = described(xml(2), {"net1": {"rombar": 1}})
    rows = good.split("\n")
    first, second = _ports(rows)
    path, result = tmp_path / "web01.yaml", tmp_path / "result.json"
    path.write_text("\n".join([*rows[:second], rows[first], *rows[second + 1 :]]))
    environment = {
        **os.environ,
        "MDTOOL_FILE": str(path),
        "MDTOOL_RESULT": str(result),
        "MDTOOL_PYTHON": sys.executable,
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    script = Path(__file__).with_name("neovim.lua")
    subprocess.run(
        [nvim, "--headless", "-u", "NONE", "-i", "NONE", "-n", "-c", f"luafile {script}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    seen = json.loads(result.read_text())
    assert not seen.get("failed"), seen
    assert seen["line"] == second and "taken" in seen["message"]
    assert seen["action"].startswith("Move ")
    text = path.read_text()
    assert "id: lan" in text and '"lan": {' in text and "net1" not in text


def test_the_extension_for_vs_code_is_packed(tmp_path: Path) -> None:
    """What vsce packs has the client library and the program, and its manifest is one that VS Code takes."""
    folder = os.environ.get("MDTOOL_VSCODE")
    if not folder or not (Path(folder) / "node_modules" / "@vscode" / "vsce").is_dir():
        lacking("vsce and vscode-languageclient", "npm install in a copy of editors/vscode; MDTOOL_VSCODE=FOLDER")
    work = tmp_path / "vscode"
    shutil.copytree(str(folder), work, symlinks=True)
    for path in EXTENSION.iterdir():
        if path.is_file():
            shutil.copy(path, work)
    vsce = work / "node_modules" / ".bin" / "vsce"
    words = [str(vsce), "package", "--allow-missing-repository", "-o", str(tmp_path / "mdtool.vsix")]
    done = subprocess.run(words, cwd=work, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    if "File is not defined" in done.stderr:
        lacking("Node.js 20 or later, which vsce needs", "see nodejs.org")
    assert done.returncode == 0, done.stdout + done.stderr
    names = zipfile.ZipFile(tmp_path / "mdtool.vsix").namelist()
    assert "extension/extension.js" in names
    assert any(name.startswith("extension/node_modules/vscode-languageclient/") for name in names)
    assert not any("@vscode/vsce" in name for name in names)


#: what stands for VS Code in node: it keeps what the extension gives to the client
STUB = """
const Module = require("module");
const started = [];
const load = Module._load;
Module._load = function (name, ...rest) {
  if (name === "vscode") return { workspace: { getConfiguration: () => ({ get: (key) => ({ command: "mdtool", qemu: "" })[key] }) } };
  if (name === "vscode-languageclient/node")
    return { LanguageClient: class { constructor(...words) { started.push(words); } start() { return "started"; } stop() {} } };
  return load.call(this, name, ...rest);
};
const extension = require(process.argv[1]);
const answer = extension.activate();
extension.deactivate();
console.log(JSON.stringify({ answer, words: started[0] }));
"""


def test_the_extension_starts_the_server() -> None:
    words = [require("node"), "-e", STUB, str(EXTENSION / "extension.js")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["answer"] == "started" and seen["words"][2] == {"command": "mdtool", "args": ["lsp"]}
    assert {one["language"] for one in seen["words"][3]["documentSelector"]} == {"yaml", "xml"}
