"""Limits of the code itself: the size of files and functions, and modules that import each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mdtool

LINES, FUNCTION, PARAMETERS = 500, 60, 6
PACKAGE = Path(mdtool.__file__).parent


def files(root: Path) -> dict[str, ast.Module]:
    """Name of a module, the package's name first -> its code."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def oversized(root: Path) -> Iterator[str]:
    """What is longer, or takes more, than the limits allow."""
    for path in sorted(root.rglob("*.py")):
        code = path.read_text(encoding="utf-8")
        where = path.relative_to(root)
        if (lines := len(code.splitlines())) > LINES:
            yield f"{where}: {lines} lines"
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION:
                    yield f"{where}:{node.lineno}: {node.name} has {lines} lines"
                given = node.args
                names = {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)} - {"self", "cls"}
                if len(names) > PARAMETERS:
                    yield f"{where}:{node.lineno}: {node.name} takes {len(names)} parameters"


def imports(modules: Mapping[str, ast.Module]) -> dict[str, Set[str]]:
    """Module -> the modules that it imports anywhere: in functions and for types, too."""
    found: dict[str, Set[str]] = {}
    for name, code in modules.items():
        said: set[str] = set()
        for node in ast.walk(code):
            if isinstance(node, ast.Import):
                said |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name}:{node.lineno}: a relative import"
                one = {f"{node.module}.{alias.name}" for alias in node.names}
                said |= {full if full in modules else str(node.module) for full in one}
        found[name] = (said & modules.keys()) - {name}
    return found


def cycle(modules: Mapping[str, ast.Module]) -> list[str]:
    """Modules of which each imports the next; empty where there are none."""
    try:
        TopologicalSorter(imports(modules)).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_nothing_is_too_long() -> None:
    assert list(oversized(PACKAGE)) == []


def test_no_module_imports_what_imports_it() -> None:
    assert " imports ".join(cycle(files(PACKAGE))) == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pass\n" * (LINES + 1), f"one.py: {LINES + 1} lines"),
        ("def long():\n" + "    pass\n" * FUNCTION, f"one.py:1: long has {FUNCTION + 1} lines"),
        ("class A:\n    async def m(self, a, b, c, d, *e, f, g, h): ...\n", "one.py:2: m takes 7 parameters"),
        ("class A:\n    def m(self, a, b, c, d, *e, f, g): ...\n", None),
    ],
)
def test_what_is_too_long_is_found(tmp_path: Path, code: str, said: str | None) -> None:
    (tmp_path / "one.py").write_text(code)
    assert list(oversized(tmp_path)) == ([said] if said else [])


@pytest.mark.parametrize(
    "back",
    ["from own import one", "def f():\n    import own.one", "if TYPE_CHECKING:\n    from own.one import name"],
)
def test_a_cycle_is_found(tmp_path: Path, back: str) -> None:
    root = tmp_path / "own"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "one.py").write_text("from own.two import f\n")
    (root / "two.py").write_text("")
    assert cycle(files(root)) == []
    (root / "two.py").write_text(back)
    assert set(cycle(files(root))) == {"own.one", "own.two"}


def unknown_places(text: str) -> list[str]:
    """What a page names and the project does not have: ``launch.ways``, ``launch.ways.run``, ``guest/elements/rng.py``."""
    found = []
    for name in re.findall(r"`(\w+[./][\w./]+)(?<!yaml)(?<!xml)`", text):
        place = PACKAGE / (name if "/" in name else name.replace(".", "/"))
        within = place.parent.with_suffix(".py")
        there = (
            place.exists() or place.with_suffix(".py").exists() or (within.exists() and place.name in within.read_text())
        )
        if (PACKAGE / place.relative_to(PACKAGE).parts[0]).is_dir() and not there:
            found.append(name)
    return found


def test_the_pages_for_developers_name_what_is_there() -> None:
    for page in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        assert unknown_places((PACKAGE.parent / page).read_text(encoding="utf-8")) == []
    assert unknown_places("`launch.nowhere` `guest/elements/rng.py` `launch.ways` `review/gone.py`") == [
        "launch.nowhere",
        "review/gone.py",
    ]
