"""The words of a QEMU command line, wherever somebody keeps it: a script, a file, a running process.

A script is read and never run.  What it sets itself (variables, arrays, ``cd``) is followed; what only a run can tell
(``$1``, ``$(...)``, a variable that an ``if`` sets) is an error where QEMU's command line needs it, and nothing where not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import dropwhile
from pathlib import Path
from typing import Any

from lark import Lark, Token, Tree, UnexpectedInput

from mdtool.cache import parser_from_grammar
from mdtool.errors import InputError, Position, Report
from mdtool.files import bytes_from_file

_QEMU = re.compile(r"(.*/)?(qemu-system-[\w-]+|qemu-kvm|kvm|qemu)")
_NAME = r"[A-Za-z_]\w*"
_ASSIGNMENT = re.compile(rf"({_NAME})(\+?)=(.*)", re.S)
_EXPANSION = re.compile(rf"({_NAME})(?:\[[@*]\])?(?:(:?[-=])(.*))?", re.S)
#: words that start or end a part of a script that may not run, or run more than once
_OPENS, _CLOSES = frozenset({"if", "case", "for", "while", "until", "select"}), frozenset({"fi", "esac", "done"})
#: what may stand before the command that a line runs: shell words, and programs that run another one
_SHELL = frozenset({"exec", "then", "else", "do", "{", "!", "time", "command", "builtin", "export", "nohup", "setsid",
                    "sudo", "doas", "env", "in"})  # fmt: skip
_WRAPPERS = frozenset({"nice", "ionice", "taskset", "numactl", "chrt", "cgexec", "systemd-run", "prlimit", "unshare",
                       "stdbuf", "strace", "firejail", "runuser", "su", "setpriv", "ip"})  # fmt: skip
_ASKS = frozenset({"-version", "--version", "-help", "--help", "-h"})
_RUN_IT = "write its value into the script, or import the running QEMU with pid:N"
#: the folder of the script itself, as scripts go there
_OWN_FOLDER = re.compile(r"""["']?\$\(\s*dirname\s+["']?\$(\{?BASH_SOURCE(\[0\])?\}?|0)["']?\s*\)["']?""")
_HERE = "\0"


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


# --- one script ----------------------------------------------------------------------------------------------------

#: what a shell would have to run, and for what
_RUNS = {"RUN_HERE": "what `...` prints", "GLOB": "which files * and ? stand for"}
#: the pieces that a word expands to: (text, whether a blank in it separates words)
Pieces = list[tuple[str, bool]]


