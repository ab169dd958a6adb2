"""The words of scripts and of options, at random: nothing hangs, nothing is lost without a word, every error has its place."""

from __future__ import annotations

import json
import random
import shlex
import string
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mdtool.commandline.option import bag_from_text, options_from_words, text_from_bag, words_from_options
from mdtool.commandline.table import IMPLIED
from mdtool.errors import Errors, InputError, MdtoolError, Report
from mdtool.importer import bag_by_grammar, command_from_script, command_from_source, options_from_command
from tests.support_waiting import until

SCRIPTS = sorted((Path(__file__).parents[1] / "importer").glob("*.sh"))
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
#: what breaks readers of options: separators, quotes, escapes, keys without values
ODD = st.text(st.sampled_from(",=no{}[]\"'\\ \n\t;:.é\0x1"), max_size=30)
SHELL = st.text(st.sampled_from("qemu -m$(){}[]<>|&;#'\"`\\*?!~=\n\r\t 1AE@"), max_size=60)


def words_of(script: str) -> list[str]:
    return [word.text for word in command_from_script(script, "s.sh", Report(), "/").words]


@settings(max_examples=400, deadline=None)
@given(st.one_of(ODD, TEXT), st.sampled_from([None, "driver", "type"]))
def test_what_is_read_written_and_read_again_is_the_same(text: str, implied: str | None) -> None:
    try:
        bag = bag_from_text(text, implied)
    except InputError:
        return
    written = json.dumps(bag) if text.lstrip().startswith("{") else text_from_bag(bag, implied)
    assert bag_from_text(written, implied) == bag


@settings(max_examples=200, deadline=None)
@given(st.one_of(ODD, TEXT))
def test_the_quick_reader_is_the_grammars_for_any_text(text: str) -> None:
    assume(not text.lstrip().startswith("{"))
    assert bag_from_text(text) == bag_by_grammar(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(TEXT, ODD.filter(lambda text: "\0" not in text)), max_size=8))
def test_quoted_words_come_back(words: list[str]) -> None:
    """Whatever Python's shlex quotes, a shell's reader reads."""
    words = [word.replace("\r", "") for word in words]
    assert words_of("qemu-system-x86_64 " + shlex.join(words)) == ["qemu-system-x86_64", *words]


@settings(max_examples=400, deadline=None)
@given(SHELL, SHELL)
def test_any_script_is_read_or_refused_at_its_place(before: str, after: str) -> None:
    script = f"{before}\nqemu-system-x86_64 -m 64 {after}"
    try:
        command = command_from_script(script, "s.sh", Report(), "/")
    except InputError as error:
        assert error.at is not None and 1 <= error.at.line <= script.count("\n") + 2
    else:
        assert all(word.position.line <= script.count("\n") + 1 for word in command.words)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCRIPTS), st.integers(0, 2**32))
def test_a_damaged_script_is_an_import_or_an_error(path: Path, seed: int) -> None:
    """Bytes of real scripts dropped, doubled and changed."""
    dice, text = random.Random(seed), path.read_text()
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(text))
        text = (
            text[:at]
            + dice.choice(["", text[at] * 2, dice.choice(string.printable), ",,", "{", "'", "\\\n"])
            + text[at + 1 :]
        )
    report = Report()
    try:
        options = options_from_command(command_from_script(text, path.name, report, "/vm"), report)
    except MdtoolError as error:
        assert all(one.at is not None for one in (error.errors if isinstance(error, Errors) else [error]))
    else:
        assert all(option.position is not None for option in options)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(["-m", "-S", "-device", "-later", "--snapshot", "x", "-"]), TEXT), max_size=8))
def test_options_written_are_the_options_read(words: list[str]) -> None:
    try:
        options = options_from_words(words)
    except InputError:
        return
    assume(not any(option.name == "" for option in options))
    assert options_from_words(words_from_options(options)) == options


