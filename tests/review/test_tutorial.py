"""The tutorial, as a new user would go through it: every command runs, and prints what the page says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import require
from tests.support import SAMPLES
from tests.support_waiting import PATIENCE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"


def steps(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """(command, exit status, lines that it prints) of each ``console`` block."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = step.splitlines()
            status = int(found[1]) if lines and (found := re.fullmatch(r"\[exit (\d)\]", lines[-1])) else 0
            yield command, status, [line for line in lines if not line.startswith("[exit ")]


def matches(shown: list[str], said: list[str]) -> bool:
    """``...`` stands for anything: a line of it for any number of lines, in a line for any text; blanks are one blank."""
    pattern = "".join(
        r"(.*\n)*" if line == "..." else r".*".join(map(re.escape, _squeezed(line).split("..."))) + r"\n" for line in shown
    )
    return re.fullmatch(pattern, "".join(f"{_squeezed(line)}\n" for line in said)) is not None


def _squeezed(line: str) -> str:
    return re.sub(r" +", " ", line).strip()


def test_the_tutorial(tmp_path: Path) -> None:
    for tool in ("git", "qemu-system-x86_64"):
        require(tool)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "mdtool").write_text(f'#!/bin/sh\nexec {sys.executable} -m mdtool "$@"\n')
    (bin_folder / "mdtool").chmod(0o755)
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SAMPLES": str(SAMPLES),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    ran = 0
    for command, status, shown in steps(PAGE.read_text()):
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == status, f"$ {command}\n{done.stdout}{done.stderr}"
        assert matches(shown, done.stdout.splitlines()), f"$ {command}\n{done.stdout}"
        ran += 1
    assert ran > 20


def test_the_comparison_notices() -> None:
    assert matches(["a ... c", "...", "z"], ["a b  c", "x", "z"])
    assert not matches(["a"], ["b"])
    assert not matches([], ["b"])
