"""Completion in real shells, and the manual page through a real man."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mdtool.cli import COMMANDS
from mdtool.cli.completion import completion, manual
from tests.conftest import lacking


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        lacking(name, f"apt-get install {name}")
    assert path is not None
    return path


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("bash") / "mdtool.bash"
    script.write_text(completion("bash"))
    return script


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two guests of a folder, and a virsh that knows two others."""
    (tmp_path / "web01.xml").write_text("<domain/>")
    description = (
        "buses:\n  pcie.0:\n    devices:\n    - {id: net0, driver: e1000e}\n    - id: port4\n      buses:\n        pci.7:\n"
    )
    (tmp_path / "web01.yaml").write_text(description)
    virsh = tmp_path / "bin" / "virsh"
    virsh.parent.mkdir()
    virsh.write_text("#!/bin/sh\necho mail\necho mirror\n")
    virsh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{virsh.parent}:{os.environ['PATH']}")
    return tmp_path


def in_bash(script: Path, folder: Path, *words: str) -> set[str]:
    run = f'source {script}; COMP_WORDS=({" ".join(words) or "mdtool"}); COMP_CWORD={len(words) - 1}; _mdtool; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run([shell("bash"), "-c", run], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("rec",), {"reconcile"}),
        (("show", "web"), {"web01.xml", "web01.yaml"}),
        (("show", "libvirt", ":", "ma"), {"mail"}),
        (("show", "lib"), {"libvirt:"}),
        (("launch", "--via", "mo"), {"monitor"}),
        (("launch", "--via", "=", "mo"), {"monitor"}),
        (("reconcile", "--prefer", "x"), {"xml"}),
        (("edit", "we"), {"web01"}),
        (("adopt", "mi"), {"mirror"}),
        (("show", "web01.yaml", "--id", "n"), {"net0"}),
        (("show", "web01.yaml", "--bus", "pc"), {"pcie.0", "pci.7"}),
        (("completion", "z"), {"zsh"}),
        (("hints", "ex"), {"export"}),
    ],
)
def test_bash(bash_script: Path, folder: Path, words: tuple[str, ...], wanted: set[str]) -> None:
    assert in_bash(bash_script, folder, "mdtool", *words) == wanted


def test_bash_has_every_command_and_option(bash_script: Path, tmp_path: Path) -> None:
    assert in_bash(bash_script, tmp_path, "mdtool", "''") == {*COMMANDS}
    assert {"--svg", "--html", "--depth", "--no-pager"} <= in_bash(bash_script, tmp_path, "mdtool", "show", "--")


def test_fish(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "mdtool.fish"
    script.write_text(completion("fish"))

    def completed(line: str) -> set[str]:
        run = f"source {script}; complete -C '{line}'"
        words = [shell("fish"), "--no-config", "-c", run]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
        assert not done.stderr
        return {row.split("\t")[0] for row in done.stdout.splitlines()}

    assert set(COMMANDS) <= completed("mdtool ")
    assert {"--svg", "--html"} <= completed("mdtool show --")
    assert completed("mdtool reconcile --prefer ") == {"xml", "description"}
    assert completed("mdtool show libvirt:") == {"libvirt:mail", "libvirt:mirror"}
    assert completed("mdtool show web01.yaml --id ") == {"net0", "port4"}
    assert "web01" in completed("mdtool edit ")


def test_zsh(tmp_path: Path) -> None:
    script = tmp_path / "_mdtool"
    script.write_text(completion("zsh"))
    run = (
        f"fpath=({tmp_path} $fpath); autoload -Uz compinit && compinit -u -d {tmp_path}/dump"
        " && (( $+_comps[mdtool] )) && autoload +X _mdtool && print ok"
    )
    done = subprocess.run([shell("zsh"), "-f", "-c", run], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "ok", "")
    for name in COMMANDS:
        assert f"_shtab_mdtool_{name.replace('-', '_')}_options=(" in script.read_text()


def test_the_manual_page(tmp_path: Path) -> None:
    page = tmp_path / "mdtool.1"
    page.write_text(manual())
    words = ["groff", "-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u", str(page)]
    if shutil.which("groff") is None:
        pytest.skip("groff is missing: apt-get install groff-base")
    done = subprocess.run(words, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if not line.endswith("cannot adjust line")]  # of groff 1.23
    assert (done.returncode, complaints) == (0, [])
    for name in COMMANDS:
        assert f"mdtool {name}" in done.stdout.replace("\u2010", "-")
    assert "--against" in done.stdout.replace("\u2010", "-")
