"""Scripts are read as bash runs them: the same words for QEMU, or an error or a warning at its place; never other words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import mdtool

from mdtool.commandline.recorded import command_by_running
from mdtool.commandline.resolved import options_from_command
from mdtool.commandline.script import command_from_script
from mdtool.errors import InputError, Report

END = 'qemu-system-x86_64 $A "${L[@]}"\n'
#: name -> (what comes before QEMU's line, whether it can be told without running it)
SCRIPTS = {
    "plain": ('A="-device a"\nA+=" -device b"\nL=(-device c)\nL+=(-device d)\n', True),
    "if-then-append": ('A="-device a"\nif true; then A+=" -device b"; fi\nA+=" -device c"\n', False),
    "if-then-array": ("L=(-device a)\nif true; then L+=(-device b); fi\nL+=(-device c)\n", False),
    "and-append": ('A="-device a"\ntrue && A+=" -device b"\nA+=" -device c"\n', False),
    "and-group": ('A="-device a"\nfalse && { A+=" -device b"; A+=" -device c"; }\nA+=" -device d"\n', False),
    "group": ('{ A="-device a"; L=(-device b); }\n', True),
    "set-anew": ('if true; then A="-device a"; fi\nA="-device b"\n', True),
    "case": ('A="-device a"\ncase $(uname) in\nLinux) A+=" -device b" ;;\n*) A+=" -device c" ;;\nesac\n', False),
    "loop": ('for i in 1 2; do L+=("-device" "d$i"); done\n', False),
    "uncalled": ('f() {\n A+=" -device b"\n}\nA="-device a"\n', True),
    "called": ('f() {\n A+=" -device b"\n}\nA="-device a"\nf\n', True),
    "called-with": ('add() { L+=(-device "$1"); }\nadd a\nadd b\n', True),
    "function-word": ("function add {\n L+=(-device x)\n}\nadd\nadd\n", True),
    "function-one-line": ("function add { L+=(-device x); }\nadd\n", True),
    "one-line": ('f() { A+=" -device b"; }; A="-device a"; f\n', True),
    "called-perhaps": ('f() { A+=" -device b"; }\nA="-device a"\ntrue && f\nA+=" -device c"\n', False),
    "function-that-asks": ('f() { if true; then A+=" -device b"; fi; }\nA="-device a"\nf\n', False),
    "subshell": ('A="-device a"\n(A="-device b")\n', True),
    "element": ("L=(-device a)\nL[2]=-device\nL[3]=b\n", False),
    "sourced": ('A="-device a"\necho \'A="-device b"\' > conf\n. ./conf\n', False),
    "eval": ('A="-device a"\neval \'A="-device b"\'\n', False),
    "read": ('A="-device a"\nread A <<< "-device b"\n', False),
    "unset": ('A="-device a"\nunset A\nL=(-device c)\n', True),
    "default": ('X=""\nA="-device ${X:-a}"\n', True),
}
POSITIONAL = {
    "set": ('set -- -device a\nset -- "$@" -device b\nqemu-system-x86_64 "$@"\n', True),
    "set-if": ('set -- -device a\nif true; then set -- "$@" -device b; fi\nqemu-system-x86_64 "$@"\n', False),
    "main": ('main() {\n qemu-system-x86_64 -device "$1" "$@"\n}\nmain a -device b\n', True),
    "shift": ("set -- a b c\nshift\nqemu-system-x86_64 -device $1\n", True),
    "in-a-function": ("start() { qemu-system-x86_64 -device a; }\nstart\n", True),
    "never": ("start() { qemu-system-x86_64 -device a; }\n", False),
}
ALL = {**{name: ("A=\nL=()\n" + text + END, known) for name, (text, known) in SCRIPTS.items()}, **POSITIONAL}


@pytest.fixture
def by_bash(tmp_path: Path) -> Path:
    stub = tmp_path / "bin" / "qemu-system-x86_64"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    stub.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("name", ALL)
def test_what_qemu_is_told(name: str, by_bash: Path) -> None:
    text, known = ALL[name]
    environment = {**os.environ, "PATH": f"{by_bash}/bin:{os.environ['PATH']}"}
    words = ["bash", "-c", text]
    done = subprocess.run(words, cwd=by_bash, env=environment, capture_output=True, text=True, timeout=300, check=True)
    report = Report()
    try:
        command = command_from_script(text, "s.sh", report)
    except InputError as error:
        assert not known, error
        assert error.at is not None
    else:
        assert known
        assert [word.text for word in command.words[1:]] == done.stdout.split("\n")[:-1]


RUN = """#!/bin/bash
cd "$(dirname "$0")"
args=(-m 128 -nodefaults)
for n in $(seq 2); do args+=(-device "virtio-rng-pci,id=r$n"); done
if [ "$(qemu-system-x86_64 -version | wc -l)" -gt 0 ]; then args+=(-device virtio-balloon-pci,id=b); fi
sudo -u nobody A=1 qemu-system-x86_64 "${args[@]}" -readconfig /dev/stdin <<EOF2
[device "k"]
  driver = "virtio-keyboard-pci"
EOF2
"""


def test_a_script_is_run_with_a_qemu_that_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "vm.sh").write_text(RUN)
    report, said = Report(), list[str]()
    command = command_by_running(str(tmp_path / "vm.sh"), report, said.append)
    assert [word.text for word in command.words] == [
        *("qemu-system-x86_64", "-m", "128", "-nodefaults", "-device", "virtio-rng-pci,id=r1", "-device"),
        *("virtio-rng-pci,id=r2", "-device", "virtio-balloon-pci,id=b", "-readconfig", "/dev/stdin"),
    ]
    assert command.folder == str(tmp_path)
    assert len(said) == 1
    assert {option.id for option in options_from_command(command, report) if option.name == "device"} == {
        "r1",
        "r2",
        "b",
        "k",
    }


@pytest.mark.parametrize(
    ("text", "rule"), [("true\n", "script-qemu"), ("true\n/usr/bin/qemu-system-x86_64 -S\n", "script-run")]
)
def test_a_script_that_cannot_be_run_so(text: str, rule: str, tmp_path: Path) -> None:
    (tmp_path / "vm.sh").write_text(text)
    with pytest.raises(InputError) as caught:
        command_by_running(str(tmp_path / "vm.sh"), Report(), lambda _: None)
    assert caught.value.rule == rule


def test_a_script_is_run_only_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "vm.sh"
    script.write_text(f"touch {tmp_path}/ran\nqemu-system-x86_64 -nodefaults\n")
    files = ["--xml", str(tmp_path / "vm.xml"), "-o", str(tmp_path / "vm.yaml")]
    assert mdtool("import", script, *files) == 0
    assert not (tmp_path / "ran").exists()
    assert mdtool("import", "--run", script, *files) == 0
    assert (tmp_path / "ran").exists()
    assert "running" in capsys.readouterr().err
