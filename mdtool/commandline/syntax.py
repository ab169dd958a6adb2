"""A shell script as a tree: commands and words, as POSIX and bash write them.  Nothing is expanded or run here.

What follows ``$`` is a part of a word of its own kind, so that only who needs its value has to know it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from mdtool.records import NamedTuple
from mdtool.text import pattern

NAME = r"[A-Za-z_]\w*"
DEPTH = 40  # constructs inside each other


class Part(NamedTuple):
    """A piece of a word.  ``kind`` says what ``text`` is:

    text   itself                       name  what stands in ${...}           glob  * or ?, unquoted
    sum    what stands in $((...))      run   $(...), ``body`` its commands   odd   what only bash makes: <(...)
    """

    kind: str
    text: str
    quoted: bool
    body: Sequence[Node] = ()


class ShellWord(NamedTuple):
    """A word as it is written, from ``start`` to ``end`` of the text; ``items`` where it is an array: NAME=(...)."""

    parts: tuple[Part, ...]
    start: int
    end: int
    items: tuple[ShellWord, ...] | None = None


class Node(NamedTuple):
    """A command.  ``words`` and ``bodies`` by ``kind``:

    simple    words; ``stdin``, its here-documents and -strings    test  words between [[ and ]], operators among them
    and, or   left, right          not   the command              sum   what stands in ((...)), as one word
    if, while, until               condition, then, else or condition, body
    for       NAME and the words, body                            case  the word and all patterns, a body each
    pipe      each command         group, shell, apart  {}, (), &  function   NAME, body
    """

    kind: str
    at: int
    words: tuple[ShellWord, ...] = ()
    bodies: tuple[Sequence[Node], ...] = ()
    stdin: Sequence[ShellWord] = ()
    patterns: tuple[tuple[ShellWord, ...], ...] = ()
    elsewhere: bool = False  # whether what it prints goes to a file


class SyntaxFault(Exception):
    """What is no shell, or more of it than is read here."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


