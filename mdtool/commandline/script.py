"""The words of a QEMU command line, wherever somebody keeps it: a script, a file, a running process.

A script is read and never run.  What it sets itself (variables, arrays, ``cd``) is followed; what only a run can tell
(``$1``, ``$(...)``, a variable that an ``if`` sets) is an error where QEMU's command line needs it, and nothing where not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import dropwhile
from pathlib import Path
from typing import Any

from lark import Lark, Token, Tree, UnexpectedInput

from mdtool.cache import parser_from_grammar
from mdtool.commandline.process import arguments_of, program_in
from mdtool.commandline.shell import ASSIGNMENT, SHELL_WORDS, Shell, Unknown, words_of
from mdtool.errors import InputError, Position, Report
from mdtool.files import bytes_from_file, is_standard
from mdtool.records import dataclass, field, replace
from mdtool.text import pattern

_QEMU = pattern(r"(.*/)?(qemu-system-[\w-]+|qemu-kvm|kvm|qemu)")
#: programs that run another one
_WRAPPERS = frozenset({"nice", "ionice", "taskset", "numactl", "chrt", "cgexec", "systemd-run", "prlimit", "unshare",
                       "stdbuf", "strace", "firejail", "runuser", "su", "setpriv", "ip", "timeout", "xvfb-run",
                       "dbus-run-session"})  # fmt: skip
_ASKS = frozenset({"-version", "--version", "-help", "--help", "-h"})
_RUN_IT = "write its value into the script, run it with --run, or import the running QEMU with pid:N"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command line, unquoted, with its place."""

    text: str
    position: Position


@dataclass(frozen=True)
class Command:
    """QEMU's command line: ``words``, the binary first, and what surrounds it.

    ``folder``       what relative paths start from; None where only a run can tell
    ``environment``  variables that are set for QEMU alone
    ``stdin``        the here-document that QEMU reads, as ``/dev/stdin`` in ``-readconfig``
    ``reads_files``  whether the folder and its files are the script's own, so that ``-readconfig`` may be opened
    """

    words: tuple[Word, ...]
    folder: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: Word | None = None


@lru_cache(maxsize=1)
def grammar() -> Lark:
    """The parser of grammar/options.lark."""
    options = {"start": ["script", "value"], "propagate_positions": True, "maybe_placeholders": False}
    return parser_from_grammar("options.lark", **options)


def command_from_script(text: str, file: str, report: Report, folder: str | None = None) -> Command:
    """QEMU's command line in a script.  Raises InputError with line and column.

    ``folder`` is where the script is run; what it leaves to a run goes to ``report`` where QEMU can be had without.
    """
    text = text.replace("\r\n", "\n")
    try:
        tree = grammar().parse("\n" + text.rstrip() + "\n", start="script")
    except UnexpectedInput as error:
        at = Position(file, max(int(error.line) - 1, 1), int(error.column))
        what = "not a command line that can be read without running it"
        remedy = "give the plain command, or import the running QEMU with pid:N"
        raise InputError(what, at=at, remedy=remedy, rule="script-syntax") from None
    shell = Shell("\n" + text.rstrip() + "\n", file, folder, report)
    flow = Flow(shell)
    flow.run(tree.children)
    found = flow.found
    if found is None and flow.uncalled is not None:
        what = "QEMU is started in a function that nothing calls here"
        raise InputError(what, at=flow.uncalled, remedy=_RUN_IT, rule="script-function")
    if found is None:
        at = Position(file, 1)
        raise InputError("no QEMU command line in it", at=at, expected="qemu-system-...", rule="script-qemu")
    return found


_CALLS = 20  # functions that call each other deeper than this do not end