class _Unknown(Exception):
    """A word that only a run can tell."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass
class _Shell:
    """What a script has set so far."""

    text: str
    file: str
    folder: str | None
    report: Report
    variables: dict[str, list[str]] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)  # variables that only a run can tell: why
    depth: int = 0

    def at(self, token: Token | Tree[Token]) -> Position:
        line, column = (token.line, token.column) if isinstance(token, Token) else (token.meta.line, token.meta.column)
        return Position(self.file, (line or 2) - 1, column or 1)

    def source(self, part: Tree[Token]) -> str:
        """A part as it is written."""
        return self.text[part.meta.start_pos : part.meta.end_pos]

    def words(self, parts: Sequence[Any]) -> list[str]:
        """A word as the shell expands it: several where an unquoted variable holds blanks, none where it is empty."""
        found: list[str] = []
        grows = False  # whether what comes next belongs to the last word

        def add(text: str) -> None:
            nonlocal grows
            if grows:
                found[-1] += text
            else:
                found.append(text)
            grows = True

        for index, part in enumerate(parts):
            for number, (text, splits) in enumerate(self._pieces(part, index == 0)):
                grows = grows and not (number > 0 and not splits)  # each element of a quoted array is a word
                for count, chunk in enumerate(re.split(r"[ \t\n]+", text) if splits else [text]):
                    grows = grows and count == 0
                    if chunk or not splits:
                        add(chunk)
        return found

    def _pieces(self, part: Any, first: bool) -> Pieces:
        if isinstance(part, Tree):
            if part.data == "double":
                inner = [piece for child in part.children for piece in self._pieces(_Quoted(child), False)]
                if len(part.children) == 1 and len(inner) != 1:
                    return inner  # "${array[@]}": its elements, or nothing at all
                return [("".join(text for text, _ in inner), False)]
            raise _Unknown("what $(...) prints")
        quoted = isinstance(part, _Quoted)
        token = part.token if quoted else part
        if isinstance(token, Tree):
            raise _Unknown("what $(...) prints")
        if token.type == "VARIABLE":
            values = self._variable(str(token))
            return [(" ".join(values), True)] if not quoted else [(value, False) for value in values]
        if token.type in _RUNS:
            raise _Unknown(_RUNS[token.type])
        text = _LITERAL[token.type](str(token)) if token.type in _LITERAL else str(token)
        if first and token.type == "PLAIN" and re.match(r"~(/|$)", text):
            text = os.path.expanduser("~") + text[1:]
        return [(text, False)]

    def _variable(self, text: str) -> list[str]:
        name = text[1:].removeprefix("{").removesuffix("}")
        if name in ("@", "*"):
            self.report.warn(f"{text}: what the script is called with is left out", rule="script-variable")
            return []
        match = _EXPANSION.fullmatch(name)
        if match is None:
            raise _Unknown(f"what {text} is")
        name, default = match[1], match[3]
        if name in self.unknown:
            raise _Unknown(self.unknown[name])
        if name in self.variables:
            values = self.variables[name]
            return values if "[" in text or len(values) == 1 else values[:1]
        if name == "HOME":
            return [os.path.expanduser("~")]
        if default is not None and not re.search(r"[$`\\'\"]", default):
            self.report.warn(
                f"${name} is not set in the script: its default, {default!r}, was taken", rule="script-variable"
            )
            return [default]
        raise _Unknown(f"${name} is set outside of the script")

    def follow(self, command: Tree[Token], *, perhaps: bool) -> None:
        """Assignments and ``cd`` of a command that is not QEMU's; ``perhaps`` where another one decides whether it runs."""
        words = list(dropwhile(lambda word: self.source(word) in _SHELL, _words(command)))
        head = self.source(words[0]) if words else ""
        self.depth += (head in _OPENS) - (head in _CLOSES)
        perhaps = perhaps or self.depth > 0
        for part in command.children:
            if isinstance(part, Tree) and part.data == "array":
                self._array(part, perhaps)
        if head == "cd":
            self._cd(words)
        elif head in ("read", "getopts", "for", "mapfile"):
            names = (self.source(word) for word in words[1:])
            self.unknown |= {name: f"${name} is read when the script runs" for name in names if re.fullmatch(_NAME, name)}
        for word in words[head in ("readonly", "local", "declare", "typeset") :]:
            if not self._assign(word, perhaps):
                break

    def _assign(self, word: Tree[Token], perhaps: bool) -> bool:
        start = word.children[0]
        match = _ASSIGNMENT.fullmatch(str(start)) if isinstance(start, Token) and start.type == "PLAIN" else None
        if match is None:
            return isinstance(start, Token) and str(start).startswith("-")
        name, more, rest = match.groups()
        try:
            parts = ([Token("PLAIN", rest)] if rest else []) + word.children[1:]
            value = "".join(_joined(self._pieces(part, index == 0)) for index, part in enumerate(parts))
        except _Unknown as error:
            self.unknown[name] = f"${name} is {error.what}" if not error.what.startswith("$") else error.what
            return True
        self._set(name, [("".join(self.variables.get(name, [])) if more else "") + value], perhaps)
        return True

    def _array(self, array: Tree[Token], perhaps: bool) -> None:
        start, *words = array.children
        name = str(start).removesuffix("(").removesuffix("=").removesuffix("+")
        try:
            found = [text for word in words if isinstance(word, Tree) for text in self.words(word.children)]
        except _Unknown as error:
            self.unknown[name] = error.what
            return
        self._set(name, [*(self.variables.get(name, []) if "+=" in str(start) else []), *found], perhaps)

    def _set(self, name: str, values: list[str], perhaps: bool) -> None:
        if perhaps:
            self.unknown[name] = f"${name} is set under a condition, or in a loop"
        else:
            self.unknown.pop(name, None)
            self.variables[name] = values

    def _cd(self, words: Sequence[Tree[Token]]) -> None:
        where = _OWN_FOLDER.sub(_HERE, self.source(words[1])) if len(words) == 2 else ""
        try:
            if where.startswith(_HERE):
                self.folder = os.path.join(os.path.dirname(os.path.abspath(self.file)), where[1:].lstrip("/"))
            else:
                (target,) = self.words(words[1].children) if len(words) == 2 else [os.path.expanduser("~")]
                self.folder = os.path.join(self.folder or "", target) if self.folder or target.startswith("/") else None
        except (_Unknown, ValueError):
            self.folder = None


@dataclass(frozen=True, slots=True)
class _Quoted:
    """A part of a word between double quotes."""

    token: Any


def _unescaped(text: str) -> str:
    kept = "" if text[1] == "\n" else text[1]
    return kept if text[1] in '"\\$`\n' else text


_LITERAL: Mapping[str, Callable[[str], str]] = {
    "SINGLE": lambda text: text[1:-1],
    "ESCAPED": lambda text: text[1:],
    "ESCAPED_IN_TEXT": _unescaped,
}


def _joined(pieces: Pieces) -> str:
    return " ".join(text for text, _ in pieces)


def _words(command: Tree[Token]) -> list[Tree[Token]]:
    return [part for part in command.children if isinstance(part, Tree) and part.data == "word"]


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
    shell = _Shell("\n" + text.rstrip() + "\n", file, folder, report)
    found: Command | None = None
    separator = ""
    for command in tree.children:
        if isinstance(command, Token):
            separator = str(command)
        elif (start := _start(command, shell)) is None:
            shell.follow(command, perhaps="&&" in separator or "||" in separator)
        elif found is None:
            found = _command(command, start, shell)
        else:
            what = "another QEMU command line, which was not looked at"
            report.warn(what, at=shell.at(command), remedy="import it from a file of its own", rule="script-qemu")
    if found is None:
        at = Position(file, 1)
        raise InputError("no QEMU command line in it", at=at, expected="qemu-system-...", rule="script-qemu")
    return found


