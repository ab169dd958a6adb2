"""The words of docs/glossary.md are the words of the code, the messages and the pages, with the values that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mdtool.machine.tree import BUILTIN, MANUAL, SECTIONS
from mdtool.reconcile.plan import Action
from mdtool.sources import EXPECTED

ROOT = Path(__file__).parents[1]
CODE = sorted((ROOT / "mdtool").rglob("*.py"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
ROWS = dict(re.findall(r"^\| ([a-z][\w -]*) \| (.+) \|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE))
del ROWS["word"]
#: what was a word of the project once, or of nobody else -> what stands in its place
RETIRED = {
    r"stand[-_]ins?|stands_in": "placeholder (a back end), substitute (a driver)",
    r"told": "recorded, reported, or a name for the value",
    r"truths?": "description, fact",
    r"anew": "again, new",
    r"whoever": "the user, the process",
    r"_?(One|Given|Made|Thing|Spot|Alone)(?=[:(])": "a name for what it is",
}
#: names of modules that a stranger does not understand
VAGUE = {"said", "raw", "words", "things", "shown", "alone", "told"}


@cache
def words_of(files: tuple[Path, ...]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in files if path.name not in ("glossary.md", "CHANGELOG.md"))


@pytest.mark.parametrize("files", [CODE, PAGES], ids=["code", "pages"])
def test_every_word_is_used(files: list[Path]) -> None:
    text = words_of(tuple(files))
    assert [word for word in ROWS if not re.search(rf"\b{word.removesuffix('e')}(e|s|es|ed|ing)?\b", text, re.I)] == []


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("built-in", [f"`origin: {BUILTIN}`"]),
        ("manual", [f"`origin: {MANUAL}`"]),
        ("section", [f"`{name}`" for name in SECTIONS if name in ("machine", "cpu", "memory", "numa", "smbios")]),
        ("plan", [action.name.lower() for action in Action]),
        ("source", re.findall(r"REV:PATH|pid:N|libvirt:NAME|a file", EXPECTED)),
    ],
)
def test_a_word_names_the_values_that_there_are(word: str, values: list[str]) -> None:
    assert values and [value for value in values if value not in ROWS[word]] == []


def retired(files: list[Path]) -> Iterator[str]:
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for found in re.finditer(rf"\b({'|'.join(RETIRED)})\b", line):
                yield f"{path}:{number}: {found[0]}"


def test_no_retired_word_comes_back(tmp_path: Path) -> None:
    assert list(retired([path for path in (*CODE, *PAGES) if path.name != "CHANGELOG.md"])) == []
    assert [path for path in CODE if path.stem in VAGUE] == []
    (tmp_path / "bad.py").write_text("class _Made:\n    told = 1  # a stand-in\n")
    assert len(list(retired([tmp_path / "bad.py"]))) == 3