@dataclass
class Flow:
    """The commands of a script in the order in which they run: functions where they are called, groups, subshells.

    ``found``     QEMU's command line
    ``uncalled``  where QEMU is started in a function that is never called
    """

    shell: Shell
    found: Command | None = None
    uncalled: Position | None = None
    functions: dict[str, list[Any]] = field(default_factory=dict)
    calls: int = 0

    def run(self, items: Sequence[Any], *, perhaps: bool = False) -> None:
        separator, at = "", 0
        saved: list[tuple[dict[str, list[str]], dict[str, str], str | None]] = []
        while at < len(items):
            item = items[at]
            if (end := self._definition(items, at)) is not None:
                at = end
                continue
            if isinstance(item, Tree):
                self._command(item, perhaps or "&&" in separator or "||" in separator)
            elif item.type == "OPEN":  # what a subshell sets is gone with it
                saved.append((dict(self.shell.variables), dict(self.shell.unknown), self.shell.folder))
            elif item.type == "CLOSE" and saved:
                self.shell.variables, self.shell.unknown, self.shell.folder = saved.pop()
            separator = str(item) if isinstance(item, Token) and item.type == "END" else ""
            at += 1

    def _definition(self, items: Sequence[Any], at: int) -> int | None:
        """Where a function's definition ends that begins here, and its body is known by its name; None for no such."""
        item = items[at]
        if not isinstance(item, Tree):
            return None
        words = [self.shell.source(word) for word in words_of(item)]
        kinds = [one.type if isinstance(one, Token) else "" for one in items[at + 1 : at + 3]]
        if len(words) == 1 and kinds == ["OPEN", "CLOSE"]:
            name, start = words[0], at + 3
        elif len(words) == 2 and words[0] == "function" and kinds == ["OPEN", "CLOSE"]:
            name, start = words[1], at + 3
        elif len(words) >= 2 and words[0] == "function":
            name, start = words[1], at + (0 if "{" in words else 1)
        else:
            return None
        depth = opened = 0
        for end in range(start, len(items)):
            one = items[end]
            if isinstance(one, Token):
                depth += (one.type == "OPEN") - (one.type == "CLOSE")
                opened += one.type == "OPEN"
            else:
                said = [self.shell.source(word) for word in words_of(one)]
                depth += sum(word == "{" for word in said[:3]) - (said[:1] == ["}"])
                opened += "{" in said[:3]
            if opened and depth <= 0:
                break
        body = list(items[start : end + 1]) if start < len(items) else []
        if body and body[0] is item:  # function NAME { COMMAND: what follows the brace is the first command of the body
            brace = next(n for n, part in enumerate(item.children) if self._is(part, "{"))
            body[0] = Tree(item.data, item.children[brace + 1 :], item.meta)
        self.functions[name] = body
        for one in body:
            if isinstance(one, Tree) and self.uncalled is None and _start(one, self.shell) is not None:
                self.uncalled = self.shell.at(one)
        return start + len(body)

    def _is(self, part: Any, text: str) -> bool:
        return isinstance(part, Tree) and self.shell.source(part) == text

    def _command(self, command: Tree[Token], perhaps: bool) -> None:
        shell = self.shell
        words = list(dropwhile(lambda word: shell.source(word) in SHELL_WORDS, words_of(command)))
        name = shell.source(words[0]) if words else ""
        if name in self.functions and self.calls < _CALLS:
            shell.follow(command, perhaps=perhaps)  # for a brace before it
            self._call(name, words[1:], perhaps or shell.depth > 0 or any(shell.groups))
        elif (start := _start(command, shell)) is None:
            shell.follow(command, perhaps=perhaps)
        elif self.found is None:
            self.found = _command(command, start, shell)
        else:
            what = "another QEMU command line, which was not looked at"
            shell.report.warn(what, at=shell.at(command), remedy="import it from a file of its own", rule="script-qemu")

    def _call(self, name: str, words: Sequence[Tree[Token]], perhaps: bool) -> None:
        shell, before = self.shell, self.shell.positional
        try:
            given: list[str] | None = [text for word in words for text in shell.words(word.children)]
        except Unknown:
            given = None
        body = self.functions[name]
        shell.positional = given
        self.calls += 1
        depth = shell.depth
        if self.found is None or not any(isinstance(one, Tree) and _start(one, shell) is not None for one in body):
            self.run(body, perhaps=perhaps)
        self.calls -= 1
        shell.depth, shell.positional = depth, before


def _start(command: Tree[Token], shell: Shell) -> int | None:
    """Which of a command's words is the QEMU binary; None where the command is another one."""
    words = words_of(command)
    runs = True
    for number, word in enumerate(words):
        try:
            (text,) = shell.words(word.children)[:1]
        except (Unknown, ValueError):
            runs = runs and number > 0 and shell.source(words[0]) in _WRAPPERS
            continue
        if _QEMU.fullmatch(text):
            asks = len(words) == number + 2 and shell.source(words[number + 1]) in _ASKS
            return number if runs and not asks else None
        wrapped = any(shell.source(earlier) in (*_WRAPPERS, "env", "sudo") for earlier in words[:number])
        runs = runs and (
            text in SHELL_WORDS or text in _WRAPPERS or wrapped or bool(ASSIGNMENT.fullmatch(shell.source(word)))
        )
    return None


