"""What a script has set, as far as one knows without running it, and what its words expand to.

A word whose value only a run can determine raises ``Unknown``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import translate
from typing import TypeVar

from mdtool.commandline.alternatives import Unclear, Unknown, Value, each_way, either
from mdtool.commandline.arithmetic import evaluated
from mdtool.commandline.braces import braced
from mdtool.commandline.state import State, conditional
from mdtool.commandline.syntax import NAME, Node, Part, ShellWord, SyntaxFault, parts_from_text
from mdtool.errors import Report
from mdtool.records import dataclass, field
from mdtool.text import pattern

ASSIGNMENT = pattern(rf"({NAME})(?:\[([^\]]*)\])?(\+?)=(.*)", re.S)
_EXPANSION = pattern(rf"([#!]?)({NAME}|[0-9]+|[@*#])(?:\[([^\]]*)\])?(?:(:?[-=+?]|##?|%%?|//?|\^\^?|,,?|:)(.*))?", re.S)
_INDEXED = pattern(r"[^\]]*\]\+?=")
#: what an arithmetic expression assigns
ASSIGNS = pattern(rf"({NAME})\s*(?:\+\+|--|(?:[-+*/%&|^]|<<|>>)?=(?!=))|(?:\+\+|--)({NAME})")
#: NAME++, NAME += ...
_SUM = pattern(rf"\s*(?:({NAME})\s*(\+\+|--)|(?:({NAME})\s*([-+*/%]?=)(?!=)|)(.*))\s*", re.S)
_HOME_INSIDE = pattern(rf"{NAME}\+?=(?=~|.*:~)", re.S)
_LETTERS = {"digit": "0-9", "alpha": "a-zA-Z", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": " \t\n",
            "xdigit": "0-9a-fA-F", "blank": " \t"}  # fmt: skip
_LONGEST = 1 << 20  # letters of a variable

#: variables that a shell sets by itself, to what only it knows
_SET_BY_SHELL = frozenset({"RANDOM", "SECONDS", "UID", "EUID", "HOSTNAME", "HOSTTYPE", "MACHTYPE", "OSTYPE", "PATH", "USER",
                           "BASH", "BASH_VERSION", "PPID", "LINENO", "OPTIND", "OPTARG", "REPLY", "DISPLAY", "SHELL",
                           "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "LOGNAME", "PIPESTATUS", "SUDO_USER", "EPOCHSECONDS",
                           "XDG_SESSION_TYPE", "TERM", "LANG", "TMPDIR"})  # fmt: skip
#: variables for what a caller adds
_ADDED = pattern(r"\w*(OPTS|ARGS|OPTIONS|PARAMS|FLAGS|EXTRA)")
_Sliced = TypeVar("_Sliced", str, list[str])
#: the pieces that a word expands to: (text, whether a blank in it separates words)
Pieces = list[tuple[str, bool]]


_ZERO = "$0"  # where it is not asked for


class _Apart(list[str]):
    """Words that are not to be split again."""


@dataclass
class Shell:
    """Words as a shell expands them in ``state``.

    ``printed``  what a command substitution prints; raises Unknown
    ``is_bash``  whether the shell is bash
    """

    file: str
    report: Report
    state: State
    printed: Callable[[Sequence[Node], str], str]
    is_bash: bool = True
    shapes: dict[str, str] = field(default_factory=dict)  # variables that are a sum (i), capitals (u), small letters (l)
    lists: set[str] = field(default_factory=set)  # variables that were an array
    keyed: set[str] = field(default_factory=set)  # arrays whose indexes are words
    other_names: dict[str, str] = field(default_factory=dict)  # of variables: those that `declare -n` gives
    assigned: str = ""  # what is being assigned: A="$A ..." begins with nothing
    asks: bool = False  # in a test: what is set outside of the script is taken as not set, which is said

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A test of a variable that only the caller may set: that it is not set."""
        before, self.asks = self.asks, True
        try:
            yield
        finally:
            self.asks = before

    # --- words -------------------------------------------------------------------------------------------------------

    def words(self, word: ShellWord, *, is_element: bool = False) -> list[str]:
        """Several words where an unquoted variable holds blanks, none where it is empty.

        ``is_element``  of an array, where bash does not take file=~/a for an assignment
        """
        first = word.parts[0]
        if self.is_bash and not is_element and first[::2] == ("text", False) and (found := _HOME_INSIDE.match(first.text)):
            if ":~" in first.text:
                raise Unknown("what ~ stands for")
            head, *rest = _at_home((first._replace(text=first.text[found.end() :]), *word.parts[1:]))
            word = word._replace(parts=(head._replace(text=found[0] + head.text), *rest))
        return [text for parts in braced(word.parts, is_bash=self.is_bash) for text in self._words(_at_home(parts))]

    def text(self, parts: Sequence[Part]) -> str:
        """One text, as in an assignment: nothing is split."""
        if any(":~" in part.text for part in parts if not part.quoted):
            raise Unknown("what ~ stands for")
        found = [self._pieces(part, joined=True) for part in _at_home(parts)]
        return "".join(" ".join(text for text, _ in pieces) for pieces in found)

    def _words(self, parts: Sequence[Part]) -> list[str]:
        found: list[str] = []
        grows = False  # whether what comes next belongs to the last word
        for part in parts:
            for number, (text, splits) in enumerate(self._pieces(part)):
                grows = grows and not (number > 0 and not splits)  # each element of a quoted array is a word
                if splits and re.search(r"[*?]", text):
                    raise Unknown("which files * and ? stand for")
                for count, chunk in enumerate(self._split(text) if splits else [text]):
                    grows = grows and count == 0
                    if chunk or not splits:
                        found[-1:] = [found[-1] + chunk] if grows else [*found[-1:], chunk]
                        grows = True
        return found

    def _split(self, text: str) -> list[str]:
        separators = self.state.variables.get("IFS", {})
        if isinstance(separators, Unclear) or (separators and re.search(rf"[\s{re.escape(separators['0'])}]", text)):
            raise Unknown("where $IFS separates words")
        return re.split(r"[ \t\n]+", text) if not separators else [text]

    def _pieces(self, part: Part, *, joined: bool = False) -> Pieces:
        """What a part stands for; ``joined``, where nothing is split and no file is sought, as in an assignment."""
        if part.kind == "name":
            values = self._expanded(part.text, "quoted" if part.quoted else "joined" if joined else "split")
            if isinstance(values, _Apart):
                return [(value, False) for value in values]
            return [(value, False) for value in values] if part.quoted or joined else [(" ".join(values), True)]
        if part.kind == "run":
            return [(self.printed(part.body, part.text), not part.quoted)]
        if part.kind == "sum":
            return [(str(self.sum(part.text)), not part.quoted)]
        if part.kind == "odd" or (part.kind == "glob" and not joined):
            raise Unknown("which files * and ? stand for" if part.kind == "glob" else part.text)
        return [(part.text, False)]

    def pattern_of(self, parts: Sequence[Part]) -> str:
        """A pattern of ``case`` or ``[[``, as a regular expression."""
        found = ""
        for part in _at_home(parts):
            text = part.text if part.kind == "glob" else " ".join(one for one, _ in self._pieces(part, joined=True))
            found += text if not part.quoted else re.sub(r"([*?[])", r"[\1]", text)
        found = re.sub(r"\[:(\w+):\]", lambda kind: _LETTERS.get(kind[1], kind[0]), found.replace("[^", "[!"))
        if "[:" in found:
            raise Unknown("which letters [...] stands for")
        return translate(found)

    # --- variables ---------------------------------------------------------------------------------------------------

    def _expanded(self, text: str, how: str) -> list[str]:
        """What ${...} stands for: several where it is a whole array."""
        match = _EXPANSION.fullmatch(text)
        if match is None:
            raise Unknown(f"what ${text} is")
        prefix, name, index, sign, operand = match.groups()
        name = self.other_names.get(name, name)
        if prefix and name == "#":
            raise Unknown(f"what ${{{text}}} is")
        if text == "#":
            return [str(len(self._positional("$#")))]
        whole = index in ("@", "*") or name in ("@", "*")
        if prefix == "!" and whole and isinstance(value := self.state.variables.get(name), dict):
            return list(value)
        if prefix == "!":
            named = "".join(self._values(name, index))
            if sign or not re.match(NAME, named):
                raise Unknown(f"what ${{{text}}} is")
            return self._expanded(named, how)
        if sign and sign.strip(":") in ("-", "=", "+", "?") and sign != ":":
            return self._defaulted(name, index, sign, operand, how)
        values = self._values(name, index)
        if sign == ":" and whole:
            values, sign = self._slice(values if index else [_ZERO, *values], operand), ""
            values = [value if value is not _ZERO else "".join(self._numbered("0")) for value in values]
        if prefix == "#":
            return [str(len(values) if whole else len(values[0]) if values else 0)]
        if sign:
            values = [self._changed(value, sign, operand) for value in values]
        if how != "split" and (index or name) == "*":
            separators = self.state.variables.get("IFS", {"0": " "})
            if isinstance(separators, Unclear):
                raise Unknown(separators.why)
            return [(separators.get("0", " ")[:1]).join(values)]
        return values if values or whole else [""]

    def _values(self, name: str, index: str | None) -> list[str]:
        if not re.match(NAME, name):
            return self._positional(f"${name}") if name in ("@", "*") else self._numbered(name)
        value = self.state.variables.get(name)
        if isinstance(value, Unclear):
            raise Unknown(value.why)
        if value is None:
            value = self._from_outside(name)
        if index is None:
            return list(value.values())[:1] if value.keys() <= {"0"} else [value[key] for key in value if key == "0"]
        if index in ("@", "*") and len(value) > 1 and not all(key.isdigit() for key in value):
            raise Unknown(f"in which order ${name} is")
        if index in ("@", "*"):
            return list(value.values())
        key = self.text(_parts(index))
        if key not in value and all(key.isdigit() for key in value):
            at = self.sum(key)
            key = str(at) if at >= 0 else list(value)[at] if at >= -len(value) else ""
        return [value[key]] if key in value else []

    def _from_outside(self, name: str) -> Value:
        if self.state.sourced:
            raise Unknown(f"${name} may be set by {self.state.sourced}")
        if name == "HOME":
            return {"0": os.path.expanduser("~")}
        if name == "PWD" and self.state.folder is not None:
            return {"0": self.state.folder}
        if name == "BASH_SOURCE" and os.path.isfile(self.file):
            return {"0": self.file}
        if (self.asks or name == self.assigned or _ADDED.fullmatch(name)) and name not in _SET_BY_SHELL:
            self.say(f"${name} is not set in the script: it was taken as not set")
            return {}
        raise Unknown(f"${name} is set outside of the script")

    def _positional(self, text: str) -> list[str]:
        if isinstance(self.state.positional, str):
            raise Unknown(self.state.positional)
        if self.state.positional is None:
            self.say(f"{text}: what the script is called with is left out")
        return self.state.positional or []

    def _numbered(self, name: str) -> list[str]:
        if name == "0" and os.path.isfile(self.file):
            return [self.file]
        if self.asks and name != "0" and self.state.positional is None:
            self.say(f"${name}: what the script is called with is left out")
            return []
        if name == "0" or self.state.positional is None:
            raise Unknown(f"${name} is set outside of the script")
        if isinstance(self.state.positional, str):
            raise Unknown(self.state.positional)
        return self.state.positional[int(name) - 1 : int(name)]

    def _defaulted(self, name: str, index: str | None, sign: str, operand: str, how: str) -> list[str]:
        """${NAME:-...}, ${NAME=...}, ${NAME:+...}, ${NAME:?...}."""
        known = self.state.variables.get(name)
        try:
            values = [] if known == {} else self._values(name, index)
            is_set = any(values) if sign[0] == ":" else bool(values)
        except Unknown:
            if (
                isinstance(known, Unclear)
                or isinstance(self.state.positional, str)
                or self.state.sourced
                or sign[-1] == "?"
            ):
                raise
            taken = "it was taken as not set" if sign[-1] == "+" else f"its default, {operand!r}, was taken"
            self.say(f"${name} is not set in the script: {taken}")
            values, is_set = [], False
        if sign[-1] == "?" and not is_set:
            raise Unknown(f"${name} is set outside of the script")
        if is_set != (sign[-1] == "+"):
            return values if is_set or index in ("@", "*") or how == "split" else [""]
        found = self._operand(operand, how)
        if sign[-1] == "=":
            self.state.variables[name] = {"0": " ".join(found)}
            return found if how == "quoted" else [*found]
        return found

    def say(self, what: str) -> None:
        """A warning, once."""
        if not any(warning.what == what for warning in self.report.warnings):
            self.report.warn(what, rule="script-variable")

    def _operand(self, text: str, how: str) -> list[str]:
        if how == "joined":
            return _Apart([self.text(_parts(text))])
        if how == "quoted":
            if '"' in text and ("$(" in text or "`" in text):
                raise Unknown(f"what {text} is")
            return _Apart(self._words(_parts(re.sub(r"\\(\")|(\\.)|\"", r"\1\2", text), quoted=True)) or [""])
        if self.state.variables.get("IFS") and re.search(r"\s", text):
            raise Unknown("where $IFS separates words")
        words: list[list[Part]] = [[]]
        for part in _parts(text):
            if not part.quoted and part.text.isspace():
                words.append([])
            else:
                words[-1].append(part)
        return _Apart(text for parts in words for text in self._words(_at_home(parts)))

    def _changed(self, value: str, sign: str, operand: str) -> str:
        """${NAME#pattern} and what else changes a text."""
        if sign[0] in "^,":
            if operand or not value.isascii():
                raise Unknown("which letters are changed")
            change = str.upper if sign[0] == "^" else str.lower
            return change(value) if len(sign) == 2 else change(value[:1]) + value[1:]
        if sign == ":":
            return self._slice(value, operand)
        head, _, by = operand.partition("/") if sign[0] == "/" else (operand, "", "")
        expression, into = self.pattern_of(_parts(head)), self.text(_parts(by))
        if sign[0] == "/":
            if head[:1] in ("#", "%") or re.search(r"[*?[\\]", head) or "&" in into:
                raise Unknown(f"what {operand} replaces")
            return value.replace(self.text(_parts(head)), into, -1 if len(sign) == 2 else 1)
        lengths = range(len(value) + 1) if (len(sign) == 1) else range(len(value), -1, -1)
        for length in lengths:
            piece = value[:length] if sign[0] == "#" else value[len(value) - length :]
            if re.match(expression, piece):
                return value[length:] if sign[0] == "#" else value[: len(value) - length]
        return value

    def indexed(self, word: ShellWord) -> ShellWord:
        """NAME[$i]=... with its index expanded; any other word as it is."""
        first, *rest = word.parts
        name, _, begun = first.text.partition("[")
        ends = (
            n for n, (kind, text, quoted, _) in enumerate(rest) if kind == "text" and not quoted and _INDEXED.match(text)
        )
        if first.quoted or first.kind != "text" or not re.fullmatch(NAME, name) or (end := next(ends, None)) is None:
            return word
        inside, _, value = rest[end].text.partition("]")
        try:
            index = self.text((first._replace(text=begun), *rest[:end], rest[end]._replace(text=inside)))
        except Unknown:
            self.unclear(name, "is an array that is set element by element")
            return word._replace(parts=(first._replace(text=f"{name}+="),))
        return word._replace(parts=(first._replace(text=f"{name}[{index}]{value}"), *rest[end + 1 :]))

    def assign(self, word: ShellWord) -> None:
        """NAME=..., NAME+=..., NAME=(...), NAME[...]=..."""
        match = ASSIGNMENT.fullmatch(word.parts[0].text)
        assert match is not None
        name = self.other_names.get(match[1], match[1])
        self.assigned = name if not name.endswith("PATH") else ""
        try:
            ways = each_way(self.state.variables, lambda: self._assigned(word, match))
            self.state.variables[name] = ways[0] if len(ways) == 1 else either(conditional(name), *ways)
        except Unknown as error:
            self.state.variables[name] = Unclear(error.of(f"${name}"))
        finally:
            self.assigned = ""

    def _assigned(self, word: ShellWord, match: re.Match[str]) -> Value:
        first, *rest = word.parts
        name, index, more, text = match.groups()
        name = self.other_names.get(name, name)
        old = self.state.variables.get(name, {})
        parts = (first._replace(text=text), *rest) if text else rest
        if isinstance(old, Unclear) and (more or index is not None or (name in self.lists and word.items is None)):
            raise Unknown(old.why)
        known = old if isinstance(old, dict) else {}
        if index is not None or word.items is not None:
            self.lists.add(name)
        if index is not None:
            found = self._with_element(name, known, index, self.text(parts), more=bool(more))
            return found if name in self.keyed else _by_index(found)
        if more and self.state.sourced and not old:
            raise Unknown(f"${name} may be set by {self.state.sourced}")
        if word.items is not None:
            found = self._elements(word.items, known if more else {})
        else:
            found = {**known, "0": (known.get("0", "") if more else "") + self.text(parts)}
            if len(found["0"]) > _LONGEST:
                raise Unknown(f"${name} is longer than a command line")
        found = self._shaped(name, found, known if more else {}) if name in self.shapes else found
        return found if name in self.keyed else _by_index(found)

    def _shaped(self, name: str, value: Value, old: Value) -> Value:
        """What is assigned to a variable that ``declare -i``, ``-u`` or ``-l`` gave a kind."""
        if value.keys() - {"0"} or not value["0"].isascii():
            raise Unknown(f"${name} is an array of what is changed")
        if self.shapes[name] == "i":
            first = old.get("0", "")
            return {"0": str(self.sum(first) + self.sum(value["0"][len(first) :]))}
        return {"0": value["0"].upper() if self.shapes[name] == "u" else value["0"].lower()}

    def _elements(self, items: Sequence[ShellWord], old: Value) -> Value:
        found, number = dict(old), max((int(key) for key in old if key.isdigit()), default=-1) + 1
        for item in items:
            first = item.parts[0]
            if not first.quoted and (keyed := re.match(r"\[([^\]]+)\]=(.*)", first.text, re.S)):
                found[keyed[1]] = self.text((first._replace(text=keyed[2]), *item.parts[1:]))
                number = int(keyed[1]) + 1 if keyed[1].isdigit() else number
                continue
            for text in self.words(item, is_element=True):
                found[str(number)] = text
                number += 1
        return found

    def _with_element(self, name: str, old: Value, index: str, value: str, *, more: bool) -> Value:
        key = self.text(_parts(index))
        if name not in self.keyed and re.fullmatch(NAME, key) and not all(one.isdigit() for one in old):
            raise Unknown(f"${name} is an array that is set element by element")
        if name in self.keyed and not key:
            raise Unknown(f"${name}[]")
        if name not in self.keyed and not re.fullmatch(r"\d+", key):
            at = self.sum(key)
            at += 0 if at >= 0 else int(list(old)[-1]) + 1 if old else 0
            if at < 0:
                raise Unknown(f"${name}[{index}]")
            key = str(at)
        return {**old, key: old.get(key, "") + value if more else value}

    def set(self, name: str, *values: str) -> None:
        if len(values) != 1:
            self.lists.add(name)
        self.state.variables[self.other_names.get(name, name)] = {str(n): value for n, value in enumerate(values)}

    def unclear(self, name: str, why: str) -> None:
        """A variable has a value that only a run can tell."""
        name = self.other_names.get(name, name)
        self.state.variables[name] = Unclear(f"${name} {why}")

    def _slice(self, values: _Sliced, operand: str) -> _Sliced:
        start, _, size = operand.partition(":")
        first, last = self.sum(start), self.sum(size) if size else len(values)
        if first < 0 or last < 0:
            first = first + len(values) if -len(values) <= first < 0 else first
            if first < 0 or last < 0:
                raise Unknown(f"what :{operand} leaves")
        return values[first : first + last]

    # --- arithmetic --------------------------------------------------------------------------------------------------

    def sum(self, text: str) -> int:
        """The value of an arithmetic expression that assigns nothing."""
        assigned = [found[1] or found[2] for found in ASSIGNS.finditer(text)]
        for name in assigned:
            self.unclear(name, f"is set by (({text}))")
        try:
            if assigned:
                raise ValueError
            said = self.text(_parts(text, quoted=True)).strip() or "0"
            return evaluated(said, lambda name: self.sum((self._values(name, None) or ["0"])[0]))
        except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
            raise Unknown(f"what $(({text})) is") from None

    def calculate(self, text: str) -> bool | None:
        """((...)), with one assignment or none: whether it is not 0."""
        name, steps, into, sign, rest = match.groups() if (match := _SUM.fullmatch(text)) else ("", "", "", "", "")
        try:
            if ASSIGNS.search(rest or ""):
                raise Unknown("")
            if steps:
                old = self.sum(name)
                self.set(name, str(old + (1 if steps == "++" else -1)))
                return old != 0
            value = self.sum(rest if sign in (None, "=") else f"{self.sum(into)} {sign[:-1]} ({rest})")
            if into:
                self.set(into, str(value))
            return value != 0
        except Unknown:
            for found in ASSIGNS.finditer(text):
                self.unclear(found[1] or found[2], f"is set by (({text}))")
            return None


def _by_index(value: Value) -> Value:
    """An array in the order in which it is expanded."""
    return dict(sorted(value.items(), key=lambda one: int(one[0]))) if all(map(str.isdigit, value)) else value


def _at_home(parts: Sequence[Part]) -> Sequence[Part]:
    """The parts of a word, with ~ at its begin expanded."""
    if not parts or parts[0].kind != "text" or parts[0].quoted:
        return parts
    home = re.sub(r"^~[\w.-]*(?=/|$)" if len(parts) == 1 else r"^~[\w.-]*(?=/)", _home, parts[0].text)
    return (parts[0]._replace(text=home), *parts[1:])


def _home(found: re.Match[str]) -> str:
    return os.path.expanduser(found[0])


def _parts(text: str, *, quoted: bool = False) -> list[Part]:
    """The parts of what stands in ${...} or $((...)); raises Unknown where that is no shell's text."""
    try:
        return parts_from_text(text, quoted=quoted)
    except SyntaxFault:
        raise Unknown(f"what {text} is") from None
