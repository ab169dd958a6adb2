"""The words of a QEMU command line, from a script, a file or a running process.

A script is read and never run.  What it does itself is followed (``flow``); what only a run can decide (``$1``,
``$(...)``, a variable that an ``if`` sets) is an error where QEMU's command line needs it, and ignored elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from lark import Lark

from mdtool.cache import parser_from_grammar
from mdtool.commandline.builtins import BUILTINS
from mdtool.commandline.command import Command, Word, no_command
from mdtool.commandline.invocation import ScriptFlow
from mdtool.commandline.process import arguments_of, program_in, program_name
from mdtool.commandline.state import State
from mdtool.errors import InputError, MdtoolError, Position, Report
from mdtool.files import bytes_from_file, is_standard
from mdtool.machine.document import SCRIPT, check_kind
from mdtool.records import replace
from mdtool.text import pattern


@lru_cache(maxsize=1)
def grammar() -> Lark:
    """The parser of grammar/options.lark."""
    return parser_from_grammar("options.lark", start="value", propagate_positions=True, maybe_placeholders=False)


def command_from_script(text: str, file: str, report: Report, folder: str | None = None) -> Command:
    """QEMU's command line in a script.  Raises InputError with line and column.

    ``folder`` is where the script is run; what it leaves to a run goes to ``report`` where QEMU can be had without.
    """
    text = text.replace("\r\n", "\n")
    if not text.startswith("#!") and (found := _WINDOWS.search(text)):
        what = "a script of Windows, which is not read"
        remedy = "write QEMU's command line alone, on one line, without .exe and with / in its paths"
        raise InputError(what, at=_at(file, text, found.start()), remedy=remedy, rule="script-syntax")
    return ScriptFlow(_of_unit(text, file), file, report, State({}, folder), BUILTINS).command()


_WINDOWS = pattern(r"^[ \t]*@?echo[ \t]+off\b|^(?![ \t]*(?:rem|::))[^#\n]*qemu-system-[\w-]{1,20}\.exe\b", re.I | re.M)
_UNIT = pattern(r"^\[Service\]$", re.M)
_START = pattern(r"^ExecStart=((?:\\\n|[^\n])*)", re.M)


def _of_unit(text: str, file: str) -> str:
    """What a unit of systemd starts, where it stands; any other text as it is."""
    starts = _START.finditer(text) if _UNIT.search(text) else ()
    found = next((start for start in starts if "qemu" in start[1]), None)
    if found is None:
        return text
    words = found[1].lstrip("-+!@:")
    first = found.end() - len(words)
    if specifier := next((pair for pair in re.finditer(r"%.", words) if pair[0] != "%%"), None):
        what, at = f"{specifier[0]} is what systemd makes of it", _at(file, text, first + specifier.start())
        remedy = "write its value, or import the running QEMU with pid:N"
        raise InputError(what, at=at, remedy=remedy, rule="script-variable")
    return re.sub(r"[^\n]", " ", text[:first]) + words.replace("%%", "%")


def _at(file: str, text: str, offset: int) -> Position:
    return Position(file, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


# --- wherever it is ------------------------------------------------------------------------------------------------


def command_from_source(source: str, report: Report) -> Command:
    """The command line of ``pid:N``, of a file (a script, or a copy of /proc/N/cmdline), of ``-``, which is stdin, or
    ``source`` itself as a command line.  Raises InputError.
    """
    if re.fullmatch(r"pid:\d+", source):
        return _of_process(source, report)
    if is_standard(source):
        return command_from_data(bytes_from_file(source), "stdin", report)
    if re.search(r"^\S*\s+-|(?:qemu|kvm)\S*\s+-", source) and not os.path.exists(source[:4096]):
        return command_from_script(source, "command line", report, os.getcwd())
    try:
        data = bytes_from_file(source)
    except InputError as error:
        error.expected = "a script, pid:N, or a command line"
        raise
    return command_from_data(data, source, report)


def _of_process(source: str, report: Report) -> Command:
    """The arguments of a running QEMU: what was plugged or changed since is not in them, and a warning says so."""
    process = Path("/proc") / source[4:]
    try:
        words = arguments_of(source[4:], errors="surrogateescape")
        folder, binary = os.readlink(process / "cwd"), os.readlink(process / "exe")
    except OSError as error:
        raise InputError(f"cannot read {process}: {error.strerror}", remedy="is it running, and yours?") from None
    start = program_in(words)
    if start is None:
        raise InputError(f"{source} is {program_name(source[4:])}, not a QEMU", expected="a QEMU", rule="script-qemu")
    found = replace(_from_words(words[start:], source), folder=folder)
    what = f"{source} is imported as it was started; what was plugged or unplugged since is not in its arguments"
    report.warn(what, remedy=f"mdtool diff GUEST.yaml {source} shows it, where QEMU has a free monitor", rule="process")
    if start > 0:  # what runs is its loader
        return found
    return replace(found, words=(replace(found.words[0], text=binary.removesuffix(" (deleted)")), *found.words[1:]))


def command_from_data(data: bytes, name: str, report: Report, *, other: str = "", expected: str | None = None) -> Command:
    """The command line of a script or of a copy of /proc/N/cmdline that ``name`` is; its folder is this one.

    ``other`` and ``expected`` are what an error calls what could be there beside a script.
    """
    text, folder = data.decode(errors="surrogateescape"), os.getcwd()
    try:
        if "\0" in text:
            words = text.removesuffix("\0").split("\0")
            if program_in(words) is None:
                raise no_command(name)
            return replace(_from_words(words, name), folder=folder)
        return command_from_script(text, name, report, folder)
    except MdtoolError:
        if not text.startswith("#!"):
            check_kind(text, name, SCRIPT, expected, other=other)
        raise


def _from_words(words: Sequence[str], name: str) -> Command:
    """/proc/N/cmdline, or a copy: each word ends in a NUL.  A word's place is its number, in the column's place."""
    return Command(tuple(Word(text, Position(name, 1, number)) for number, text in enumerate(words, 1)))


__all__ = ["Command", "Word", "command_from_data", "command_from_script", "command_from_source", "grammar"]
