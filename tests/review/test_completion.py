"""Completion in real shells, and the manual page through a real man."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mdtool.cli import COMMANDS
from mdtool.cli.complete import WRITERS
from tests.conftest import lacking


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        lacking(name, f"apt-get install {name}")
    assert path is not None
    return path


def in_bash(folder: Path, *words: str) -> set[str]:
    script = folder / "mdtool.bash"
    script.write_text(WRITERS["bash"]())
    run = f'source {script}; COMP_WORDS=({" ".join(words) or "mdtool"}); COMP_CWORD={len(words) - 1}; _mdtool; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run([shell("bash"), "-c", run], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_bash(tmp_path: Path) -> None:
    (tmp_path / "web01.yaml").write_text("")
    assert in_bash(tmp_path, "mdtool", "''") == {*COMMANDS, "--help", "--version"}
    assert in_bash(tmp_path, "mdtool", "rec") == {"reconcile"}
    assert {"--svg", "--html", "--depth"} <= in_bash(tmp_path, "mdtool", "show", "--")
    assert in_bash(tmp_path, "mdtool", "show", "web") == {"web01.yaml"}
    assert "monitor" in in_bash(tmp_path, "mdtool", "launch", "--via", "''")
    assert in_bash(tmp_path, "mdtool", "reconcile", "--prefer", "x") == {"xml"}
    assert "zsh" in in_bash(tmp_path, "mdtool", "completion", "z")


def test_fish(tmp_path: Path) -> None:
    script = tmp_path / "mdtool.fish"
    script.write_text(WRITERS["fish"]())

    def completed(line: str) -> set[str]:
        run = f"source {script}; complete -C '{line}'"
        done = subprocess.run([shell("fish"), "--no-config", "-c", run], capture_output=True, text=True, check=True)
        assert not done.stderr
        return {row.split("\t")[0] for row in done.stdout.splitlines()}

    assert set(COMMANDS) <= completed("mdtool ")
    assert {"--svg", "--html"} <= completed("mdtool show --")
    assert completed("mdtool reconcile --prefer ") == {"xml", "description"}


def test_zsh(tmp_path: Path) -> None:
    script = tmp_path / "_mdtool"
    script.write_text(WRITERS["zsh"]())
    run = (
        f"autoload -Uz compinit && compinit -u -d {tmp_path}/dump && source {script} && (( $+_comps[mdtool] )) && print ok"
    )
    done = subprocess.run([shell("zsh"), "-f", "-c", run], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "ok", "")
    for name in COMMANDS:
        assert f"    {name}) _arguments" in script.read_text()


def test_the_manual_page(tmp_path: Path) -> None:
    page = tmp_path / "mdtool.1"
    page.write_text(WRITERS["man"]())
    words = ["groff", "-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u", str(page)]
    if shutil.which("groff") is None:
        pytest.skip("groff is missing: apt-get install groff-base")
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert f"mdtool {name}" in done.stdout.replace("\u2010", "-")
    assert "--against" in done.stdout.replace("\u2010", "-")
