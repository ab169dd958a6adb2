"""What a script has set, as far as it can be told without running it: variables, arrays, positional words, the folder.

A word whose value only a run can tell raises ``Unknown``; so does a variable that a condition, a loop, a file that is read
or an assignment to one element of an array may have changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import dropwhile
from typing import Any

from lark import Token, Tree

from mdtool.errors import Position, Report
from mdtool.records import dataclass, field
from mdtool.text import pattern

NAME = r"[A-Za-z_]\w*"
ASSIGNMENT = pattern(rf"({NAME})(\+?)=(.*)", re.S)
_ELEMENT = pattern(rf"({NAME})\[")
_EXPANSION = pattern(rf"({NAME})(?:\[[@*]\])?(?:(:?[-=])(.*))?", re.S)
#: words that may stand before the command that a line runs
SHELL_WORDS = frozenset({"exec", "then", "else", "elif", "do", "{", "!", "time", "command", "builtin", "export", "nohup",
                         "setsid", "sudo", "doas", "env", "in"})  # fmt: skip
#: the folder of the script itself, as scripts go there
_OWN_FOLDER = pattern(r"""["']?\$\(\s*dirname\s+["']?\$(\{?BASH_SOURCE(\[0\])?\}?|0)["']?\s*\)["']?""")
_HERE = "\0"


#: words that start or end a part of a script that may not run, or run more than once
_OPENS, _CLOSES = frozenset({"if", "case", "for", "while", "until", "select"}), frozenset({"fi", "esac", "done"})
#: what a shell would have to run, and for what
_RUNS = {"RUN_HERE": "what `...` prints", "GLOB": "which files * and ? stand for"}
#: the pieces that a word expands to: (text, whether a blank in it separates words)
Pieces = list[tuple[str, bool]]


