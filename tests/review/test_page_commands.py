"""Whatever command a page, the README or a command's own help shows: it is one of ours, with options that it has."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from mdtool.cli import COMMANDS, main, module_of, parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
]


PARTS = ("", "mdtool", "tests", *(f"mdtool/{name}" for name in ("guest/elements", "machine/buses", "review")))


def shown(text: str) -> Iterator[str]:
    """The command lines of a text: ``mdtool ...`` in a block, behind a prompt, between backquotes."""
    yield from re.findall(r"^(?: {4,}|\$ )(mdtool [^\n]*)", text, re.MULTILINE)
    yield from (found for found in re.findall(r"`([^`]+)`", text.replace("\n", " ")) if found.startswith("mdtool "))


def words(line: str) -> list[str]:
    """A command line without its comment, without what a shell does, and with the first of each alternative."""
    line = re.split(r" {2,}|\s#|\s[|<>]|&&|;|\)", line)[0]
    lexer = shlex.shlex(re.sub(r"[\[\]]", " ", line).replace("...", ""), posix=True, punctuation_chars="")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)[1:]
    except ValueError:  # a quote that ends in another line
        return line.split()[1:]


@lru_cache
def options_of(command: str) -> frozenset[str]:
    """The options of a command, its subcommands' too."""

    def options(one: argparse.ArgumentParser) -> Iterator[str]:
        help_text = one.format_help()
        yield from re.findall(r"(?<![\w-])--?[a-z][\w-]*", help_text)

    found: list[argparse.ArgumentParser] = []

    class Recorder(argparse.ArgumentParser):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            found.append(self)

    parser(command, Recorder)
    return frozenset(name for one in found for name in options(one))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page(page: Path) -> None:
    wrong = [line for line in shown(page.read_text()) if not _is_known(words(line))]
    assert not wrong


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_files_of_a_page(page: str) -> None:
    """Where it says that something stands, there is a file; one with a star or in capitals stands for others."""
    named = re.findall(r"`([\w./-]+/?[\w-]+(?:/|\.(?:py|json|md|bash|lark|yml)))`", (ROOT / page).read_text())
    named = [name for name in named if not re.search(r"[A-Z]{3}", name) or name.endswith("md")]
    assert len(named) > 10
    # a table names a file of the package by what is below mdtool/, a sentence one beside the last
    missing = [name for name in named if not any((ROOT / part / name).exists() for part in PARTS)]
    assert not missing


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_command(command: str) -> None:
    assert not [line for line in examples(command) if not _is_known(words(line))]


def examples(command: str) -> list[str]:
    return re.findall(r"^  (mdtool [^\n]*)", module_of(command).EXAMPLE, re.MULTILINE)


#: commands that need neither a QEMU nor libvirt, where they are given files
_OF_FILES = frozenset(
    [
        "check",
        "completion",
        "diff",
        "embed",
        "extract",
        "hints",
        "merge",
        "names",
        "reconcile",
        "schema",
        "show",
        "status",
        "textconv",
    ]
)
#: what else a machine or a QEMU is asked for, and what is an example in words
_ELSEWHERE = re.compile(r"libvirt:|pid:|/run/|/srv/|--qemu|--connect|[A-Z]{3,}(?!\w*:)|\.\.\.|\[| -( |$)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that examples name: a guest, an edit of it, hints, folders of guests, in git with tags."""
    where = tmp_path_factory.mktemp("examples")
    sample, xml, yaml = ROOT / "samples" / "web01", where / "web01.xml", where / "web01.yaml"
    with chdir(where):
        for source in ("guest.xml", "edited.xml"):
            shutil.copy(sample / source, xml)
            assert main(["-q", "reconcile", str(xml), str(yaml)]) == 0
            for name in (
                ("base", "ours", "theirs")
                if source == "guest.xml"
                else ("web01-new", "old/web01", "new/web01", "guests/web01")
            ):
                (where / name).parent.mkdir(exist_ok=True)
                shutil.copy(yaml, where / f"{name}.yaml")
        shutil.copy(xml, where / "guests")
        shutil.copy(xml, where / "fresh.xml")
        for name in ("defined", "hints", "pages"):
            (where / name).mkdir()
        assert main(["-q", "hints", "export", "web01.yaml", "-o", "web01.hints"]) == 0
        for line in (
            "init -qb main",
            "add -A",
            "commit -qm all",
            "tag v1.0",
            "tag v2.0",
            "update-ref refs/remotes/origin/main HEAD",
        ):
            who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
            subprocess.run(["git", *who, *line.split()], check=True, capture_output=True)
    return where


def test_examples_run_as_they_stand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the help of each command and of the pages: all that files are enough for, where their names are an example's."""
    lines = [line for command in sorted(_OF_FILES) for line in examples(command)]
    lines += [line for page in ("fleet", "launch", "review") for line in shown((ROOT / f"docs/{page}.md").read_text())]
    given = [words(line) for line in dict.fromkeys(lines) if not _ELSEWHERE.search(" ".join(words(line)))]
    given = [line for line in given if len(line) > 1 and line[0] in _OF_FILES]
    given.sort(key=lambda line: "--remove" in line)  # what it removes, others want
    monkeypatch.chdir(folder)
    for line in given:
        files = [
            name
            for word in line
            for name in (sorted(map(str, folder.glob(word))) if "*" in word and "." in word else [word])
        ]
        assert main(files) in (0, 1), f"{line}: {capsys.readouterr().err}"
    assert len(given) > 30


def _is_known(line: list[str]) -> bool:
    if not line or line[0].isupper() or line[0].startswith("-"):
        return True
    if line[0] not in COMMANDS:
        return False
    given = [word.partition("=")[0] for word in line if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)]
    return all(word in options_of(line[0]) for word in given)


def test_another_option_is_noticed() -> None:
    assert list(shown("    mdtool dump x --nothing  # why\n")) == ["mdtool dump x --nothing  # why"]
    assert not _is_known(words("mdtool dump x --nothing"))
    assert not _is_known(words("mdtool dmup x"))
    assert _is_known(words("mdtool dump x -o y.yaml --json   and --nothing"))