def _start(command: Tree[Token], shell: _Shell) -> int | None:
    """Which of a command's words is the QEMU binary; None where the command is another one."""
    words = _words(command)
    runs = True
    for number, word in enumerate(words):
        try:
            (text,) = shell.words(word.children)[:1]
        except (_Unknown, ValueError):
            runs = runs and number > 0 and shell.source(words[0]) in _WRAPPERS
            continue
        if _QEMU.fullmatch(text):
            asks = len(words) == number + 2 and shell.source(words[number + 1]) in _ASKS
            return number if runs and not asks else None
        wrapped = any(shell.source(earlier) in (*_WRAPPERS, "env", "sudo") for earlier in words[:number])
        runs = runs and (text in _SHELL or text in _WRAPPERS or wrapped or bool(_ASSIGNMENT.fullmatch(shell.source(word))))
    return None


def _command(command: Tree[Token], start: int, shell: _Shell) -> Command:
    words = _words(command)
    environment: dict[str, str] = {}
    for word in words[:start]:
        source = shell.source(word)
        if match := _ASSIGNMENT.fullmatch("".join(_known(shell, word))):
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
        except _Unknown as error:
            what = error.what if error.what.startswith("$") else f"only a run can tell {error.what}"
            raise InputError(what, at=at, remedy=_RUN_IT, rule="script-variable") from None
        for warning in shell.report.warnings[before:]:
            warning.at = at
    here = next((part for part in command.children if isinstance(part, Token) and part.type == "HEREDOC"), None)
    for one in found:
        _readable(one)
    stdin = Word(str(here).partition("\n")[2].rpartition("\n")[0] + "\n", shell.at(here)) if here is not None else None
    return Command(tuple(found), shell.folder, environment, stdin)


_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def _readable(word: Word) -> None:
    """Raises InputError for what is no text: the guest XML could not hold it."""
    if found := _UNREADABLE.search(word.text):
        what = f"a word with {found[0]!a} in it, which is no text"
        raise InputError(what, at=word.position, expected="UTF-8 without control characters", rule="script-text")


def _known(shell: _Shell, word: Tree[Token]) -> list[str]:
    try:
        return shell.words(word.children)
    except _Unknown:
        return []


# --- wherever it is ------------------------------------------------------------------------------------------------


def command_from_source(source: str, report: Report) -> Command:
    """The command line of ``pid:N``, of a file (a script, or a copy of /proc/N/cmdline), of ``-``, which is stdin, or
    ``source`` itself as a command line.  Raises InputError.
    """
    if re.fullmatch(r"pid:\d+", source):
        return _of_process(source, report)
    if source == "-":
        return _from_data(bytes_from_file(source), "stdin", report, os.getcwd())
    if re.match(r"\S*\s+-", source) and not os.path.exists(source[:4096]):
        return command_from_script(source, "command line", report, os.getcwd())
    try:
        data = bytes_from_file(source)
    except (InputError, ValueError) as error:
        why = error.what.rpartition(": ")[2] if isinstance(error, InputError) else "a name with a NUL"
        raise InputError(f"cannot read {source[:200]!r}: {why}", expected="a script, pid:N, or a command line") from None
    return _from_data(data, source, report, os.getcwd())


def _of_process(source: str, report: Report) -> Command:
    """The arguments of a running QEMU: what was plugged or changed since is not in them, and that is said."""
    process = Path("/proc") / source[4:]
    try:
        data = (process / "cmdline").read_bytes()
        folder, binary = os.readlink(process / "cwd"), os.readlink(process / "exe")
    except OSError as error:
        raise InputError(f"cannot read {process}: {error.strerror}", remedy="is it running, and yours?") from None
    found = replace(_from_words(data, source), folder=folder)
    what = f"{source} is imported as it was started; what was plugged or unplugged since is not in its arguments"
    report.warn(what, remedy=f"mdtool diff GUEST.yaml {source} shows it, where QEMU has a free monitor", rule="process")
    if not _QEMU.fullmatch(found.words[0].text):
        raise InputError(f"{source} is {os.path.basename(binary)}, and no QEMU", expected="a QEMU", rule="script-qemu")
    return replace(found, words=(replace(found.words[0], text=binary.removesuffix(" (deleted)")), *found.words[1:]))


def _from_data(data: bytes, name: str, report: Report, folder: str) -> Command:
    if b"\0" in data:
        return replace(_from_words(data, name), folder=folder)
    return command_from_script(data.decode(errors="surrogateescape"), name, report, folder)


def _from_words(data: bytes, name: str) -> Command:
    """/proc/N/cmdline, or a copy: each word ends in a NUL.  A word's place is its number, in the column's place."""
    words = data.decode(errors="surrogateescape").removesuffix("\0").split("\0")
    found = tuple(Word(text, Position(name, 1, number)) for number, text in enumerate(words, 1))
    for word in found:
        _readable(word)
    return Command(found)


__all__ = ["Command", "Word", "command_from_script", "command_from_source", "grammar"]