_BLANK = pattern(r"(?:[ \t]|\\\n)*(?:(?<![^\s;&|()])#[^\n]*)?")
_PLAIN = pattern(r"[^\s'\"\\$;&|<>()`*?]+|[*?]+")
_SINGLE = pattern(r"'([^']*)'|\$'((?:[^'\\]|\\.)*)'", re.S)
_IN_QUOTES = pattern(r"[^\"\\$`]+")
_IN_DOCUMENT = pattern(r"[^\\$`]+")
_INNER = r"\$\{(?:[^}$]|\$(?!\{)|\$\{(?:[^}$]|\$(?!\{)|\$\{[^}]*\})*\})*\}"
#: what follows ${ up to its brace: outside of quotes, and inside, where ' is a letter
_BRACED, _BRACED_IN_QUOTES = (
    pattern(rf"\$\{{((?:[^}}$\\{quote}\"]|\$(?!\{{)|\\.|{single}\"(?:[^\"\\]|\\.)*\"|{_INNER})*)\}}", re.S)
    for quote, single in (("'", "'[^']*'|"), ("", ""))
)
_NAMED = pattern(rf"\$({NAME}|[0-9@*#?$!-])")
_REDIRECT = pattern(r"[0-9]*(<<<|<<-?|<>|>>|>&|<&|>\||<(?!\()|>(?!\())|(&>>?)")
_DELIMITER = pattern(r"[^\s;&|<>()]+")
_ARRAY = pattern(rf"({NAME}\+?=)\(")
_FUNCTION = pattern(r"(?:function[ \t]+([^\s(){};&|<>$'\"]+)(?:[ \t]*\([ \t]*\))?|([\w.:+-]+)[ \t]*\([ \t]*\))\s*(?=[{(])")
_WORD_HERE = pattern(r"(?:[!{}]|\[\[|[a-z]+)(?=[\s;&|()<>]|\Z)")
_SUMS = pattern(r"\(\(((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*)\)\)")
_REGEX = pattern(r"[ \t]*(?:[^\s'\"\\()]|\\.|'[^']*'|\"[^\"]*\"|\((?:[^()]|\([^()]*\))*\))+")
_PREFIX = pattern(r"(?:!|time(?:[ \t]+-p)?)(?=[ \t])")
_ENDS = frozenset({"then", "else", "elif", "fi", "do", "done", "esac", "}"})


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.depth = 0
        self.documents: list[tuple[str, int, bool, list[ShellWord]]] = []  # that begin at the next line

    # --- between words -----------------------------------------------------------------------------------------------

    def blank(self) -> None:
        found = _BLANK.match(self.text, self.pos)
        self.pos = found.end() if found else self.pos

    def newline(self) -> bool:
        if not self.text.startswith("\n", self.pos):
            return False
        self.pos += 1
        for delimiter, where, tabs, into in self.documents:
            plain = re.sub(r"['\"\\]", "", delimiter)
            indent = r"\t*" if tabs else ""
            end = re.compile(rf"^{indent}{re.escape(plain)}$", re.M).search(self.text, self.pos)
            stop = end.start() if end else len(self.text)
            body = self.text[self.pos : stop]
            body = re.sub(r"^\t+", "", body, flags=re.M) if tabs else body
            try:
                parts = [Part("text", body, True)] if plain != delimiter else _Reader(body).quoted(None)
            except SyntaxFault:
                parts = [Part("odd", "what the here-document says", True)]
            into.append(ShellWord(tuple(parts), where, where))
            self.pos = min(end.end() + 1 if end else stop, len(self.text))
        self.documents = []
        return True

    def lines(self) -> None:
        self.blank()
        while self.newline():
            self.blank()

    def reserved(self) -> str:
        """The reserved word that stands here, or nothing."""
        self.blank()
        found = _WORD_HERE.match(self.text, self.pos)
        return found[0] if found else ""

    def take(self, *expected: str) -> str:
        self.lines()
        for text in expected:
            if self.reserved() == text if text[0].isalpha() or text in "{}" else self.text.startswith(text, self.pos):
                self.pos += len(text)
                return text
        raise SyntaxFault(self.pos)

    # --- commands ----------------------------------------------------------------------------------------------------

    def commands(self, *ends: str) -> list[Node]:
        """The commands up to a reserved word, a ``)``, a ``;;`` or the end of the text, none of which is taken."""
        self.depth += 1
        if self.depth > DEPTH:
            raise SyntaxFault(self.pos)
        found: list[Node] = []
        while True:
            self.lines()
            if self.pos >= len(self.text) or self.text.startswith((")", ";;", ";&"), self.pos) or self.reserved() in _ENDS:
                break
            at, node = self.pos, self.chain()
            self.blank()
            if self.text.startswith("&", self.pos):
                node = Node("apart", at, bodies=([node],))
                self.pos += 1
            elif self.text.startswith(";", self.pos) and not self.text.startswith((";;", ";&"), self.pos):
                self.pos += 1
            elif not self.newline() and not (self.pos >= len(self.text) or self.text[self.pos] in ";)"):
                raise SyntaxFault(self.pos)
            found.append(node)
        self.depth -= 1
        return found

    def some(self) -> list[Node]:
        """One command or more."""
        if found := self.commands():
            return found
        raise SyntaxFault(self.pos)

    def chain(self) -> Node:
        at, left = self.pos, self.pipe()
        while True:
            self.blank()
            if not self.text.startswith(("&&", "||"), self.pos):
                return left
            kind = "and" if self.text[self.pos] == "&" else "or"
            self.pos += 2
            self.lines()
            left = Node(kind, at, bodies=([left], [self.pipe()]))

    def pipe(self) -> Node:
        at = self.pos
        self.blank()
        if found := _PREFIX.match(self.text, self.pos):
            self.pos = found.end()
            return Node("not" if found[0] == "!" else "group", at, bodies=([self.pipe()],))
        commands = [self.command()]
        while True:
            self.blank()
            if not self.text.startswith("|", self.pos) or self.text.startswith("||", self.pos):
                return commands[0] if len(commands) == 1 else Node("pipe", at, bodies=tuple([node] for node in commands))
            self.pos += 2 if self.text.startswith("|&", self.pos) else 1
            self.lines()
            commands.append(self.command())

    def command(self) -> Node:
        at, word = self.pos, self.reserved()
        self.depth += 1
        if self.depth > DEPTH:
            raise SyntaxFault(self.pos)
        if found := _FUNCTION.match(self.text, self.pos):
            self.pos = found.end()
            node = Node(
                "function", at, (ShellWord((Part("text", found[1] or found[2], True),), at, at),), ([self.command()],)
            )
        elif word in _COMPOUND:
            self.pos += len(word)
            node = self.redirected(_COMPOUND[word](self, at))
        elif self.text.startswith("((", self.pos) and (sums := _SUMS.match(self.text, self.pos)):
            self.pos = sums.end()
            node = self.redirected(Node("sum", at, (ShellWord((Part("sum", sums[1], True),), at, self.pos),)))
        elif self.text.startswith("(", self.pos):
            self.pos += 1
            node = Node("shell", at, bodies=(self.some(),))
            self.take(")")
            node = self.redirected(node)
        elif word in _ENDS or word in ("select", "coproc"):
            raise SyntaxFault(at)
        else:
            node = self.simple(at)
        self.depth -= 1
        return node

    def redirected(self, node: Node) -> Node:
        rest = self.simple(self.pos, empty=True)
        if rest.words:
            raise SyntaxFault(rest.words[0].start)
        return node._replace(stdin=rest.stdin, elsewhere=rest.elsewhere)

    def simple(self, at: int, *, empty: bool = False) -> Node:
        words: list[ShellWord] = []
        stdin: list[ShellWord] = []
        elsewhere = False
        while True:
            self.blank()
            if found := _REDIRECT.match(self.text, self.pos):
                start, kind = self.pos, found[1] or found[2]
                elsewhere = elsewhere or (">" in kind and found[0] != "2" + kind)
                self.pos = found.end()
                self.blank()
                if kind in ("<<", "<<-"):
                    delimiter = _DELIMITER.match(self.text, self.pos)
                    if delimiter is None:
                        raise SyntaxFault(self.pos)
                    self.pos = delimiter.end()
                    self.documents.append((delimiter[0], start, kind == "<<-", stdin))
                elif (target := self.word()) and kind == "<<<":
                    stdin.append(target._replace(parts=(*target.parts, Part("text", "\n", True))))
            elif self.pos >= len(self.text) or self.text[self.pos] in "\n;|)&":
                break
            else:
                words.append(self.word())
        if self.pos == at and not empty:
            raise SyntaxFault(at)
        return Node("simple", at, tuple(words), stdin=stdin, elsewhere=elsewhere)

    # --- words -------------------------------------------------------------------------------------------------------

    def word(self) -> ShellWord:
        start = self.pos
        if found := _ARRAY.match(self.text, self.pos):
            self.pos = found.end()
            items: list[ShellWord] = []
            self.lines()
            while not self.text.startswith(")", self.pos):
                items.append(self.word())
                self.lines()
            self.pos += 1
            return ShellWord((Part("text", found[1], False),), start, self.pos, tuple(items))
        parts: list[Part] = []
        while self.pos < len(self.text) and (more := self.part()) is not None:
            parts += more
        if self.pos == start:
            raise SyntaxFault(start)
        return ShellWord(tuple(parts) or (Part("text", "", False),), start, self.pos)

    def part(self) -> list[Part] | None:
        text, pos = self.text, self.pos
        letter = text[pos]
        if found := _PLAIN.match(text, pos):
            self.pos = found.end()
            return [Part("glob" if letter in "*?" else "text", found[0], False)]
        if letter == "'" or text.startswith("$'", pos):
            found = _SINGLE.match(text, pos)
            if found is None:
                raise SyntaxFault(pos)
            self.pos = found.end()
            return [Part("text", found[1] if letter == "'" else _ansi(found[2]), True)]
        if letter == '"' or text.startswith('$"', pos):
            self.pos += 1 if letter == '"' else 2
            found_parts = self.quoted('"')
            return found_parts if len(found_parts) == 1 else [Part("text", "", True), *found_parts]
        if letter == "\\":
            self.pos += 2
            return [Part("text", text[pos + 1 : pos + 2], True)] if text[pos + 1 : pos + 2] != "\n" else []
        if letter in "$`":
            return [self.dollar(quoted=False)]
        if text.startswith(("<(", ">("), pos):
            self.pos += 2
            self.commands()
            self.take(")")
            return [Part("odd", "which file <(...) is", False)]
        return None

    def quoted(self, end: str | None) -> list[Part]:
        """The parts up to a quote, or to the end of the text."""
        found: list[Part] = []
        while self.pos < len(self.text):
            letter = self.text[self.pos]
            if letter == end:
                self.pos += 1
                return found or [Part("text", "", True)]
            if letter == "\\":
                following = self.text[self.pos + 1 : self.pos + 2]
                is_escape = following in ("$", "`", "\\", "\n", end)
                kept = following.strip("\n") if is_escape else letter + following
                found.append(Part("text", kept, True))
                self.pos += 2
            elif letter in "$`":
                found.append(self.dollar(quoted=True))
            elif plain := (_IN_QUOTES if end else _IN_DOCUMENT).match(self.text, self.pos):
                found.append(Part("text", plain[0], True))
                self.pos = plain.end()
        if end is not None:
            raise SyntaxFault(self.pos)
        return found

    def dollar(self, *, quoted: bool) -> Part:
        text, pos = self.text, self.pos
        if text[pos] == "`":
            end = re.compile(r"`((?:[^`\\]|\\.)*)`", re.S).match(text, pos)
            if end is None:
                raise SyntaxFault(pos)
            self.pos = end.end()
            return Part("run", "what `...` prints", quoted, commands_from_text(re.sub(r"\\([\\$`])", r"\1", end[1])))
        if text.startswith("$((", pos) and (sums := _SUMS.match(text, pos + 1)):
            self.pos = sums.end()
            return Part("sum", sums[1], quoted)
        if text.startswith("$(", pos):
            self.pos += 2
            inner = self.commands()
            self.take(")")
            return Part("run", "what $(...) prints", quoted, inner)
        braced = _BRACED_IN_QUOTES if quoted else _BRACED
        if found := _NAMED.match(text, pos) or braced.match(text, pos):
            self.pos = found.end()
            return Part("name", found[1], quoted)
        if text.startswith("${", pos):
            raise SyntaxFault(pos)
        self.pos += 1
        return Part("text", "$", quoted)

    # --- compound commands -------------------------------------------------------------------------------------------

    def if_(self, at: int) -> Node:
        condition = self.some()
        self.take("then")
        then = self.some()
        word = self.take("elif", "else", "fi")
        other = [self.if_(self.pos)] if word == "elif" else self.some() if word == "else" else []
        if word == "else":
            self.take("fi")
        return Node("if", at, bodies=(condition, then, other))

    def while_(self, at: int, kind: str) -> Node:
        condition = self.some()
        return Node(kind, at, bodies=(condition, self.body()))

    def for_(self, at: int) -> Node:
        self.blank()
        if sums := _SUMS.match(self.text, self.pos):
            self.pos = sums.end()
            self.blank()
            if self.text.startswith(";", self.pos):
                self.pos += 1
            word = ShellWord((Part("sum", sums[1], True),), at, at)
            return Node("for", at, (word,), (self.body(),))
        words = [self.word()]
        if not re.fullmatch(NAME, self.text[words[0].start : words[0].end]):
            raise SyntaxFault(words[0].start)
        self.lines()
        if self.reserved() == "in":
            self.pos += 2
            words += self.simple(self.pos, empty=True).words
        else:
            words.append(ShellWord((Part("name", "@", True),), at, at))
        self.blank()
        if self.text.startswith(";", self.pos):
            self.pos += 1
        return Node("for", at, tuple(words), (self.body(),))

    def body(self) -> Sequence[Node]:
        self.lines()
        if self.text.startswith("{", self.pos):
            return [self.command()]
        self.take("do")
        found = self.some()
        self.take("done")
        return found

    def case(self, at: int) -> Node:
        self.blank()
        word = self.word()
        self.take("in")
        patterns: list[tuple[ShellWord, ...]] = []
        bodies: list[Sequence[Node]] = []
        while True:
            self.lines()
            if self.reserved() == "esac":
                self.pos += 4
                return Node("case", at, (word,), tuple(bodies), patterns=tuple(patterns))
            if self.text.startswith("(", self.pos):
                self.pos += 1
            ways: list[ShellWord] = []
            while not ways or self.text.startswith("|", self.pos):
                self.pos += bool(ways)
                self.blank()
                ways.append(self.word())
                self.blank()
            self.take(")")
            patterns.append(tuple(ways))
            bodies.append(self.commands())
            self.blank()
            if self.text.startswith((";&", ";;&"), self.pos):
                raise SyntaxFault(self.pos)
            self.pos += 2 if self.text.startswith(";;", self.pos) else 0

    def test(self, at: int) -> Node:
        words: list[ShellWord] = []
        while True:
            self.lines()
            start = self.pos
            operator = next((one for one in ("&&", "||", "(", ")", "<", ">") if self.text.startswith(one, start)), "")
            if operator:
                self.pos += len(operator)
                words.append(ShellWord((Part("odd", operator, False),), start, self.pos))
                continue
            words.append(self.word())
            said = self.text[start : self.pos]
            if said == "]]":
                return Node("test", at, tuple(words[:-1]))
            if said == "=~" and (regex := _REGEX.match(self.text, self.pos)):
                self.pos = regex.end()

    def group(self, at: int) -> Node:
        found = self.some()
        self.take("}")
        return Node("group", at, bodies=(found,))