def test_a_long_script_takes_as_long_as_it_is() -> None:
    """Twice the text, and not four times the time: characters of each kind that could be read twice."""

    def seconds(script: str) -> float:
        start = time.process_time()
        with suppress(InputError):
            words_of(script)
        return time.process_time() - start

    for make in (
        lambda size: "qemu -append '" + "x" * size + "'",
        lambda size: 'qemu -append "' + "x$ " * (size // 3) + '"',
        lambda size: "qemu " + "a=b,," * (size // 5),
        lambda size: "qemu -m 1 " + "\\\n" * (size // 2),
        lambda size: "A=" + "$(" * (size // 2),
        lambda size: "qemu " + "`" * (size + 1),
    ):
        until(lambda make=make: seconds(make(80_000)) < 3 * seconds(make(40_000)) + 0.1)  # what is squared never is
    many = "qemu " + " ".join(f"-device 'e1000,x={number}'" for number in range(1000))
    until(lambda: seconds(f"{many} {many[5:]}") < 3 * seconds(many) + 0.1)
    bag = bag_from_text("x" * 500_000 + ",," * 100_000 + "," + "y=1," * 50_000)
    assert len(bag["y"]) == 50_000


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("A='x y'; qemu -name $A", ["qemu", "-name", "x", "y"]),
        ("A='x y'; qemu -name \"$A\"", ["qemu", "-name", "x y"]),
        ("A=(-m '1 2'); A+=(-S); qemu \"${A[@]}\" ${A[*]}", ["qemu", "-m", "1 2", "-S", "-m", "1", "2", "-S"]),
        ("E=; qemu $E \"$E\" a$E\"b\"", ["qemu", "", "ab"]),
        ("qemu -m ${M:-64} -smp ${N-2}", ["qemu", "-m", "64", "-smp", "2"]),
        ("sudo nice -n 5 env X=1 qemu -m 1", ["qemu", "-m", "1"]),
        ("qemu -m 1 >/dev/null 2>&1 </dev/null &", ["qemu", "-m", "1"]),
        ("qemu -append \"it's \\$x \\\"q\\\" 5\\% #no\" # yes", ["qemu", "-append", 'it\'s $x "q" 5\\% #no']),
        ("qemu -m \\\r\n 1\r\n", ["qemu", "-m", "1"]),
        ("cat <<EOF\nqemu -m $(\nEOF\nqemu -m 2", ["qemu", "-m", "2"]),
        ("killall qemu-system-x86_64\nqemu -m 3", ["qemu", "-m", "3"]),
        ("echo qemu -m 1; qemu --version; exec qemu -m 4", ["qemu", "-m", "4"]),
        ("f() { qemu -m 5; }; f", ["qemu", "-m", "5"]),
        ("for x in 1 2; do Y=$x; done; A=$(date); qemu -m 6", ["qemu", "-m", "6"]),
        ("qemu -cpu max,+a\\ b", ["qemu", "-cpu", "max,+a b"]),
    ],
)  # fmt: skip
def test_a_script_is_read_as_a_shell_reads_it(script: str, words: list[str]) -> None:
    assert words_of(script) == words


def test_what_a_script_leaves_to_its_run_is_said() -> None:
    report = Report()
    script = 'cd /vms\ntaskset -c 0 qemu -m ${M:-64} "$@"\nqemu -m 2\n'
    command = command_from_script(script, "s.sh", report, "/")
    assert command.folder == "/vms"
    assert [f"{warning.at}: {warning.what}" for warning in report.warnings] == [
        "s.sh:2:22: $M is not set in the script: its default, '64', was taken",
        "s.sh:2:31: $@: what the script is called with is left out",
        "s.sh:2:1: taskset before QEMU is not carried over",
        "s.sh:3:1: another QEMU command line, which was not looked at",
    ]


def test_words_with_nuls_are_a_process_s(tmp_path: Path) -> None:
    path = tmp_path / "cmdline"
    path.write_bytes(b"qemu-system-x86_64\0-name\0a $b 'c\0-append\0\0-S\0")
    command = command_from_source(str(path), Report())
    assert [word.text for word in command.words] == ["qemu-system-x86_64", "-name", "a $b 'c", "-append", "", "-S"]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"qemu -m \xff", b"", b"\0\0", b"qemu\0-name\0\xff\0"])
def test_a_file_that_is_none_of_these_is_an_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    report = Report()
    with pytest.raises(InputError):
        command = command_from_source(str(path), report)
        if not command.words[0].text:
            raise InputError("no program")


def test_a_bag_of_every_option_is_read(_names: Any = None) -> None:
    """The first word without ``=`` is the value of the option's first key."""
    assert all(bag_from_text("x,y=1", key)[key] == "x" for key in IMPLIED.values())
