"""Text from outside: patterns of it, and how it is made fit to be shown.

This is the one place that escapes what a terminal would obey.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, AnyStr

from mdtool.limits import MAX_QUOTED


class _Pattern:
    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self._arguments)
        for method in ("fullmatch", "match", "search", "sub", "findall", "finditer"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """A regular expression of a table, compiled when it is first used: a command uses few of them.

    >>> pattern("[0-9]+").fullmatch("42")[0]
    '42'
    """
    lazy: Any = _Pattern(text, flags)
    compiled: re.Pattern[AnyStr] = lazy
    return compiled


def in_utf8(words: Iterable[str]) -> list[bytes]:
    """Words of a command line as libvirt gives them to QEMU: names are UTF-8 in every locale.

    >>> in_utf8(["-name", "\u2603"])
    [b'-name', b'\\xe2\\x98\\x83']
    """
    return [word.encode(errors="surrogateescape") for word in words]


#: what a terminal obeys or hides: control characters but line break and tab, marks that turn the direction of writing
#: round, separators of lines that no editor shows as such, and halves of characters
_OBEYED = pattern("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with everything that a terminal would obey in the spelling of Python; line breaks and tabs stay.

    >>> print(printable("web\x1b[2J01"))
    web\x1b[2J01
    """
    return text if text.isascii() and text.replace("\n", "").isprintable() else _OBEYED.sub(_spelled, text)


def printable_json(text: str) -> str:
    r"""The same for JSON that goes to a file: spelled as JSON does, so that it says the same.

    >>> print(printable_json('{"name": "web\x9b01"}'))
    {"name": "web\u009b01"}
    """
    return text if text.isascii() else _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def counted(count: int, noun: str) -> str:
    """A count in words.

    >>> counted(1, "error"), counted(0, "error")
    ('1 error', '0 errors')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def one_line(text: str) -> str:
    r"""The same for a value inside of a line: line breaks and tabs are spelled, too, so that no value makes up lines.

    >>> print(one_line("web\nnet0: e1000"))
    web\nnet0: e1000
    """
    if text.isascii() and text.isprintable():
        return text
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def quoted(text: str) -> str:
    """A value as an error quotes it: on one line, and cut where it is long.

    >>> quoted("abc")
    "'abc'"
    """
    text = one_line(text)
    return f"'{text}'" if len(text) <= MAX_QUOTED else f"'{text[:MAX_QUOTED]}...'"


def as_command(*words: object) -> str:
    """A command of mdtool as a person types it into a shell.

    >>> as_command("embed", "my web01.xml", "GUEST.yaml")
    "mdtool embed 'my web01.xml' GUEST.yaml"
    """
    return " ".join(["mdtool", *map(shell_word, words)])


def shell_word(text: object) -> str:
    """A name as a person types it into a shell."""
    from shlex import quote  # for messages alone

    return quote(str(text))


def _spelled(found: re.Match[str]) -> str:
    number = ord(found[0])
    return {0x0D: "\\r"}.get(number) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