class Unknown(Exception):
    """A word that only a run can tell."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass
class Shell:
    """What a script has set so far."""

    text: str
    file: str
    folder: str | None
    report: Report
    variables: dict[str, list[str]] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)  # variables that only a run can tell: why
    positional: list[str] | None = None  # what $1, $2, ... are; None where only a run can tell
    depth: int = 0  # of conditions and loops
    groups: list[bool] = field(default_factory=list)  # of each open { }: whether it may not run

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
            raise Unknown("what $(...) prints")
        quoted = isinstance(part, _Quoted)
        token = part.token if quoted else part
        if isinstance(token, Tree):
            raise Unknown("what $(...) prints")
        if token.type == "VARIABLE":
            values = self._variable(str(token))
            return [(" ".join(values), True)] if not quoted else [(value, False) for value in values]
        if token.type in _RUNS:
            raise Unknown(_RUNS[token.type])
        text = _LITERAL[token.type](str(token)) if token.type in _LITERAL else str(token)
        if first and token.type == "PLAIN" and re.match(r"~(/|$)", text):
            text = os.path.expanduser("~") + text[1:]
        return [(text, False)]

    def _variable(self, text: str) -> list[str]:
        name = text[1:].removeprefix("{").removesuffix("}")
        if self.positional is not None and (name in ("@", "*") or re.fullmatch(r"[1-9]", name)):
            return self.positional if name in ("@", "*") else self.positional[int(name) - 1 : int(name)]
        if name in ("@", "*") and name in self.unknown:
            raise Unknown(self.unknown[name])
        if name in ("@", "*"):
            self.report.warn(f"{text}: what the script is called with is left out", rule="script-variable")
            return []
        match = _EXPANSION.fullmatch(name)
        if match is None:
            raise Unknown(f"what {text} is")
        name, default = match[1], match[3]
        if name in self.unknown:
            raise Unknown(self.unknown[name])
        if name in self.variables:
            values = self.variables[name]
            if match[2] == ":-" and not any(values) and default is not None and not re.search(r"[$`\\'\"]", default):
                return [default]
            return values if "[" in text or len(values) == 1 else values[:1]
        if name == "HOME":
            return [os.path.expanduser("~")]
        if default is not None and not re.search(r"[$`\\'\"]", default):
            self.report.warn(
                f"${name} is not set in the script: its default, {default!r}, was taken", rule="script-variable"
            )
            return [default]
        raise Unknown(f"${name} is set outside of the script")

    def follow(self, command: Tree[Token], *, perhaps: bool) -> None:
        """What a command that is not QEMU's does to variables and folder; ``perhaps`` where it may not run."""
        words = words_of(command)
        for word in words:  # "{" opens a group that is one command to what stands before it
            if self.source(word) not in SHELL_WORDS:
                break
            if self.source(word) == "{":
                self.groups.append(perhaps)
        words = list(dropwhile(lambda word: self.source(word) in SHELL_WORDS, words))
        head = self.source(words[0]) if words else ""
        if head == "}" and self.groups:
            self.groups.pop()
        self.depth += (head in _OPENS) - (head in _CLOSES)
        perhaps = perhaps or self.depth > 0 or any(self.groups)
        for part in command.children:
            if isinstance(part, Tree) and part.data == "array":
                self._array(part, perhaps)
        if head == "cd":
            self._cd(words)
        elif head in _BUILTINS:
            _BUILTINS[head](self, words[1:], perhaps)
            return
        for word in words[head in ("readonly", "local", "declare", "typeset") :]:
            if not self._assign(word, perhaps):
                break

    def _read(self, words: Sequence[Tree[Token]], _perhaps: bool) -> None:
        names = (self.source(word) for word in words)
        self.unknown |= {name: f"${name} is read when the script runs" for name in names if re.fullmatch(NAME, name)}

    def _printf(self, words: Sequence[Tree[Token]], perhaps: bool) -> None:
        if words and self.source(words[0]) == "-v":
            self._read(words[1:2], perhaps)

    def _positional(self, words: Sequence[Tree[Token]], perhaps: bool) -> None:
        """``set -- ...``: how a script without arrays keeps a list."""
        if not words or self.source(words[0]) != "--":
            return
        try:
            if perhaps or "@" in self.unknown:
                raise Unknown("$@ is set under a condition, or in a loop")
            self.positional = [text for word in words[1:] for text in self.words(word.children)]
        except Unknown as error:
            self.positional = None
            self.unknown |= dict.fromkeys(("@", "*"), error.what)

    def _shift(self, words: Sequence[Tree[Token]], perhaps: bool) -> None:
        if self.positional is not None and not words and not perhaps:
            self.positional = self.positional[1:]
        elif self.positional is not None:
            self.positional = None
            self.unknown |= dict.fromkeys(("@", "*"), "$@ is shifted when the script runs")

    def _unset(self, words: Sequence[Tree[Token]], perhaps: bool) -> None:
        for word in words:
            if re.fullmatch(NAME, name := self.source(word)):
                self._set(name, [], perhaps)

    def _elsewhere(self, words: Sequence[Tree[Token]], _perhaps: bool) -> None:
        """``source FILE``, ``eval``: whatever was set before may be set anew."""
        what = self.source(words[0]) if words else ""
        self.unknown |= {name: f"${name} may be set by {what[:40]}" for name in self.variables}

    def _assign(self, word: Tree[Token], perhaps: bool) -> bool:
        start = word.children[0]
        match = ASSIGNMENT.fullmatch(str(start)) if isinstance(start, Token) and start.type == "PLAIN" else None
        if match is None and isinstance(start, Token) and (element := _ELEMENT.match(str(start))):
            self.unknown[element[1]] = f"${element[1]} is an array that is set element by element"
            return True
        if match is None:
            return isinstance(start, Token) and str(start).startswith("-")
        name, more, rest = match.groups()
        try:
            parts = ([Token("PLAIN", rest)] if rest else []) + word.children[1:]
            value = "".join(_joined(self._pieces(part, index == 0)) for index, part in enumerate(parts))
        except Unknown as error:
            self.unknown[name] = f"${name} is {error.what}" if not error.what.startswith("$") else error.what
            return True
        if more and name in self.unknown:
            return True
        self._set(name, [("".join(self.variables.get(name, [])) if more else "") + value], perhaps)
        return True

    def _array(self, array: Tree[Token], perhaps: bool) -> None:
        start, *words = array.children
        name = str(start).removesuffix("(").removesuffix("=").removesuffix("+")
        try:
            found = [text for word in words if isinstance(word, Tree) for text in self.words(word.children)]
        except Unknown as error:
            self.unknown[name] = error.what
            return
        if "+=" in str(start) and name in self.unknown:
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
        except (Unknown, ValueError):
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


def words_of(command: Tree[Token]) -> list[Tree[Token]]:
    return [part for part in command.children if isinstance(part, Tree) and part.data == "word"]


#: builtins that change what is known: the rest of their words, and whether they may not run
_BUILTINS: Mapping[str, Callable[[Shell, Sequence[Tree[Token]], bool], None]] = {
    **dict.fromkeys(("read", "getopts", "for", "select", "mapfile", "readarray"), Shell._read),
    "printf": lambda shell, words, perhaps: (
        shell._read(words[1:2], perhaps) if words and shell.source(words[0]) == "-v" else None
    ),
    "set": Shell._positional,
    "shift": Shell._shift,
    "unset": Shell._unset,
    **dict.fromkeys(("source", ".", "eval"), Shell._elsewhere),
}
