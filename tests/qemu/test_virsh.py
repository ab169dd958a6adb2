"""The one runner of virsh: which guest a command is about, and in which language it answers."""

from __future__ import annotations

import ast
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mdtool.errors import MonitorError, QemuError
from mdtool.qemu.virsh import Virsh

UUID = "6a9a3a9a-7f3a-4c55-8f4d-0f4c14ad1a11"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A virsh that is a shell script."""

    def write(body: str) -> None:
        (tmp_path / "virsh").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "virsh").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return write


@pytest.mark.parametrize("name", ["3", "-S", "6a9a3a9a-7f3a-4c55-8f4d-0f4c14ad1a12"])
def test_a_name_that_virsh_would_take_for_another_guest_is_given_by_uuid(name: str, fake: Callable[[str], None]) -> None:
    fake(f"echo '11111111-7f3a-4c55-8f4d-0f4c14ad1a11  other'; echo '{UUID}  {name}'")
    assert Virsh().named(name) == UUID
    assert Virsh().named("web01") == "web01"


def test_a_guest_that_is_not_there_is_refused_and_no_other_taken(fake: Callable[[str], None]) -> None:
    fake(f"echo '{UUID}  web3'")
    with pytest.raises(QemuError, match="libvirt has no guest '3'"):
        Virsh().named("3")


def test_states_are_read_in_any_locale(fake: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    fake('case "$LC_ALL$LANGUAGE" in C.UTF-8) echo "shut off";; *) echo ausgeschaltet;; esac')
    assert Virsh().state("web01") == "shut off"


def test_what_virsh_says_is_the_error(fake: Callable[[str], None]) -> None:
    fake("echo 'error: Failed to start' >&2; echo 'error: no file' >&2; exit 1")
    with pytest.raises(QemuError, match="libvirt: start: Failed to start; no file"):
        Virsh()("start", "web01")
    fake("exec sleep 60")
    with pytest.raises(MonitorError, match=r"virsh start: no answer within 0\.1 s"):
        Virsh()("start", "web01", timeout=0.1)


def test_nothing_else_runs_virsh() -> None:
    """Lists that begin with "virsh" are command lines."""
    for path in Path(__file__).parents[2].joinpath("mdtool").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            first = node.elts[0] if isinstance(node, (ast.List, ast.Tuple)) and node.elts else None
            if isinstance(first, ast.Constant) and first.value == "virsh":
                assert path.name == "virsh.py", f"{path}:{node.lineno}: virsh is run by mdtool/qemu/virsh.py alone"
