"""Hostile text in every slot of every parser's input, for a minute; `make fuzz` goes on as long as one likes."""

from __future__ import annotations

import random
import time
from pathlib import Path

import fuzz_bash
import pytest
from fuzz import PARSERS, damaged, fault, hostile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdtool.commandline.shell import Shell
from mdtool.errors import InputError, MdtoolError

#: inputs for each parser: a minute for all of them together
COUNTS = {"guest": 150, "reconcile": 150, "yaml": 250, "xml": 400, "merge": 60, "editor": 80, "rehearsed": 300}
MANY = 500


@pytest.fixture(autouse=True, scope="module")
def one_version() -> None:
    """A QEMU is not asked for its version for every input."""
    from functools import cache

    from mdtool.launch import prepare

    prepare.version_of = cache(prepare.version_of)


@pytest.mark.parametrize("name", PARSERS)
def test_whatever_a_parser_gets_it_is_read_or_an_error(name: str) -> None:
    parser = PARSERS[name]
    seeds = parser.seeds()
    assert seeds and any(fault(parser, seed) is None for seed in seeds)

    @settings(max_examples=COUNTS.get(name, MANY), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.randoms(use_true_random=False))
    def inputs(chance: random.Random) -> None:
        text = damaged(chance, parser, seeds)
        assert fault(parser, text) is None, text[:2000]

    inputs()


@pytest.mark.parametrize("name", PARSERS)
def test_good_inputs_are_read(name: str) -> None:
    """A fuzz of inputs that are refused at the first character would show nothing."""
    parser = PARSERS[name]
    read = 0
    for seed in parser.seeds():
        try:
            parser.read(seed)
            read += 1
        except MdtoolError:
            pass
    assert read or name == "qtree"  # which no object tree stands behind here


def test_a_fault_is_found() -> None:
    """The control: exceptions of Python and slowness are faults, errors of ours are none."""
    from dataclasses import replace

    def error(text: str) -> None:
        raise InputError(text)

    def crash(text: str) -> None:
        int(text)

    def slow(_: str) -> None:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    parser = PARSERS["config"]
    assert fault(replace(parser, read=error), "x") is None
    assert "ValueError" in str(fault(replace(parser, read=crash), "x"))
    import fuzz

    before, fuzz.SLOW = fuzz.SLOW, 0.01
    try:
        assert "took" in str(fault(replace(parser, read=slow), "x"))
    finally:
        fuzz.SLOW = before


def test_the_same_seed_gives_the_same_inputs() -> None:
    parser = PARSERS["script"]
    one, two = ([damaged(random.Random(seed), parser, parser.seeds()) for seed in range(50)] for _ in range(2))
    assert one == two
    assert len(set(one)) > 40 and len({hostile(random.Random(seed)) for seed in range(500)}) > 100


def test_scripts_are_read_as_bash_runs_them() -> None:
    """Random ones, in the words that QEMU is given; `make fuzz-bash` goes on."""
    found = fuzz_bash.tried(seed=0, first=0)
    assert not [report for kind, report in found if kind == "wrong"]
    assert sum(kind == "as bash has it" for kind, _ in found) > len(found) / 2


def test_a_script_that_is_read_otherwise_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Shell, "_shaped", lambda shell, name, value, old: value)
    text = "#!/bin/bash\nx=2\ndeclare -u up=abc\nqemu-system-x86_64 -m $up $x\n"
    bash = fuzz_bash.Bash(tmp_path)
    assert "ABC" in (fuzz_bash.fault(text, bash) or "")
    assert "x=2" not in fuzz_bash.smaller(text.replace(" $x", ""), bash)