_COMPOUND: Mapping[str, Callable[[_Reader, int], Node]] = {
    "if": _Reader.if_,
    "for": _Reader.for_,
    "case": _Reader.case,
    "[[": _Reader.test,
    "{": _Reader.group,
    "while": lambda reader, at: reader.while_(at, "while"),
    "until": lambda reader, at: reader.while_(at, "until"),
}
_ANSI = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}


def _ansi(text: str) -> str:
    """What stands in $'...'."""

    def one(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        if found[2]:
            return chr(int(found[2], 8) & 255)
        return _ANSI.get(found[3], found[3] if found[3] in "\\'\"?" else found[0])

    return re.sub(r"\\(?:[xuU]([0-9a-fA-F]{1,4})|([0-7]{1,3})|(.))", one, text, flags=re.S)


def commands_from_text(text: str) -> list[Node]:
    """The commands of a script.  Raises SyntaxFault."""
    reader = _Reader(text)
    found = reader.commands()
    if reader.pos < len(text):
        raise SyntaxFault(reader.pos)
    return found


def parts_from_text(text: str, *, quoted: bool) -> list[Part]:
    """The parts of what stands in ${NAME:-...} or in $((...)), where quotes are kept in pairs.  Raises SyntaxFault."""
    reader = _Reader(text)
    if quoted:
        return reader.quoted(None)
    found: list[Part] = []
    while reader.pos < len(text):
        more = reader.part()
        if more is None:  # a blank, or what outside of ${...} would end a word
            more = [Part("text", text[reader.pos], False)]
            reader.pos += 1
        found += more
    return found