def _command(command: Tree[Token], start: int, shell: Shell) -> Command:
    words = words_of(command)
    environment: dict[str, str] = {}
    for word in words[:start]:
        source = shell.source(word)
        if match := ASSIGNMENT.fullmatch("".join(_known(shell, word))):
            environment[match[1]] = match[3]
            shell.variables[match[1]] = [match[3]]
        elif source in _WRAPPERS:
            what = f"{source} before QEMU is not carried over"
            remedy = "libvirt's XML says it in <cputune>, <numatune> and <resource>"
            shell.report.warn(what, at=shell.at(word), remedy=remedy, rule="script-wrapper")
    if shell.depth > 0:
        what = "QEMU is started under a condition, or in a loop: taken as it stands"
        shell.report.warn(what, at=shell.at(words[start]), rule="script-condition")
    found: list[Word] = []
    for word in words[start:]:
        at, before = shell.at(word), len(shell.report.warnings)
        try:
            found += [Word(text, at) for text in shell.words(word.children)]
        except Unknown as error:
            what = error.what if error.what.startswith("$") else f"only a run can tell {error.what}"
            raise InputError(what, at=at, remedy=_RUN_IT, rule="script-variable") from None
        for warning in shell.report.warnings[before:]:
            warning.at = at
    here = next((part for part in command.children if isinstance(part, Token) and part.type == "HEREDOC"), None)
    for one in found:
        _readable(one)
    stdin = Word(str(here).partition("\n")[2].rpartition("\n")[0] + "\n", shell.at(here)) if here is not None else None
    return Command(tuple(found), shell.folder, environment, stdin)


_UNREADABLE = pattern(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def _readable(word: Word) -> None:
    """Raises InputError for what is no text: the guest XML could not hold it."""
    if found := _UNREADABLE.search(word.text):
        what = f"a word with {found[0]!a} in it, which is no text"
        raise InputError(what, at=word.position, expected="UTF-8 without control characters", rule="script-text")


def _known(shell: Shell, word: Tree[Token]) -> list[str]:
    try:
        return shell.words(word.children)
    except Unknown:
        return []


# --- wherever it is ------------------------------------------------------------------------------------------------


def command_from_source(source: str, report: Report) -> Command:
    """The command line of ``pid:N``, of a file (a script, or a copy of /proc/N/cmdline), of ``-``, which is stdin, or
    ``source`` itself as a command line.  Raises InputError.
    """
    if re.fullmatch(r"pid:\d+", source):
        return _of_process(source, report)
    if is_standard(source):
        return command_from_data(bytes_from_file(source), "stdin", report)
    if re.match(r"\S*\s+-", source) and not os.path.exists(source[:4096]):
        return command_from_script(source, "command line", report, os.getcwd())
    try:
        data = bytes_from_file(source)
    except (InputError, ValueError) as error:
        why = error.what.rpartition(": ")[2] if isinstance(error, InputError) else "a name with a NUL"
        raise InputError(f"cannot read {source[:200]!r}: {why}", expected="a script, pid:N, or a command line") from None
    return command_from_data(data, source, report)


def _of_process(source: str, report: Report) -> Command:
    """The arguments of a running QEMU: what was plugged or changed since is not in them, and that is said."""
    process = Path("/proc") / source[4:]
    try:
        words = arguments_of(source[4:], errors="surrogateescape")
        folder, binary = os.readlink(process / "cwd"), os.readlink(process / "exe")
    except OSError as error:
        raise InputError(f"cannot read {process}: {error.strerror}", remedy="is it running, and yours?") from None
    start = program_in(words)
    if start is None:
        raise InputError(f"{source} is {os.path.basename(binary)}, and no QEMU", expected="a QEMU", rule="script-qemu")
    found = replace(_from_words(words[start:], source), folder=folder)
    what = f"{source} is imported as it was started; what was plugged or unplugged since is not in its arguments"
    report.warn(what, remedy=f"mdtool diff GUEST.yaml {source} shows it, where QEMU has a free monitor", rule="process")
    if start > 0:  # what runs is its loader
        return found
    return replace(found, words=(replace(found.words[0], text=binary.removesuffix(" (deleted)")), *found.words[1:]))


def command_from_data(data: bytes, name: str, report: Report) -> Command:
    """The command line of a script or of a copy of /proc/N/cmdline that ``name`` is; its folder is this one."""
    folder = os.getcwd()
    if b"\0" in data:
        words = data.decode(errors="surrogateescape").removesuffix("\0").split("\0")
        return replace(_from_words(words, name), folder=folder)
    return command_from_script(data.decode(errors="surrogateescape"), name, report, folder)


def _from_words(words: Sequence[str], name: str) -> Command:
    """/proc/N/cmdline, or a copy: each word ends in a NUL.  A word's place is its number, in the column's place."""
    found = tuple(Word(text, Position(name, 1, number)) for number, text in enumerate(words, 1))
    for word in found:
        _readable(word)
    return Command(found)


__all__ = ["Command", "Word", "command_from_data", "command_from_script", "command_from_source", "grammar"]
