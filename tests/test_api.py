"""The public API: its names, its page, and what it costs to import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mdtool
from mdtool import api
from tests.support import SAMPLES

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
NAMES = {
    "Checked", "Comparison", "Difference", "Document", "Guest", "MdtoolError", "Options", "Plan", "Reconciled", "Step", "Tree",
    "Warn", "__version__", "check", "compare_trees", "dump", "dumps", "load", "load_guest", "loads", "loads_guest",
    "reconcile_guest",
}  # fmt: skip


def test_the_names_are_the_public_ones() -> None:
    """A name that goes breaks somebody's program: that is a new major version, and said in the changelog."""
    assert set(mdtool.__all__) == NAMES
    assert set(api.__all__) == NAMES - {"__version__"}
    assert all(getattr(mdtool, name) is not None for name in NAMES)
    assert set(dir(mdtool)) >= NAMES
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mdtool.nothing  # noqa: B018


def test_every_public_function_is_documented() -> None:
    page = PAGE.read_text()
    functions = [name for name in NAMES if not name.startswith("_") and name[0].islower()]
    assert [name for name in functions if f"`{name}(" not in page] == []
    assert [name for name in NAMES - {"__version__"} if not getattr(mdtool, name).__doc__] == []


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "web01.xml").write_bytes((SAMPLES / "web01" / "guest.xml").read_bytes())
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), scope)
    assert "mine.yaml:2:1: error: unknown key 'machin'" in capsys.readouterr().out
    assert scope["text"] == mdtool.dumps(scope["result"].tree, scope["document"])  # type: ignore[attr-defined,arg-type]


def test_a_hundred_guests_in_one_process(tmp_path: Path) -> None:
    text = (SAMPLES / "web01" / "guest.xml").read_text()
    seen = set()
    for number in range(100):
        mine = text.replace("52:54:00", f"52:54:{number:02x}").replace("web01", f"web{number}")
        first = mdtool.reconcile_guest(mdtool.loads_guest(mine, f"web{number}.xml"))
        again = mdtool.reconcile_guest(mdtool.loads_guest(mine, f"web{number}.xml"), first.tree)
        assert not again.plan
        seen.add(mdtool.dumps(again.tree))
    assert len(seen) == 100


def test_importing_it_imports_nothing() -> None:
    code = "import mdtool, sys; print(sorted(n for n in sys.modules if n.startswith('mdtool.') or n == 'lark' or 'ruamel' in n))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"
